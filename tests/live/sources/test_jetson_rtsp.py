"""RTSP through a Jetson's video engine: chosen where its elements are, given up for H.265.

No board is here: the pipelines are text, and the captures are stand-ins.
"""

import subprocess

import pytest

from cstl_edge.live.sources import jetson_rtsp, network
from cstl_edge.live.sources.child_capture import ReaderCapture
from cstl_edge.live.sources.child_protocol import ReadRequest
from cstl_edge.live.sources.jetson_rtsp import ELEMENTS, JetsonOpener, has_decoder, rtsp_pipeline

SOFTWARE = ReadRequest(url="rtsp://cam/1")


@pytest.fixture
def started(monkeypatch):
    """The requests that were started; the children are not."""
    requests = []

    def start(self, request, timeout_s=None):
        requests.append(request)

    monkeypatch.setattr(ReaderCapture, "__init__", start)
    monkeypatch.setattr(ReaderCapture, "read", lambda self: self.picture)
    return requests


def hardware(request):
    return request.pipeline is not None and "nvv4l2decoder" in request.pipeline


def test_the_engine_stays_once_it_gave_a_picture(started):
    opener = JetsonOpener("rtsp://cam/1", SOFTWARE)
    capture = opener()
    capture.picture = "picture"
    assert capture.read() == "picture"
    for _ in range(3):
        opener()
    assert all(map(hardware, started))


def test_a_camera_that_it_cannot_decode_is_read_by_ffmpeg(started):
    opener = JetsonOpener("rtsp://cam/1", SOFTWARE)
    opener().picture = None
    capture = opener()
    capture.picture = "picture"
    capture.read()
    opener()
    assert list(map(hardware, started)) == [True, False, False]
    assert started[1] is SOFTWARE


def test_a_camera_that_is_away_is_tried_both_ways(started):
    opener = JetsonOpener("rtsp://cam/1", SOFTWARE)
    for _ in range(4):
        opener().picture = None
    assert list(map(hardware, started)) == [True, False, True, False]


def test_an_address_cannot_leave_its_quotes():
    pipeline = rtsp_pipeline('rtsp://h/" ! filesink location=x \\')
    assert pipeline.startswith('rtspsrc location="rtsp://h/\\" ! filesink location=x \\\\" ')
    assert pipeline.endswith("nvvidconv ! video/x-raw,format=BGRx")


@pytest.mark.parametrize("missing", [None, *ELEMENTS])
def test_all_elements_have_to_be_there(monkeypatch, missing):
    def run(command, **_):
        return subprocess.CompletedProcess(command, int(command[-1] == missing))

    monkeypatch.setattr(jetson_rtsp.shutil, "which", lambda tool: f"/usr/bin/{tool}")
    monkeypatch.setattr(jetson_rtsp.ctypes.util, "find_library", lambda name: "lib.so")
    monkeypatch.setattr(jetson_rtsp.subprocess, "run", run)
    has_decoder.cache_clear()
    try:
        assert has_decoder() == (missing is None)
    finally:
        has_decoder.cache_clear()


@pytest.mark.parametrize("there", [True, False])
def test_the_stream_takes_it_where_it_is(monkeypatch, there):
    monkeypatch.setattr(network, "has_decoder", lambda: there)
    monkeypatch.setattr(network, "LiveSource", lambda uri, opener, options: opener)
    opener = network.open_stream("rtsp://cam/1", network.SourceOptions())
    assert isinstance(opener, JetsonOpener) == there
