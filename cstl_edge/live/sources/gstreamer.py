"""CSI cameras and GStreamer pipelines, run by a reading child process: cv2's wheels have none."""

from __future__ import annotations

import ctypes.util
import shlex
from functools import partial

from cstl_edge.errors import ConfigError, SourceUnavailable
from cstl_edge.live.sources.base import FrameSource, redact
from cstl_edge.live.sources.child_capture import ReaderCapture
from cstl_edge.live.sources.child_protocol import ReadRequest
from cstl_edge.live.sources.options import SourceOptions
from cstl_edge.live.sources.stream import LiveSource, Opener

CSI_SIZE, CSI_FPS = (1280, 720), 30  # width, height in pixels; frames per second
LIBRARIES = ("gstreamer-1.0", "gstapp-1.0")
# a pipeline with one of these has no regular end: when it ends, a camera went away
ENDLESS_ELEMENTS = {"rtspsrc", "souphttpsrc", "tcpclientsrc", "udpsrc", "srtsrc", "rtmpsrc"}
ENDLESS_ELEMENTS |= {"nvarguscamerasrc", "v4l2src", "libcamerasrc"}


def open_gst(uri: str, options: SourceOptions) -> FrameSource:
    """Open `gst:PIPELINE`, a pipeline without its sink."""
    options.refuse_part(uri)
    return LiveSource(uri, gst_opener(uri.removeprefix("gst:")), options)


def open_csi(uri: str, options: SourceOptions) -> FrameSource:
    """Open `csi://N`, a camera on a Jetson's CSI connector."""
    options.refuse_part(uri)
    return LiveSource(uri, gst_opener(csi_pipeline(uri, options.fps)), options)


def csi_pipeline(uri: str, fps: float | None = None) -> str:
    """Return the pipeline of a Jetson's CSI camera (written from its documentation, never run).

    >>> csi_pipeline("csi://1")[:44]
    'nvarguscamerasrc sensor-id=1 ! video/x-raw(m'
    """
    sensor, shown = uri.removeprefix("csi://").rstrip("/"), redact(uri)
    if not sensor.isdecimal():
        raise ConfigError(f"expected csi:// and the sensor's number, such as csi://0, got {shown}")
    width, height = CSI_SIZE
    return (
        f"nvarguscamerasrc sensor-id={int(sensor)} ! video/x-raw(memory:NVMM),width={width},"
        f"height={height},framerate={round(fps or CSI_FPS)}/1,format=NV12 ! nvvidconv ! "
        "video/x-raw,format=BGRx"
    )


def has_gstreamer() -> bool:
    """Return whether GStreamer's C library is on this machine."""
    return all(ctypes.util.find_library(name) is not None for name in LIBRARIES)


def gst_opener(pipeline: str) -> Opener:
    """Return the opener of a pipeline, checked as far as that goes without running it."""
    if not has_gstreamer():
        raise SourceUnavailable(
            "GStreamer is not installed: apt install gstreamer1.0-plugins-base "
            "gstreamer1.0-plugins-good"
        )
    shown = redact(pipeline)
    try:
        elements = shlex.split(pipeline)
    except ValueError as err:
        raise ConfigError(f"cannot read the pipeline {shown}: {err}") from err
    ends = elements and (elements[-1].endswith("sink") or elements[-1] == "!")
    if not elements or ends or "appsink" in elements or "fdsink" in elements:
        raise ConfigError(
            f"expected a pipeline without its sink, such as gst:videotestsrc, got {shown}"
        )
    endless = not ENDLESS_ELEMENTS.isdisjoint(elements)
    return partial(ReaderCapture, ReadRequest(pipeline=pipeline, endless=endless))
