"""GStreamer sources: CSI cameras as text, real pipelines where GStreamer is installed."""

from __future__ import annotations

import ctypes.util
import time

import numpy as np
import pytest

from cstl_edge.errors import ConfigError, SourceUnavailable
from cstl_edge.live.sources.gstreamer import LIBRARIES, csi_pipeline, gst_opener
from cstl_edge.live.sources.open import open_source

needs_gst = pytest.mark.skipif(
    any(ctypes.util.find_library(name) is None for name in LIBRARIES),
    reason="GStreamer is missing: apt install gstreamer1.0-plugins-base",
)


def test_a_csi_address_becomes_a_pipeline() -> None:
    assert csi_pipeline("csi://1", fps=60.0) == (
        "nvarguscamerasrc sensor-id=1 ! video/x-raw(memory:NVMM),width=1280,height=720,"
        "framerate=60/1,format=NV12 ! nvvidconv ! video/x-raw,format=BGRx"
    )
    assert "sensor-id=0 " in csi_pipeline("csi://0/")
    with pytest.raises(ConfigError, match="csi://0"):
        csi_pipeline("csi://left")


def test_without_gstreamer_an_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ctypes.util, "find_library", lambda name: None)
    with pytest.raises(SourceUnavailable, match=r"apt install gstreamer1\.0-plugins-base"):
        open_source("csi://0")


@pytest.mark.parametrize("pipeline", ["", "videotestsrc !", "videotestsrc ! appsink", "a ' b"])
def test_impossible_pipelines_are_refused(pipeline: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ctypes.util, "find_library", lambda name: "lib.so")
    with pytest.raises(ConfigError):
        gst_opener(pipeline)


@needs_gst
@pytest.mark.parametrize("width", [320, 321, 322, 323])
def test_padding_of_rows_is_removed(width: int) -> None:
    ball = "gst:videotestsrc num-buffers=3 pattern=ball is-live=true"
    with open_source(f"{ball} ! video/x-raw,width={width},height=50,framerate=20/1") as source:
        assert (source.size, source.fps) == ((50, width), 20.0)
        frames = list(source)
    assert frames[0].image.shape == (50, width, 3)
    rows, columns = np.nonzero(frames[0].image[..., 0] > 128)
    assert max(np.ptp(columns), np.ptp(rows)) < 60  # a round ball: no row is shifted


@needs_gst
def test_colours_are_in_the_order_blue_green_red() -> None:
    with open_source("gst:videotestsrc pattern=red num-buffers=2 is-live=true") as source:
        blue, green, red = next(source).image.mean((0, 1))
    assert red > 200 > 50 > max(blue, green)


@needs_gst
def test_a_slow_pipeline_gives_every_frame_and_ends_regularly() -> None:
    text = "gst:videotestsrc num-buffers=10 is-live=true ! video/x-raw,framerate=20/1"
    with open_source(text) as source:
        indices = [f.index for f in source]
    assert indices[-1] == 9
    assert len(indices) + source.dropped == 10


@needs_gst
def test_a_fast_pipeline_drops_frames_for_a_slow_reader() -> None:
    with open_source("gst:videotestsrc ! video/x-raw,width=640,height=480") as source:
        for _ in range(3):
            next(source)
            time.sleep(0.1)
        assert source.dropped > 0
        begun_s = time.monotonic()
    assert time.monotonic() - begun_s < 3


@needs_gst
@pytest.mark.parametrize(
    ("pipeline", "reason"),
    [
        ("nosuchelement", "no element"),
        ("filesrc location=/nowhere/at/all.mp4 ! decodebin", "GStreamer: .*not"),
    ],
)
def test_a_pipeline_that_does_not_start_names_the_reason(pipeline: str, reason: str) -> None:
    with pytest.raises(SourceUnavailable, match=reason) as caught:
        open_source("gst:" + pipeline)
    assert caught.value.exit_code == 5
