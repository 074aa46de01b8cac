"""The verbs as a user types them: results on stdout, one line of error, the right exit code."""

import json
import os
import shutil
import signal
import subprocess
import sys
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cstl_edge.walkers import generate

ASSETS = Path(str(files("cstl_edge") / "assets"))
VERBS = [
    "demo",
    "live",
    "enroll",
    "identify",
    "export",
    "import-released",
    "build",
    "eval",
    "doctor",
]
GROUPS = {"gallery": "gallery list", "plugin": "plugin build", "data": "data prepare"}


def call(*words, cwd=None, timeout=100):
    """Run the command line in a process of its own."""
    command = [sys.executable, "-m", "cstl_edge.cli", *map(str, words)]
    return subprocess.run(
        command, capture_output=True, text=True, timeout=timeout, cwd=cwd, check=False
    )


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
    """Two folders of silhouettes, of two people."""
    root = tmp_path_factory.mktemp("walks")
    for name, seed in (("ada", 930_001), ("ben", 930_002)):
        for day in range(2):
            folder = root / f"{name}{day}"
            folder.mkdir()
            recording = generate.recording(10 * seed + day, "nm", 90.0, noise=0.3, fps=15.0)
            for i, image in enumerate(generate.silhouettes(generate.person(seed), recording, 32)):
                Image.fromarray(image).save(folder / f"{i}.png")
    return root


@pytest.mark.parametrize("verb", [*VERBS, *GROUPS, *GROUPS.values()])
def test_every_verb_explains_itself(verb):
    done = call(*verb.split(), "--help")
    assert done.returncode == 0
    assert "Usage:" in done.stdout
    assert "--json" in done.stdout or verb in GROUPS


def test_help_loads_nothing_heavy():
    code = (
        "import sys, runpy\nsys.argv = ['cstl-edge', '--help']\n"
        "try:\n    runpy.run_module('cstl_edge.cli.app', run_name='__main__')\n"
        "except SystemExit:\n    pass\n"
        "heavy = {'numpy', 'cv2', 'onnxruntime', 'torch', 'pydantic'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, timeout=60)


def test_doctor_tells_what_is_used():
    report = json.loads(call("doctor", "--json").stdout)
    states = {finding["what"]: finding["state"] for finding in report["findings"]}
    assert states["python"] == states["onnxruntime"] == states["default model"] == "ok"
    assert states["openvino"] in ("ok", "missing")
    assert all(f["remedy"] for f in report["findings"] if f["state"] == "broken")


def test_a_person_comes_is_recognised_and_goes(walks, gallery):
    where = ["--gallery", gallery, "--silhouettes", "left"]
    for name in ("ada", "ben"):
        done = call("enroll", name, walks / f"{name}0", "--consent", "signed", *where, "--json")
        assert json.loads(done.stdout)["templates"] >= 1, done.stderr
    row = json.loads(call("identify", walks / "ada1", *where, "--fpir", 0.3, "--json").stdout)[0]
    assert row["nearest"] == "ada"
    assert row["people"] == 2
    assert row["threshold_source"] == "model"
    listed = json.loads(call("gallery", "list", "--gallery", gallery, "--json").stdout)
    assert [person["name"] for person in listed] == ["ada", "ben"]
    shown = call("gallery", "show", "ada", "--gallery", gallery)
    assert "signed" in shown.stdout
    assert call("gallery", "remove", "ada", "--gallery", gallery).returncode == 0
    one_error(call("gallery", "show", "ada", "--gallery", gallery), 6)


def test_a_real_video_gives_events_and_a_picture(tmp_path):
    log, video = tmp_path / "events.jsonl", tmp_path / "annotated.mp4"
    done = call(
        "live", ASSETS / "walk.mp4", "--json", "--events", log, "--annotate", video,
        "--gallery", tmp_path / "none.db", cwd=tmp_path,
    )  # fmt: skip
    assert "does not exist" in one_error(done, 6)
    done = call("live", ASSETS / "walk.mp4", "--json", "--events", log, "--annotate", video)
    assert done.returncode == 0, done.stderr
    events = [json.loads(line) for line in done.stdout.splitlines()]
    assert events == [json.loads(line) for line in log.read_text().splitlines()]
    assert {event["event"] for event in events} >= {"born", "closed"}
    assert video.exists() or video.with_suffix(".avi").exists()
    assert "frames at" in done.stderr


def test_ctrl_c_gives_the_last_word_on_everybody(tmp_path):
    command = [sys.executable, "-m", "cstl_edge.cli", "live", "synthetic://2?live=1", "--json"]
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
    rest, told = running.communicate(timeout=20)
    assert running.returncode == 130, told
    assert any(json.loads(line)["event"] == "closed" for line in rest.splitlines())
    assert "frames at" in told
    assert "Traceback" not in told


@pytest.mark.parametrize(
    ("words", "code", "said"),
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
def test_what_cannot_be_is_one_line(tmp_path, words, code, said):
    if words[0] == "export":
        pytest.importorskip("torch", reason="export needs the `train` extra")
    (tmp_path / "text.mp4").write_text("this is no video\n" * 40)
    (tmp_path / "empty.mp4").touch()
    for folder, count in (("silhouettes", 32), ("short", 4)):
        (tmp_path / folder).mkdir()
        silhouettes = generate.silhouettes(generate.person(1), generate.recording(1), count)
        for i, image in enumerate(silhouettes):
            Image.fromarray(image).save(tmp_path / folder / f"{i}.png")
    gallery = (
        [] if "--gallery" in words or words[0] in ("live", "export") else ["--gallery", "g.db"]
    )
    assert said in one_error(call(*words, *gallery, cwd=tmp_path), code)
    assert not (tmp_path / "out").exists()


def test_a_tampered_model_is_refused(tmp_path):
    model = shutil.copytree(ASSETS / "cstl-walkers", tmp_path / "model")
    content = bytearray((model / "head.onnx").read_bytes())
    content[len(content) // 2] ^= 1
    (model / "head.onnx").write_bytes(content)
    assert "head.onnx" in one_error(call("live", "synthetic://1", "--model", model), 4)


def test_a_gallery_of_another_model_is_refused(tmp_path, walks, gallery):
    from cstl_edge.gallery.gallery import Gallery

    class Info:
        weights_sha256, impostors = "0" * 64, None

    class Other:
        info = Info()

    with Gallery.open(gallery, model=Other()) as people:
        people.enroll("eve", np.ones((1, 16, 128), np.float32), consent="x")
    where = ["--gallery", gallery, "--silhouettes", "left"]
    assert "re-enrol" in one_error(call("identify", walks / "ada0", *where), 6)


@pytest.mark.parametrize(
    "words",
    [
        ["train", "cstl-casia-b"],
        ["export", "w.safetensors", "-o", "out"],
        ["reproduce", "table3"],
        ["import-released", "w.ptm", "-o", "w.safetensors"],
    ],
    ids=lambda words: words[0],
)
def test_verbs_that_need_torch_name_the_extra(words, tmp_path):
    code = "import sys; sys.modules['torch'] = None; from cstl_edge.cli.app import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", code, *words], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 2
    assert done.stderr.startswith(f"error: {words[0]} needs torch: pip install")
    assert not any(tmp_path.iterdir())
