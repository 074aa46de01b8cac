"""RTSP on a Jetson: H.264 decoded by its video engine, through GStreamer where it has the elements.

Written from the documentation of JetPack's elements, never run on a board.
"""

from __future__ import annotations

import ctypes.util
import logging
import shutil
import subprocess
from collections.abc import Callable
from functools import lru_cache

from cstl_edge.arrays import Image
from cstl_edge.live.sources.base import redact
from cstl_edge.live.sources.child_capture import ReaderCapture
from cstl_edge.live.sources.child_protocol import ReadRequest
from cstl_edge.live.sources.gstreamer import LIBRARIES

log = logging.getLogger(__name__)

ELEMENTS = ("rtspsrc", "rtph264depay", "h264parse", "nvv4l2decoder", "nvvidconv")
INSPECT = "gst-inspect-1.0"  # of gstreamer1.0-tools, which JetPack has
INSPECT_TIMEOUT_S = 20.0  # the first call builds the registry of all plugins
LATENCY_MS = 200  # that rtspsrc waits for packets out of order


@lru_cache(maxsize=1)
def has_decoder() -> bool:
    """Tell whether GStreamer has all elements of the pipeline, as on a Jetson."""
    tool = shutil.which(INSPECT)
    if tool is None or any(ctypes.util.find_library(name) is None for name in LIBRARIES):
        return False
    try:
        return all(
            subprocess.run(
                [tool, "--exists", element],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=INSPECT_TIMEOUT_S,
                check=False,
            ).returncode
            == 0
            for element in reversed(ELEMENTS)  # the rarest first
        )
    except (OSError, subprocess.SubprocessError):
        return False


def rtsp_pipeline(uri: str) -> str:
    r"""Return the pipeline of an RTSP camera that sends H.264.

    >>> rtsp_pipeline('rtsp://h/a"b')[:47]
    'rtspsrc location="rtsp://h/a\\"b" protocols=tcp '
    """
    location = uri.replace("\\", "\\\\").replace('"', '\\"')
    return (
        f'rtspsrc location="{location}" protocols=tcp latency={LATENCY_MS} ! rtph264depay ! '
        "h264parse ! nvv4l2decoder ! nvvidconv ! video/x-raw,format=BGRx"
    )


class _Proving(ReaderCapture):
    """A reading child process that calls a function at its first picture."""

    def __init__(self, request: ReadRequest, prove: Callable[[], None]) -> None:
        self._prove = prove
        super().__init__(request)

    def read(self) -> Image | None:
        """Wait for the next picture, as the class above."""
        image = super().read()
        if image is not None:
            self._prove()
        return image


class JetsonOpener:
    """Opens a stream by the video engine; in turn with FFmpeg until one of them gave a picture.

    A camera may send H.265, which the pipeline does not take, and that shows only when it runs.
    """

    def __init__(self, uri: str, software: ReadRequest) -> None:
        """Take an address, and the request that reads it without the engine."""
        self._uri = uri
        self._requests = [ReadRequest(pipeline=rtsp_pipeline(uri), endless=True), software]
        self._next, self._proven = 0, False

    def __call__(self) -> ReaderCapture:
        """Start the reading process that is due."""
        choice = self._next
        if not self._proven:
            self._next = 1 - choice

        def prove() -> None:
            if not self._proven:
                words = ("the video engine decodes", "FFmpeg decodes, on the CPU,")
                log.info("%s %s", words[choice], redact(self._uri))
            self._proven, self._next = True, choice

        return _Proving(self._requests[choice], prove)
