"""The programs of examples/ run, are short, and are listed."""

import contextlib
import io
import os
import re
import shlex
import shutil
import sys
import types
from pathlib import Path
from unittest.mock import patch

import pytest
from drawn_people import draw, save
from short_walk import write_short_walk

from cstl_edge.live.segmentation.open import SEGMENTERS
from cstl_edge.runtime.load import BACKENDS

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"
TINY = ROOT / "tests" / "golden" / "tiny.safetensors"
ROWS = ROOT / "benchmarks" / "results" / "epyc-vnni-2core" / "bench.jsonl"
PROGRAMS = sorted(path.name for path in EXAMPLES.glob("*.py"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A walk, a folder of walks and a gallery."""
    folder = tmp_path_factory.mktemp("examples")
    walk = write_short_walk(folder / "walk.mp4")
    (folder / "videos").mkdir()
    shutil.copy(walk, folder / "videos" / "Ada.mp4")
    (folder / "videos" / "broken.mp4").write_bytes(b"no video")
    (folder / "enrolled.txt").write_text(run(folder, "enrol_folder.py", "videos --consent agreed"))
    return folder


def run(folder, name, words):
    """Run a program in this process as its own `__main__`; return what it printed."""
    path = EXAMPLES / name
    main = types.ModuleType("__main__")
    main.__file__ = str(path)
    printed = io.StringIO()
    argv, before = [name, *shlex.split(words)], os.getcwd()
    ours = sys.modules["__main__"]
    with patch.object(sys, "argv", argv), contextlib.redirect_stdout(printed):
        os.chdir(folder)
        sys.modules["__main__"] = main  # by which the tables of parts load what it defines
        try:
            with pytest.raises(SystemExit) as ended:
                exec(compile(path.read_text(encoding="utf-8"), str(path), "exec"), main.__dict__)
        finally:
            sys.modules["__main__"] = ours
            os.chdir(before)
    assert not ended.value.code, printed.getvalue()
    return printed.getvalue()


@pytest.fixture(autouse=True)
def tables(monkeypatch):
    """Take back what a program adds to a table."""
    for table in (SEGMENTERS, BACKENDS):
        monkeypatch.setattr(table, "entries", dict(table.entries))


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_program_is_short_listed_and_says_how_it_is_run(name):
    text = (EXAMPLES / name).read_text(encoding="utf-8")
    assert 10 < len(text.splitlines()) < 40
    assert f"\npython examples/{name} " in text
    assert f"]({name})" in (EXAMPLES / "README.md").read_text(encoding="utf-8")


def test_people_of_a_folder_are_enrolled_and_damaged_videos_named(folder):
    printed = (folder / "enrolled.txt").read_text()
    assert re.search(r"^Ada: \d+ templates from 3[01] frames$", printed, re.MULTILINE)
    assert "broken.mp4 left out: " in printed


def test_a_video_is_identified(folder):
    assert "walker 1, 30 frames: Ada" in run(folder, "identify_video.py", "walk.mp4")


def test_events_reach_another_program(folder, capfd):
    program = f"{sys.executable} -c 'import sys; print(sum(1 for _ in sys.stdin), flush=True)'"
    run(folder, "events_to_program.py", f"walk.mp4 {shlex.quote(program)} --gallery people.db")
    assert int(capfd.readouterr().out) >= 3  # born, named, closed at least


def test_a_segmenter_of_ones_own_finds_a_walker(folder):
    street = "synthetic://1?seed=1&seconds=8&size=640x360&fps=12"
    printed = run(folder, "own_segmenter.py", shlex.quote(street))
    # the last word on a walk; OpenCV before 4.12 gives other pictures, and one frame too few
    assert "no gallery (" in printed or "14 usable frames, need 15" in printed


def test_a_backend_of_ones_own_is_used(folder):
    printed = run(folder, "own_backend.py", "walk.mp4")
    assert printed.startswith("1 walks, ")
    assert float(printed.split()[2]) > 0


def test_training_on_a_folder_of_silhouettes(folder):
    pytest.importorskip("torch")
    for person in ("ada", "ben"):
        for walk in ("1", "2"):
            for step in range(15):
                save(draw(step), folder / "silhouettes" / person / walk / f"{step:03d}.png")
    printed = run(folder, "train_on_silhouettes.py", "silhouettes --iterations 1 --out mine")
    assert "2 people, 4 walks, 60 silhouettes" in printed
    assert (folder / "mine" / "run" / "weights.safetensors").exists()


def test_weights_are_exported_and_engines_planned(folder):
    pytest.importorskip("onnxslim")
    printed = run(folder, "export_and_build.py", f"{TINY} model")
    assert "frames.onnx" in printed
    assert "engines" in printed
    assert "runs on: onnxruntime" in printed


def test_rows_of_a_benchmark_are_read(folder):
    assert "times as fast as eager PyTorch" in run(folder, "read_bench_rows.py", str(ROWS))
