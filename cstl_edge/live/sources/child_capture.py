"""Captures that run as child processes and send raw frames through a pipe.

A child can be killed whatever its driver or decoder is doing, and its crash does not reach this
process. `ReaderCapture` runs cv2 in a child (`child_main`), for USB and network cameras;
`gstreamer` has the other kind. Children end with this process: the reader watches its standard
input, gst-launch gets a broken pipe.
"""

from __future__ import annotations

import contextlib
import fcntl
import io
import json
import os
import signal
import struct
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from cstl_edge.arrays import Image
from cstl_edge.errors import SourceUnavailable
from cstl_edge.live.sources.base import FrameSource, redact
from cstl_edge.live.sources.child_main import FRAME, HELLO, MAGIC
from cstl_edge.live.sources.options import SourceOptions
from cstl_edge.live.sources.stream import Capture, LiveSource
from cstl_edge.opencv import import_cv2
from cstl_edge.silhouette import MAX_PIXELS

PIPE_BYTES = 2**20  # size of a pipe under Linux: a frame then needs fewer reads
STOP_TIMEOUT_S = 1.0  # from asking a child to end to killing it: else a CSI daemon may block
RUN_READER = (
    "import sys; sys.path[:] = [sys.argv[1]] + [p for p in sys.path if p]; "
    "from cstl_edge.live.sources.child_main import main; sys.exit(main())"
)  # without the working folder on the path, where `-m` would put it


def open_network(uri: str, options: SourceOptions) -> FrameSource:
    """Open an rtsp:// or http:// stream, which cv2's FFmpeg reads in a child process."""
    options.refuse_part(uri)
    import_cv2()  # where it is missing, the error comes from here and not from the child
    return LiveSource(uri, partial(ReaderCapture, {"url": uri}), options)


def open_usb(uri: str, options: SourceOptions) -> FrameSource:
    """Open a USB camera, named 0 or /dev/video0."""
    options.refuse_part(uri)
    import_cv2()
    number = int(uri.removeprefix("/dev/video"))
    return LiveSource(uri, partial(_start_usb, number, options.fps), options)


def _start_usb(number: int, fps: float | None) -> ReaderCapture:
    device = f"/dev/video{number}"
    if sys.platform == "linux" and not Path(device).exists():
        present = sorted(str(p) for p in Path("/dev").glob("video*"))
        raise SourceUnavailable(
            f"there is no {device}; cameras here: {', '.join(present) or 'none'}"
        )
    return ReaderCapture({"device": number, "fps": fps})


class ChildCapture(Capture):
    """A child process, the pipe of its frames, and its last lines of output."""

    def __init__(self, command: Callable[[int], list[str]], **streams: Any) -> None:
        """Start a child; command: returns its arguments for the file descriptor of the frames."""
        reading, writing = os.pipe()
        self._frames = io.BufferedReader(io.FileIO(reading))
        self._lines: deque[str] = deque(maxlen=20)
        with contextlib.suppress(OSError, AttributeError):  # beyond the user's limit, or no Linux
            fcntl.fcntl(reading, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
        argv = command(writing)
        try:
            # a session of its own: Ctrl-C reaches this process alone, which then stops the child
            self.process = subprocess.Popen(
                argv,
                stderr=subprocess.PIPE,
                start_new_session=True,
                pass_fds=(writing,),
                env={**os.environ, "LC_ALL": "C", "GST_DEBUG_NO_COLOR": "1"},
                **streams,
            )
        except OSError as err:
            self._frames.close()
            raise SourceUnavailable(f"cannot start {argv[0]}: {err.strerror}") from err
        finally:
            os.close(writing)
        self._listeners: list[threading.Thread] = []
        self._listen(self.process.stderr, self._lines.append)

    def stop(self) -> None:
        """Ask the child to end, then kill it; may be called twice and from any thread."""
        self._request_stop()
        try:
            self.process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)  # with whatever it has started
            self.process.wait()

    def close(self) -> None:
        """Free the pipe; called by the reading thread at its end."""
        self.stop()
        self._frames.close()
        for listener in self._listeners:
            listener.join(STOP_TIMEOUT_S)

    def _request_stop(self) -> None:
        self.process.send_signal(signal.SIGINT)  # does nothing to one that has ended

    def _fill(self, buffer: memoryview) -> bool:
        """Fill a buffer from the pipe; False when the child closed it."""
        return self._frames.readinto(buffer) == len(buffer)

    def _picture(self, height: int, width: int, row_bytes: int) -> Image | None:
        """Read one picture whose rows are padded to `row_bytes`; None at the end of the pipe."""
        if not 0 < height * width <= MAX_PIXELS:
            limit = f"{MAX_PIXELS // 10**6} megapixels"
            raise SourceUnavailable(f"sends {width}x{height}; expected at most {limit}")
        rows = np.empty((height, row_bytes), np.uint8)
        if not self._fill(rows.data.cast("B")):
            return None
        return np.ascontiguousarray(rows[:, : width * 3]).reshape(height, width, 3)  # [H, W, 3]

    def _failure(self, otherwise: str) -> SourceUnavailable:
        """Return the error of a child that ended: its first complaint, or else its last line."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(STOP_TIMEOUT_S)
        self._listeners[0].join(STOP_TIMEOUT_S)
        lines = [line for line in self._lines if line]
        complaints = [line for line in lines if "ERROR" in line or "erroneous" in line]
        reason = (complaints[:1] or lines[-1:] or [f"exit status {self.process.returncode}"])[0]
        return SourceUnavailable(f"{otherwise}: {redact(reason.split('FFMPEG:16] ')[-1])}")

    def _listen(
        self, stream: Any, take: Callable[[str], None], at_end: Callable[[], None] = lambda: None
    ) -> None:
        """Give every line of a stream to `take`, then call `at_end`, in a thread of its own."""

        def drain() -> None:
            with stream:
                for line in stream:
                    take(line.decode(errors="replace").strip())
            at_end()

        thread = threading.Thread(target=drain, name="cstl-edge-listener", daemon=True)
        thread.start()
        self._listeners.append(thread)


class ReaderCapture(ChildCapture):
    """Runs cv2 in a child, for network streams and USB cameras."""

    def __init__(self, spec: dict[str, Any]) -> None:
        """Start the child; spec: {"url": …} or {"device": number, "fps": …}."""
        root = str(Path(__file__).parents[3])
        super().__init__(
            lambda fd: [sys.executable, "-c", RUN_READER, root, str(fd)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
        )
        assert self.process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # it died at once; open() raises the reason
            self.process.stdin.write(json.dumps(spec).encode() + b"\n")
            self.process.stdin.flush()

    def open(self) -> None:
        """Wait until the source answers."""
        if self._record(HELLO) is None:
            raise self._failure("no connection")

    def read(self) -> Image | None:
        """Wait for the next frame; a stream that ends is one that went away."""
        header, image = self._record(FRAME), None
        if header:
            height, width, self.fps = header
            image = self._picture(height, width, width * 3)
        if image is None:
            raise self._failure("the stream ended")
        return image

    def _record(self, form: struct.Struct) -> tuple[Any, ...] | None:
        """Read one record; None when the child closed the pipe."""
        buffer = bytearray(form.size)
        if not self._fill(memoryview(buffer)):
            return None
        magic, *values = form.unpack(buffer)
        if magic != MAGIC:
            raise SourceUnavailable("the reading process sent something that is no frame")
        return tuple(values)

    def _request_stop(self) -> None:
        assert self.process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.close()  # its end makes the child leave
