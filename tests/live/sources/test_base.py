"""Base of sources: addresses without secrets, queries, frames."""

from __future__ import annotations

from datetime import timedelta

import numpy as np
import pytest

from cstl_edge.errors import ConfigError, DataError
from cstl_edge.live.sources.base import Frame, FrameSource, query_values, redact


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("rtsp://admin:s3cret@10.0.0.2:554/1", "rtsp://***@10.0.0.2:554/1"),
        ("rtsp://admin:s3/cr@et@cam/1", "rtsp://***@cam/1"),
        ("http://cam/v?user=a&password=s3cret&x=1", "http://cam/v?user=a&password=***&x=1"),
        ('gst:x location="rtsp://u:s3cret@c/1" ! x', 'gst:x location="rtsp://***@c/1" ! x'),
        ("gst:rtspsrc user-pw=s3cret ! decodebin", "gst:rtspsrc user-pw=*** ! decodebin"),
        ("rtsp://admin:s3c ret@cam/1", "rtsp://***@cam/1"),
        ("rtsp://admin:s3c r@t : /x@cam/1", "rtsp://***@cam/1"),
        ("http://cam/v?password=s3c ret&x=1", "http://cam/v?password=***&x=1"),
        (
            "gst:a location=rtsp://u:s3cret@c/1 ! b location='http://u:s3c ret@d/2'",
            "gst:a location=rtsp://***@c/1 ! b location='http://***@d/2'",
        ),
        ("walk.mp4", "walk.mp4"),
        ("a\nb\x1b[2J", "a\\nb\\x1b[2J"),
    ],
)
def test_redacted_addresses_hold_no_secret(address: str, shown: str) -> None:
    assert redact(address) == shown
    assert "s3c" not in redact(address)
    assert redact(redact(address)).count("***") == redact(address).count("***")


def test_query_values_are_typed_and_unknown_keys_refused() -> None:
    allowed = {"seed": int, "fps": float}
    assert query_values("seed=3&fps=12.5&", allowed, "u") == {"seed": 3, "fps": 12.5}
    with pytest.raises(ConfigError, match="expected seed, fps"):
        query_values("sed=3", allowed, "u")
    with pytest.raises(ConfigError, match="expected int, got 'x'"):
        query_values("seed=x", allowed, "u")


class Failing(FrameSource):
    """One good frame, then a fault."""

    fps, size = 1.0, (2, 2)

    frames_given = releases = 0

    def _next(self) -> Frame | None:
        self.frames_given += 1
        if self.frames_given > 1:
            raise DataError("frame 1 is damaged")
        return Frame(0, np.zeros((2, 2, 3), np.uint8), 0.0)

    def _release(self) -> None:
        self.releases += 1


def test_a_fault_is_raised_once_and_closes_the_source() -> None:
    source = Failing("test")
    assert next(source).index == 0
    with pytest.raises(DataError, match="damaged"):
        next(source)
    assert source.releases == 1
    assert list(source) == []


def test_frames_carry_the_time_in_utc() -> None:
    assert Frame(0, np.zeros((2, 2, 3), np.uint8), 0.0).utc.utcoffset() == timedelta(0)
