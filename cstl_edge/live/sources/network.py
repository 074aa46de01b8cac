"""Network streams, files behind http:// and USB cameras, read by a child process."""

from __future__ import annotations

import os
import re
import sys
from functools import partial
from pathlib import Path

from cstl_edge.errors import SourceUnavailable, one_line
from cstl_edge.live.sources.base import FrameSource
from cstl_edge.live.sources.child_capture import ReaderCapture
from cstl_edge.live.sources.child_protocol import ReadRequest
from cstl_edge.live.sources.files import STEP_TIMEOUT_S, VideoFile
from cstl_edge.live.sources.formats import PICTURE_TIMEOUT_S, best_reader
from cstl_edge.live.sources.jetson_rtsp import JetsonOpener, has_decoder
from cstl_edge.live.sources.options import SourceOptions
from cstl_edge.live.sources.stream import OPEN_TIMEOUT_S, Capture, LiveSource, unavailable
from cstl_edge.opencv import import_cv2

NUMBERED = re.compile(r"/dev/video(\d+)")  # by which cv2 opens a camera
READER_MARGIN_S = 5.0  # by which the reader waits longer than this process


def open_stream(uri: str, options: SourceOptions) -> FrameSource:
    """Open an rtsp:// stream; on a Jetson its video engine decodes."""
    options.refuse_part(uri)
    request = ReadRequest(
        url=uri, reader=best_reader(), picture_timeout_s=_picture_timeout_s(options)
    )
    hardware = has_decoder()
    opener = JetsonOpener(uri, request) if hardware else partial(ReaderCapture, request)
    return LiveSource(uri, opener, options)


def open_http(uri: str, options: SourceOptions) -> FrameSource:
    """Open an http:// stream, or a file behind such an address, every frame of which counts."""
    first: list[ReaderCapture] = []
    request = ReadRequest(
        url=uri,
        fps=options.fps,
        start_s=options.start_s or 0.0,
        stop_s=options.stop_s,
        reader=best_reader(),
        picture_timeout_s=_picture_timeout_s(options),
    )
    try:
        capture = ReaderCapture(request, OPEN_TIMEOUT_S)
        try:
            if capture.open().finite:
                capture.timeout_s = STEP_TIMEOUT_S
                return VideoFile(uri, request, options, capture)
        except BaseException:
            capture.close()
            raise
        capture.timeout_s = None
        first.append(capture)
    except SourceUnavailable as err:
        if not options.wait:
            raise unavailable(uri, err) from err
    options.refuse_part(uri)

    def start() -> Capture:
        return first.pop() if first else ReaderCapture(request)

    return LiveSource(uri, start, options)


def _picture_timeout_s(options: SourceOptions) -> float | None:
    """Return how long the reader itself waits: longer than this process, whose limit decides."""
    wanted_s = options.longest_wait_s + READER_MARGIN_S
    return wanted_s if wanted_s > PICTURE_TIMEOUT_S else None


def open_usb(uri: str, options: SourceOptions) -> FrameSource:
    """Open a USB camera, named 0, /dev/video0, or as udev names it (/dev/camera-door)."""
    options.refuse_part(uri)
    import_cv2()  # where it is missing, the error comes from here and not from the child
    device = f"/dev/video{uri}" if uri.isdecimal() else uri
    return LiveSource(uri, partial(_start_usb, device, options.fps), options)


def _start_usb(device: str, fps: float | None) -> ReaderCapture:
    number = NUMBERED.fullmatch(os.path.realpath(device))  # another one after each plugging
    if number is None or (sys.platform == "linux" and not Path(device).exists()):
        present = sorted(one_line(p) for p in Path("/dev").glob("video*"))
        shown = one_line(device)
        what = f"{shown} is no camera" if Path(device).exists() else f"there is no {shown}"
        raise SourceUnavailable(f"{what}; cameras here: {', '.join(present) or 'none'}")
    return ReaderCapture(ReadRequest(device=int(number[1]), fps=fps))
