"""Command line: results on stdout, one line of error, exit codes, cheap help."""

import json
import os
import shutil
import signal
import subprocess
import sys
from importlib.resources import files
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from command_line import call
from event_schema import violations
from PIL import Image
from short_walk import write_short_walk

from cstl_edge.gallery.gallery import Gallery
from cstl_edge.registry import Entry
from cstl_edge.runtime.load import BACKENDS
from cstl_edge.walkers import generate

ASSETS = Path(str(files("cstl_edge") / "assets"))
VERBS = ["demo", "live", "enroll", "identify", "export", "import-released", "build", "eval"]
GROUPS = {"gallery": "gallery list", "plugin": "plugin build", "data": "data prepare"}


def one_error(done, code):
    """Check that a call failed with one line that begins with `error:`, and return it."""
    assert done.returncode == code, done.stderr
    lines = done.stderr.strip().splitlines()
    assert lines[-1].startswith("error: ")
    assert "Traceback" not in done.stderr
    return lines[-1]


@pytest.fixture
def gallery(tmp_path):
    return tmp_path / "people.db"


@pytest.fixture(scope="module")
def walks(tmp_path_factory):
    """Three walks in folders of silhouettes, of two people."""
    root = tmp_path_factory.mktemp("walks")
    for name, seed, day in (("ada0", 930_001, 0), ("ada1", 930_001, 1), ("ben0", 930_002, 0)):
        recording = generate.recording(10 * seed + day, "nm", 90.0, noise=0.3, fps=15.0)
        (root / name).mkdir()
        for i, image in enumerate(generate.silhouettes(generate.person(seed), recording, 32)):
            Image.fromarray(image).save(root / name / f"{i}.png")
    return root


@pytest.fixture(scope="module")
def unusable(tmp_path_factory, walks):
    """A folder with files that are no videos, a walk, and one that is too short."""
    root = tmp_path_factory.mktemp("unusable")
    (root / "text.mp4").write_text("this is no video\n" * 40)
    (root / "empty.mp4").touch()
    shutil.copytree(walks / "ben0", root / "silhouettes")
    (root / "short").mkdir()
    for i in range(4):
        shutil.copy(walks / "ben0" / f"{i}.png", root / "short")
    return root


@pytest.mark.parametrize("verb", [*VERBS, "doctor", *GROUPS, *GROUPS.values()])
def test_every_verb_has_help(verb):
    done = call(*verb.split(), "--help")
    assert done.returncode == 0
    assert "Usage:" in done.stdout
    assert "--json" in done.stdout or verb in GROUPS


