"""Reader of USB cameras with cv2, and of files and streams where PyAV is missing, for the child.

cv2 turns pictures by their rotation and tells the shape of a pixel, but neither fields nor full
range: those need PyAV.
"""

from __future__ import annotations

import os
import sys
import time
from typing import Any

import cv2

from cstl_edge.foreign import MAX_PIXELS
from cstl_edge.live.sources.child_protocol import (
    End,
    Failure,
    Hello,
    PictureHead,
    ReadRequest,
    Skipped,
    SourceFailure,
    send,
)
from cstl_edge.live.sources.formats import (
    ANSWER_TIMEOUT_S,
    PICTURE_TIMEOUT_S,
    is_rtsp,
    limits,
    square_size,
)
from cstl_edge.live.sources.media_clock import MediaClock, believable_fps
from cstl_edge.live.sources.network_probe import probe
from cstl_edge.live.sources.reasons import NO_FILE

AV_LOG_ERROR = "16"
USB_SIZE = (1280, 720)  # width, height in pixels; the camera takes the nearest it has
SKIPPED_EVERY = 50  # pictures between two signs of life


def read(request: ReadRequest, pipe: int) -> None:
    """Send the records of a source; raises SourceFailure."""
    os.environ |= {"OPENCV_FFMPEG_LOGLEVEL": AV_LOG_ERROR, "OPENCV_LOG_LEVEL": "SILENT"}
    cv2.setNumThreads(1)
    if request.url is not None:
        probe(request.url, ANSWER_TIMEOUT_S)
        if is_rtsp(request.url):
            send(pipe, Hello())
    capture = _open(request)
    if not capture.isOpened():
        reason = NO_FILE if request.is_recording else ""  # the parent reads FFmpeg's complaints
        raise SourceFailure(Failure(request.fault, reason))
    declared = max(0.0, float(capture.get(cv2.CAP_PROP_FPS)))
    counted = capture.get(cv2.CAP_PROP_FRAME_COUNT)
    count = int(counted) if 0 < counted < 2**40 else 0
    finite = request.is_recording or (request.url is not None and count > 0)
    fps, note = believable_fps(declared, request.fps)
    if not is_rtsp(request.url):
        hello = Hello(declared, finite=False)
        if finite:
            exact = request.path is not None and _is_mp4(request.path)
            hello = Hello(fps, count, exact, finite, (note,) if note else ())
        send(pipe, hello)
    _read_capture(capture, request, pipe, MediaClock(fps) if finite else None)


def _read_capture(capture: Any, request: ReadRequest, pipe: int, clock: MediaClock | None) -> None:
    """Send the pictures of an open capture; clock: of a recording."""
    index = 0
    while capture.grab():
        time_s = time.monotonic()
        if clock is not None:
            time_s = clock.time_s(capture.get(cv2.CAP_PROP_POS_MSEC) / 1000)
            time_s = time_s if request.fps is None else index / request.fps
        index += 1
        if clock is not None and request.stop_s is not None and time_s >= request.stop_s:
            break
        if clock is None or time_s >= request.start_s:
            _send_picture(capture, pipe, index - 1, time_s)
        elif index % SKIPPED_EVERY == 0:
            send(pipe, Skipped(index))
    if clock is None:
        raise SourceFailure(Failure("unavailable", "the stream ended"))
    send(pipe, End(index))


def _send_picture(capture: Any, pipe: int, index: int, time_s: float) -> None:
    ok, image = capture.retrieve()
    if not ok:
        raise SourceFailure(Failure("data", f"picture {index} is damaged"))
    height, width = image.shape[:2]
    if height * width > MAX_PIXELS:
        reason = f"it is {width}x{height}; expected at most {MAX_PIXELS // 10**6} megapixels"
        raise SourceFailure(Failure("data", reason))
    sideways = int(capture.get(cv2.CAP_PROP_ORIENTATION_META)) % 180 == 90
    aspect = _pixel_aspect(capture)
    wide, high = square_size(width, height, 1 / aspect if sideways else aspect)
    if (wide, high) != (width, height):
        image = cv2.resize(image, (wide, high), interpolation=cv2.INTER_LINEAR)
    send(pipe, PictureHead(index, time_s, high, wide, 3 * wide), memoryview(image).cast("B"))


def _pixel_aspect(capture: Any) -> float:
    """Return width by height of a pixel, 1.0 where it is not known."""
    across, down = (capture.get(p) for p in (cv2.CAP_PROP_SAR_NUM, cv2.CAP_PROP_SAR_DEN))
    return float(across / down) if across > 0 and down > 0 else 1.0


def _is_mp4(path: str) -> bool:
    with open(path, "rb") as file:
        return file.read(12)[4:8] == b"ftyp"


def _open(request: ReadRequest) -> Any:
    """Return a cv2.VideoCapture, open or not."""
    if request.device is None:
        options = (f"{key};{value}" for key, value in limits(request.path, request.url).items())
        os.environ["OPENCV_FFMPEG_CAPTURE_OPTIONS"] = "|".join(options)
        picture_s = request.picture_timeout_s or PICTURE_TIMEOUT_S
        open_s = picture_s if is_rtsp(request.url) else ANSWER_TIMEOUT_S
        # timeouts work only where FFmpeg is named; without them a silent server costs 30 s
        timeouts = [cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, int(1000 * open_s)]
        timeouts += [cv2.CAP_PROP_READ_TIMEOUT_MSEC, int(1000 * picture_s)]
        # "file:" keeps FFmpeg from taking a name with a colon or % for a protocol or a pattern
        address = f"file:{request.path}" if request.path is not None else str(request.url)
        return cv2.VideoCapture(address, cv2.CAP_FFMPEG, timeouts)
    backend = cv2.CAP_V4L2 if sys.platform == "linux" else cv2.CAP_ANY
    capture = cv2.VideoCapture(request.device, backend)
    # uncompressed, most cameras give 5 to 10 frames per second at this size
    capture.set(cv2.CAP_PROP_FOURCC, cv2.VideoWriter.fourcc(*"MJPG"))
    capture.set(cv2.CAP_PROP_FRAME_WIDTH, USB_SIZE[0])
    capture.set(cv2.CAP_PROP_FRAME_HEIGHT, USB_SIZE[1])
    if request.fps:
        capture.set(cv2.CAP_PROP_FPS, request.fps)
    return capture
