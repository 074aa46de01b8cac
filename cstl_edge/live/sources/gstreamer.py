"""CSI cameras and GStreamer pipelines, read by a gst-launch-1.0 child: cv2's wheels have none.

Frames travel on a file descriptor of their own, so that standard output stays free for the caps,
which give the size of the frames.
"""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import threading
from fractions import Fraction

from cstl_edge.arrays import Image
from cstl_edge.errors import ConfigError, SourceUnavailable
from cstl_edge.live.sources.base import FrameSource, redact
from cstl_edge.live.sources.child_capture import ChildCapture
from cstl_edge.live.sources.options import SourceOptions
from cstl_edge.live.sources.stream import LiveSource, Opener

CSI_SIZE, CSI_FPS = (1280, 720), 30  # width, height in pixels; frames per second
SINK = "cstl_edge_frames"  # name of the sink that is put behind a pipeline
# a pipeline with one of these has no regular end: when it ends, a camera went away
ENDLESS_ELEMENTS = {"rtspsrc", "souphttpsrc", "tcpclientsrc", "udpsrc", "srtsrc", "rtmpsrc"}
CAPS = re.compile(rf"GstFdSink:{SINK}\.GstPad:sink: caps = video/x-raw\S*, (.*)")


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


def gst_opener(pipeline: str) -> Opener:
    """Return the opener of a pipeline, checked as far as that goes without running it."""
    launcher = shutil.which("gst-launch-1.0")
    if launcher is None:
        raise SourceUnavailable(
            "gst-launch-1.0 is not installed: apt install gstreamer1.0-tools "
            "gstreamer1.0-plugins-base gstreamer1.0-plugins-good"
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
    return lambda: GstCapture(launcher, elements, endless=endless)


class GstCapture(ChildCapture):
    """Runs gst-launch in a child; the size of its frames comes from the caps that it prints.

    When the caps change, the pipeline is started again: where in the pipe the new size begins is
    not known (a frame or two read before that is noticed may be garbled).
    """

    def __init__(self, launcher: str, pipeline: list[str], *, endless: bool) -> None:
        """Start gst-launch with a pipeline without sink; endless: its end is a fault."""
        self._endless = endless
        self._caps: list[str] = []
        self._caps_known = threading.Event()
        argv = [launcher, "-v", *pipeline]
        tail = f"! videoconvert ! video/x-raw,format=BGR ! fdsink name={SINK} sync=false fd="
        super().__init__(
            lambda fd: argv + f"{tail}{fd}".split(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
        )
        self._listen(self.process.stdout, self._store_caps, self._caps_known.set)

    def open(self) -> None:
        """Wait for the negotiated format."""
        self._caps_known.wait()
        if not self._caps:
            raise self._failure("the pipeline did not start")
        caps = self._caps[0]
        height, width = (int(_caps_value(caps, name, r"\d+") or 0) for name in ("height", "width"))
        self._shape = (height, width, (width * 3 + 3) // 4 * 4)  # GStreamer pads rows to 4 bytes
        self.fps = float(Fraction(_caps_value(caps, "framerate", r"\d+/\d+") or 0))

    def read(self) -> Image | None:
        """Wait for the next frame; None at the regular end of a pipeline that can end."""
        image = self._picture(*self._shape)
        if len(self._caps) > 1:
            raise SourceUnavailable(f"the format changed to {self._caps[-1][:80]}")
        if image is not None:
            return image
        failure = self._failure("the pipeline ended")
        if self.process.returncode or self._endless:
            raise failure
        return None

    def _store_caps(self, line: str) -> None:
        match = CAPS.search(line)
        if match and match.group(1) not in self._caps:
            self._caps.append(match.group(1))
            self._caps_known.set()


def _caps_value(caps: str, name: str, pattern: str) -> str | None:
    match = re.search(rf"\b{name}=\([a-z]+\)({pattern})", caps)
    return match.group(1) if match else None
