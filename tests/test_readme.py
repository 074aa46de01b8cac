"""The README is tested: its Python runs as it stands, its verbs and links exist."""

import re
import subprocess
import sys
from importlib.resources import files
from pathlib import Path

import cv2
import pytest

README = Path(__file__).parent.parent / "README.md"
TEXT = README.read_text(encoding="utf-8") if README.exists() else ""


def cut(clip, target):
    """Write the middle of the clip, where the woman walks."""
    video = cv2.VideoCapture(str(clip))
    fps, size = video.get(cv2.CAP_PROP_FPS), (int(video.get(3)), int(video.get(4)))
    writer = cv2.VideoWriter(str(target), cv2.VideoWriter_fourcc(*"mp4v"), fps, size)
    for number in range(round(5.2 * fps)):
        frame = video.read()[1]
        if number >= 1.2 * fps:
            writer.write(frame)
    writer.release()
    video.release()


def test_the_ten_lines_of_python_run(tmp_path):
    block = re.search(r"```python\n(.*?)```", TEXT, re.DOTALL)
    assert block
    assert len(block[1].strip().splitlines()) <= 12
    cut(Path(str(files("cstl_edge") / "assets" / "walk.mp4")), tmp_path / "walk.mp4")
    done = subprocess.run(
        [sys.executable, "-c", block[1]], cwd=tmp_path, capture_output=True, text=True, timeout=100
    )
    assert done.returncode == 0, done.stderr
    assert "Ada" in done.stdout


def test_every_verb_of_the_readme_exists():
    verbs = set(re.findall(r"cstl-edge ([a-z][a-z-]*)", TEXT))
    assert {"demo", "live", "enroll", "identify", "gallery", "export", "doctor"} <= verbs
    for verb in verbs:
        done = subprocess.run(
            [sys.executable, "-m", "cstl_edge.cli", verb, "--help"],
            capture_output=True,
            timeout=60,
        )
        assert done.returncode == 0, verb


@pytest.mark.parametrize("path", sorted(set(re.findall(r"\]\(((?!http)[^)#]+)\)", TEXT))))
def test_links_lead_somewhere(path):
    assert (README.parent / path).exists()
