"""Child process that reads a camera or stream with cv2 and sends raw frames to its parent.

Standard input brings one line of JSON (so that no password stands in the list of processes) and
then stays open: its end means that the parent is gone or wants no more frames. A pipe of its own
carries a HELLO as soon as the other side answers, then FRAME records, each followed by its pixels.
FFmpeg's complaints go to standard error, where the parent looks for the reason of a failure.
"""

from __future__ import annotations

import json
import os
import socket
import struct
import sys
import threading
from typing import Any
from urllib.parse import urlsplit

MAGIC = b"CEv1"
HELLO = struct.Struct("=4s")  # magic
FRAME = struct.Struct("=4sIId")  # magic, height, width, declared frames per second or 0.0; pixels
ANSWER_TIMEOUT_S = 4.0  # below the parent's 5 s, so that the reason comes from here
PICTURE_TIMEOUT_S = 20.0  # above the parent's timeouts, which therefore decide
RTSP_PORT = 554
AV_LOG_ERROR = "16"
USB_SIZE = (1280, 720)  # width, height in pixels; the camera takes the nearest it has


def main() -> int:
    """Read the source that standard input names until that closes; exit status 1 on failure."""
    pipe = int(sys.argv[2])
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # where FFmpeg's complaints are printed
    os.environ |= {"OPENCV_FFMPEG_LOGLEVEL": AV_LOG_ERROR, "OPENCV_LOG_LEVEL": "SILENT"}
    spec = json.loads(sys.stdin.readline())
    threading.Thread(target=_exit_at_end_of_stdin, daemon=True).start()
    try:
        return stream(spec, pipe)
    except BrokenPipeError:
        return 0
    except OSError as err:
        sys.stderr.write(f"{err.strerror or err}\n")
        return 1


def stream(spec: dict[str, Any], pipe: int) -> int:
    """Send HELLO and frames until the source or the parent ends; returns the exit status."""
    import cv2

    cv2.setNumThreads(1)
    is_rtsp = str(spec.get("url", "")).lower().startswith("rtsp")
    if is_rtsp:
        # over UDP a lost packet smears a second of video; versions of cv2 differ in their default
        os.environ.setdefault("OPENCV_FFMPEG_CAPTURE_OPTIONS", "rtsp_transport;tcp")
        probe_rtsp(spec["url"])
        send(pipe, HELLO.pack(MAGIC))
    capture = open_capture(cv2, spec, PICTURE_TIMEOUT_S if is_rtsp else ANSWER_TIMEOUT_S)
    if not capture.isOpened():
        return 1
    if not is_rtsp:
        send(pipe, HELLO.pack(MAGIC))
    fps = max(0.0, float(capture.get(cv2.CAP_PROP_FPS)))
    while True:
        ok, image = capture.read()
        if not ok:
            return 1
        send(pipe, FRAME.pack(MAGIC, *image.shape[:2], fps))
        send(pipe, memoryview(image).cast("B"))


def probe_rtsp(url: str) -> None:
    """Wait until an RTSP server answers anything at all; raises OSError.

    FFmpeg's opening also waits for a key frame, which some cameras send only every 10 s, so it
    needs a longer timeout than a server that is not there.
    """
    try:
        parts = urlsplit(url)
        where = (parts.hostname or "", parts.port or RTSP_PORT)
    except ValueError:
        raise OSError(
            "unreadable address; write / @ : # in a password as %2F %40 %3A %23"
        ) from None
    try:
        with socket.create_connection(where, ANSWER_TIMEOUT_S) as server:
            if parts.scheme.lower() == "rtsp":
                request = (
                    f"OPTIONS rtsp://{where[0]}:{where[1]}{parts.path} RTSP/1.0\r\nCSeq: 1\r\n"
                )
                server.sendall(f"{request}User-Agent: cstl-edge\r\n\r\n".encode())
                server.recv(4096)
    except TimeoutError as err:
        raise OSError(f"no answer within {ANSWER_TIMEOUT_S:g} s") from err


def open_capture(cv2: Any, spec: dict[str, Any], open_timeout_s: float) -> Any:
    """Return an open cv2.VideoCapture.

    Args:
        cv2: The imported module.
        spec: {"url": …}, read by FFmpeg, or {"device": number, "fps": …}, read by Video4Linux.
        open_timeout_s: Timeout of FFmpeg, in seconds.
    """
    if "url" in spec:
        # timeouts work only where FFmpeg is named; without them a silent server costs 30 s
        timeouts = [cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, int(1000 * open_timeout_s)]
        timeouts += [cv2.CAP_PROP_READ_TIMEOUT_MSEC, int(1000 * PICTURE_TIMEOUT_S)]
        return cv2.VideoCapture(spec["url"], cv2.CAP_FFMPEG, timeouts)
    backend = cv2.CAP_V4L2 if sys.platform == "linux" else cv2.CAP_ANY
    capture = cv2.VideoCapture(spec["device"], backend)
    # uncompressed, most cameras give 5 to 10 frames per second at this size
    capture.set(cv2.CAP_PROP_FOURCC, cv2.VideoWriter.fourcc(*"MJPG"))
    capture.set(cv2.CAP_PROP_FRAME_WIDTH, USB_SIZE[0])
    capture.set(cv2.CAP_PROP_FRAME_HEIGHT, USB_SIZE[1])
    if spec.get("fps"):
        capture.set(cv2.CAP_PROP_FPS, spec["fps"])
    return capture


def send(pipe: int, data: bytes | memoryview) -> None:
    """Write all of `data` to a file descriptor."""
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(pipe, rest) :]


def _exit_at_end_of_stdin() -> None:
    """Exit when standard input ends, whatever the decoder is doing."""
    while sys.stdin.read(1):
        pass
    os._exit(0)