@pytest.mark.parametrize("module", ["cstl_edge", "cstl_edge.cli"])
def test_modules_run_the_command_line(module):
    command = [sys.executable, "-m", module, "--version"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.startswith("cstl-edge ")


@pytest.mark.parametrize("verb", ["live", "enroll", "identify", "eval", "figure tsne"])
def test_help_reads_the_table_of_backends(verb, monkeypatch):
    assert BACKENDS.help() in " ".join(call(*verb.split(), "--help").stdout.split())
    monkeypatch.setitem(BACKENDS.entries, "mine", Entry("my_backend:load", "of a test"))
    assert BACKENDS.help().endswith(", mine (of a test)")


@pytest.mark.parametrize("verb", ["", "live", "eval"])
def test_help_loads_nothing_heavy(verb):
    heavy = {"numpy", "cv2", "onnxruntime", "torch"} | (set() if verb else {"pydantic"})  # typer's
    code = (
        "import sys\nfrom cstl_edge.cli.app import main\n"
        f"sys.argv = ['cstl-edge', *{verb.split()}, '--help']\n"
        "try:\n    main()\n"
        f"except SystemExit:\n    assert not {heavy} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, timeout=60)


def test_doctor_reports_the_default_model():
    report = json.loads(call("doctor", "--json").stdout)
    states = {finding["what"]: finding["state"] for finding in report["findings"]}
    assert states["python"] == states["onnxruntime"] == states["default model"] == "ok"
    assert states["openvino"] in ("ok", "missing")
    assert all(f["remedy"] for f in report["findings"] if f["state"] == "broken")


def test_person_is_enrolled_recognised_and_removed(walks, gallery):
    where = ["--gallery", gallery, "--silhouettes", "left"]
    for name in ("ada", "ben"):
        done = call("enroll", name, walks / f"{name}0", "--consent", "signed", *where, "--json")
        assert json.loads(done.stdout)["templates"] >= 1, done.stderr
    identify = ["identify", walks / "ada1", *where, "--fpir", 0.3]
    (event,) = json.loads(call(*identify, "--json").stdout)
    assert violations(event) == []
    assert (event["event"], event["track"], event["frames"]) == ("closed", 0, 32)
    assert (event["answer"], event["person"]) == ("known", "ada")
    (row,) = json.loads(call(*identify, "--json", "--schema", 1).stdout)
    assert round(row["distance"], 4) == event["distance"]
    assert (row["nearest"], row["people"], row["threshold_source"]) == ("ada", 2, "model")
    assert call(*identify).stdout.startswith("track 0: ada, distance ")
    where = ["--gallery", gallery]
    listed = json.loads(call("gallery", "list", *where, "--json").stdout)
    assert [person["name"] for person in listed] == ["ada", "ben"]
    assert "signed" in call("gallery", "show", "ada", *where).stdout
    assert call("gallery", "remove", "ada", *where).returncode == 0
    one_error(call("gallery", "show", "ada", *where), 6)


def test_live_on_a_real_video_writes_events_and_a_video(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))  # without a gallery
    walk = write_short_walk(tmp_path / "walk.mp4")
    log, video = tmp_path / "events.jsonl", tmp_path / "annotated.mp4"
    live = ["live", walk, "--json", "--events", log, "--annotate", video]
    assert "does not exist" in one_error(call(*live, "--gallery", tmp_path / "none.db"), 6)
    done = call(*live)
    assert done.returncode == 0, done.stderr
    events = [json.loads(line) for line in done.stdout.splitlines()]
    assert events == [json.loads(line) for line in log.read_text().splitlines()]
    assert {event["event"] for event in events} >= {"born", "pending", "closed"}
    assert [violations(event) for event in events] == [[]] * len(events)
    closed = [event for event in events if event["event"] == "closed"]
    assert {event["reason_code"] for event in closed} >= {"no_gallery"}
    assert video.exists() or video.with_suffix(".webm").exists()
    assert "frames at" in done.stderr


def test_schema_1_writes_the_old_lines(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    log = tmp_path / "events.jsonl"
    street = "synthetic://1?seed=3&fps=15&seconds=3"
    live = ["live", street, "--segmenter", "background", "--events", log]
    done = call(*live, "--json", "--schema", "1")
    assert done.returncode == 0, done.stderr
    assert done.stdout == log.read_text()
    events = [json.loads(line) for line in done.stdout.splitlines()]
    assert "schema" not in events[0]
    assert all(value is not None for event in events for value in event.values())
    assert call(*live, "--schema", "3").returncode == 2


def test_ctrl_c_closes_every_track(tmp_path):
    command = [sys.executable, "-m", "cstl_edge.cli", "live", "synthetic://2?live=1&fps=12"]
    command += ["--json", "--segmenter", "background"]
    running = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=tmp_path,
        env=os.environ | {"XDG_DATA_HOME": str(tmp_path)},
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a background shell's
    )  # fmt: skip
    assert running.stdout
    for line in running.stdout:
        if json.loads(line)["event"] == "born":
            break
    running.send_signal(signal.SIGINT)
    rest, errors = running.communicate(timeout=20)
    assert running.returncode == 130, errors
    assert any(json.loads(line)["event"] == "closed" for line in rest.splitlines())
    assert "frames at" in errors
    assert "Traceback" not in errors


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["live", "nobody.mp4"], 5, "nobody.mp4"),
        (["identify", "nobody.mp4", "--gallery", "g.db"], 6, "does not exist"),
        (["live", "text.mp4"], 3, "text.mp4"),
        (["live", "empty.mp4"], 3, "empty.mp4"),
        (["live", "synthetic://2", "--fpir", "2"], 2, "fpir"),
        (["live", "synthetic://2", "--segmenter", "magic"], 2, "magic"),
        (["live", "synthetic://2", "--backend", "tensorrt"], 4, "cstl-edge build"),
        (["live", "synthetic://2", "--model", "nowhere"], 4, "nowhere"),
        (["enroll", "a\x07b", "silhouettes", "--consent", "x", "--silhouettes", "left"], 2, "name"),
        (["enroll", "Ada", "silhouettes", "--consent", " ", "--silhouettes", "left"], 2, "consent"),
        (["enroll", "Ada", "short", "--consent", "x", "--silhouettes", "left"], 3, "frames"),
        (["gallery", "list", "--gallery", "text.mp4"], 6, "text.mp4"),
        (["export", "text.mp4", "-o", "out"], 4, "text.mp4"),
    ],
)
def test_mistakes_are_one_line_with_their_exit_code(tmp_path, unusable, words, code, message):
    if words[0] == "export":
        pytest.importorskip("torch", reason="export needs the `train` extra")
    words = [tmp_path / word if word in ("g.db", "out") else word for word in words]
    without = "--gallery" in words or words[0] in ("live", "export")
    gallery = [] if without else ["--gallery", tmp_path / "g.db"]
    assert message in one_error(call(*words, *gallery, cwd=unusable), code)
    assert not (tmp_path / "out").exists()


def test_tampered_model_is_refused(tmp_path):
    model = shutil.copytree(ASSETS / "cstl-walkers", tmp_path / "model")
    content = bytearray((model / "head.onnx").read_bytes())
    content[len(content) // 2] ^= 1
    (model / "head.onnx").write_bytes(content)
    assert "head.onnx" in one_error(call("live", "synthetic://1", "--model", model), 4)


def test_gallery_of_another_model_is_refused(walks, gallery):
    other = SimpleNamespace(info=SimpleNamespace(weights_sha256="0" * 64, impostors=None))
    with Gallery.open(gallery, model=other) as people:
        people.enroll("eve", np.ones((1, 16, 128), np.float32), consent="x")
    where = ["--gallery", gallery, "--silhouettes", "left"]
    assert "re-enroll" in one_error(call("identify", walks / "ada0", *where), 6)


def test_verbs_that_need_torch_name_the_extra(tmp_path):
    commands = [["train", "cstl-casia-b"], ["export", "w.safetensors", "-o", "out"]]
    commands += [["reproduce", "table3"], ["import-released", "w.ptm", "-o", "w.safetensors"]]
    code = (
        "import sys\nsys.modules['torch'] = None\nfrom cstl_edge.cli.app import main\n"
        f"for words in {commands}:\n"
        "    sys.argv = ['cstl-edge', *words]\n"
        "    try:\n        main()\n"
        "    except SystemExit as end:\n        print(end.code)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["2"] * len(commands)
    for words, error in zip(commands, done.stderr.splitlines(), strict=True):
        assert error.startswith(
            f"error: {words[0]} needs torch, which is not installed; pip install"
        )
    assert not any(tmp_path.iterdir())
