"""Table of sources: addresses, kinds, secrets, and sources of other packages."""

from __future__ import annotations

import logging
import re
import subprocess
import sys
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest
from typer.testing import CliRunner

from cstl_edge.cli.app import app
from cstl_edge.errors import ConfigError, CstlEdgeError, SourceUnavailable
from cstl_edge.live.sources.open import SOURCES, open_source, source_forms, source_kind
from cstl_edge.registry import Entry

MINE = """
import numpy as np
from cstl_edge.live.sources.base import Frame, FrameSource

class Mine(FrameSource):
    fps, size = 10.0, (120, 160)

    def reopen(self):
        return Mine(self.uri)

    def _next(self):
        self.index = getattr(self, "index", 0) + 1
        image = np.zeros((*self.size, 3), np.uint8)
        return Frame(self.index, image, self.index / 10) if self.index <= 5 else None

def open_it(uri, options):
    options.refuse_part(uri)
    return Mine(uri)
"""


@pytest.fixture
def mine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Write a source into a file of its own; return its target."""
    (tmp_path / "mine_source.py").write_text(MINE)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))  # without a gallery
    return "mine_source:open_it"


def frames_of_run(address: str) -> int:
    """Return the number of frames that `live` reports of an address."""
    result = CliRunner().invoke(app, ["live", address, "--segmenter", "background"])
    assert result.exit_code == 0, result.output
    return int(re.search(r"(\d+) frames at", result.stderr)[1])


def test_a_source_is_one_file_and_one_line(mine: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(SOURCES.entries, "mine", Entry(mine, "mine://PLACE"))
    assert source_forms().endswith(", synthetic://6 or mine://PLACE")
    assert frames_of_run("mine://here") == 5
    with pytest.raises(ConfigError, match="mine://here is a live source"):
        open_source("mine://here", stop_s=1.0)


def test_another_package_adds_a_source(mine: str, monkeypatch: pytest.MonkeyPatch) -> None:
    points = [EntryPoint("theirs", mine, "cstl_edge.sources")]
    monkeypatch.setattr("importlib.metadata.entry_points", lambda *, group: points)
    assert frames_of_run("theirs://here") == 5
    with pytest.raises(ConfigError, match=r"expected a video file, .* or theirs://"):
        open_source("ours://here")


def test_the_kind_of_a_source_follows_its_address() -> None:
    assert source_kind("gst:videotestsrc") == "gst"
    assert source_kind("RTSP://cam/1") == "rtsp"
    assert source_kind("folder/walk.mp4") == source_kind("C:/walk.mp4") == "file"
    assert source_kind("0") == source_kind("/dev/video3") == "camera"
    assert source_kind("/dev/camera-door") == source_kind("/dev/v4l/by-id/usb-0") == "camera"
    assert source_kind("/dev/shm/walk.mp4") == "file"
    assert source_kind("./0") == source_kind("0.mp4") == "file"


SENSELESS = ["ftp://cam/1", "file://walk.mp4", "camera://0", "csi://front"]
SENSELESS += ["synthetic://many", "synthetic://2?speed=3"]
NOT_THERE = ["missing/walk.mp4", "x" * 5000, "a\0b", "/dev/null", "/dev/video987", "987"]


@pytest.mark.parametrize(
    ("address", "kind", "code"),
    [(address, ConfigError, 2) for address in SENSELESS]
    + [(address, SourceUnavailable, 5) for address in NOT_THERE],
)
def test_bad_addresses_are_refused(address: str, kind: type[CstlEdgeError], code: int) -> None:
    with pytest.raises(kind) as caught:
        open_source(address)
    assert caught.value.exit_code == code
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 700


def test_a_part_of_a_live_source_is_refused() -> None:
    with pytest.raises(ConfigError, match="live source"):
        open_source("rtsp://u:s3cret@127.0.0.1/1", start_s=1.0)


def test_a_part_without_length_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="start_s < stop_s"):
        open_source(tmp_path, start_s=2.0, stop_s=1.0)


def test_importing_the_live_path_is_light() -> None:
    code = (
        "import sys, cstl_edge.live.sources.base, cstl_edge.live.sources.stream;"
        "print([m for m in ('torch', 'cv2', 'onnxruntime') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_repr_hides_the_password(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG), pytest.raises(SourceUnavailable) as caught:
        open_source("rtsp://admin:s3cret@127.0.0.1:9/1")
    chain = f"{caught.value!r} {caught.value.__cause__!r} {caught.value.__cause__.__cause__!r}"
    assert "s3cret" not in chain + caplog.text
    assert "***@127.0.0.1:9" in str(caught.value)
    assert "refused" in str(caught.value)
