"""Addresses, secrets and the common part of all sources."""

from __future__ import annotations

import logging
import sys
from pathlib import Path

import numpy as np
import pytest

from cstl_edge.errors import ConfigError, CstlEdgeError, DataError, SourceUnavailable
from cstl_edge.live.sources.base import (
    Frame,
    SourceBase,
    is_camera,
    query_values,
    redact,
    scheme_of,
)
from cstl_edge.live.sources.open import open_source
from cstl_edge.opencv import import_cv2


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("rtsp://admin:s3cret@10.0.0.2:554/1", "rtsp://***@10.0.0.2:554/1"),
        ("rtsp://admin:s3/cr@et@cam/1", "rtsp://***@cam/1"),
        ("http://cam/v?user=a&password=s3cret&x=1", "http://cam/v?user=a&password=***&x=1"),
        (
            'gst:rtspsrc location="rtsp://u:s3cret@c/1" ! x',
            'gst:rtspsrc location="rtsp://***@c/1" ! x',
        ),
        ("gst:rtspsrc user-pw=s3cret ! decodebin", "gst:rtspsrc user-pw=*** ! decodebin"),
        ("walk.mp4", "walk.mp4"),
        ("a\nb\x1b[2J", "a\\nb\\x1b[2J"),
    ],
)
def test_redact(address: str, shown: str) -> None:
    assert redact(address) == shown
    assert "s3c" not in redact(address)
    assert redact(redact(address)).count("***") == redact(address).count("***")


def test_schemes() -> None:
    assert scheme_of("gst:videotestsrc") == "gst"
    assert scheme_of("RTSP://cam/1") == "rtsp"
    assert scheme_of("folder/walk.mp4") == ""
    assert [is_camera(t) for t in ("0", "/dev/video3", "./0", "0.mp4")] == [
        True,
        True,
        False,
        False,
    ]


@pytest.mark.parametrize(
    ("address", "kind", "code"),
    [
        ("ftp://cam/1", ConfigError, 2),
        ("synthetic://many", ConfigError, 2),
        ("synthetic://2?speed=3", ConfigError, 2),
        ("csi://front", ConfigError, 2),
        ("missing/walk.mp4", SourceUnavailable, 5),
        ("x" * 5000, SourceUnavailable, 5),
        ("a\0b", SourceUnavailable, 5),
        ("/dev/null", SourceUnavailable, 5),
        ("/dev/video987", SourceUnavailable, 5),
        ("987", SourceUnavailable, 5),
    ],
)
def test_bad_addresses(address: str, kind: type[CstlEdgeError], code: int) -> None:
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


def test_query_values() -> None:
    allowed = {"seed": int, "fps": float}
    assert query_values("seed=3&fps=12.5&", allowed, "u") == {"seed": 3, "fps": 12.5}
    with pytest.raises(ConfigError, match="expected seed, fps"):
        query_values("sed=3", allowed, "u")
    with pytest.raises(ConfigError, match="expected int, got 'x'"):
        query_values("seed=x", allowed, "u")


def test_without_cv2_the_message_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cv2", None)
    with pytest.raises(SourceUnavailable, match=r"cstl-edge\[cv\]"):
        import_cv2()


class Failing(SourceBase):
    """One good frame, then a fault."""

    fps, size = 1.0, (2, 2)

    def __init__(self) -> None:
        super().__init__("test")
        self.released = 0
        self._given = 0

    def _next(self) -> Frame | None:
        self._given += 1
        if self._given > 1:
            raise DataError("frame 1 is damaged")
        return Frame(0, np.zeros((2, 2, 3), np.uint8), 0.0)

    def _release(self) -> None:
        self.released += 1


def test_a_fault_is_raised_once_and_closes() -> None:
    source = Failing()
    assert next(source).index == 0
    with pytest.raises(DataError, match="damaged"):
        next(source)
    assert source.released == 1
    assert list(source) == []


def test_frames_know_the_wall_clock() -> None:
    utc = Frame(0, np.zeros((2, 2, 3), np.uint8), 0.0).utc
    assert utc.utcoffset() is not None
    assert utc.utcoffset().total_seconds() == 0  # type: ignore[union-attr]


def test_importing_the_live_path_is_light() -> None:
    import subprocess

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
