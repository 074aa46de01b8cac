"""Captures that run as child processes and send raw frames through a pipe.

A child can be killed whatever its driver or decoder is doing, and its crash is not ours. The one
here is our own reader of cv2 (`source_capture`), for USB and network cameras; `source_gst` has the
other. Children end with this process: the reader watches its standard input, gst-launch gets a
broken pipe.
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
from pathlib import Path
from typing import IO, Any

import numpy as np

from cstl_edge.arrays import Image
from cstl_edge.errors import SourceUnavailable
from cstl_edge.live.sources.base import redact
from cstl_edge.live.sources.child_main import FRAME, HELLO, MAGIC
from cstl_edge.live.sources.stream import Opener
from cstl_edge.silhouette import MAX_PIXELS

PIPE_BYTES = 2**20  # asked of Linux for every pipe; a frame then needs fewer turns
POLITE_S = 1.0  # between asking a child to end and killing it: a CSI daemon may else stay blocked
RUN_READER = (
    "import sys; sys.path[:] = [sys.argv[1]] + [p for p in sys.path if p]; "
    "from cstl_edge.live.sources.child_main import main; sys.exit(main())"
)  # without the working folder on the path, where `-m` would put it


class ChildCapture:
    """A child process, the pipe of its frames, and the last lines that it wrote."""

    def __init__(self, command: Callable[[int], list[str]], **streams: Any) -> None:
        """Start a child; `command` gets the file descriptor to write frames to."""
        reading, writing = os.pipe()
        self._frames = io.FileIO(reading)
        self.fps = 0.0
        self._lines: deque[str] = deque(maxlen=20)
        with contextlib.suppress(OSError, AttributeError):  # beyond the user's limit, or no Linux
            fcntl.fcntl(reading, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
        argv = command(writing)
        try:
            # A session of its own: Ctrl-C is for us, who then stop the child in order.
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
        self._listeners = [self._listen(self.process.stderr, self._lines.append)]

    def stop(self) -> None:
        """Ask the child to end, then make it; may be called twice and from any thread."""
        self._ask()
        try:
            self.process.wait(POLITE_S)
        except subprocess.TimeoutExpired:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)  # with whatever it has started
            self.process.wait()

    def close(self) -> None:
        """Free the pipe; called by the thread that reads, when it is done."""
        self.stop()
        self._frames.close()
        for listener in self._listeners:
            listener.join(POLITE_S)

    def _ask(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            self.process.send_signal(signal.SIGINT)

    def _fill(self, buffer: memoryview) -> bool:
        """Fill a buffer from the pipe; False when the child closed it."""
        done = 0
        while done < len(buffer):
            got = self._frames.readinto(buffer[done:])
            if not got:
                return False
            done += got
        return True

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
        """Return the error for a child that ended: its first complaint, or else its last line."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(POLITE_S)
        self._listeners[0].join(POLITE_S)
        lines = [line for line in self._lines if line]
        complaints = [line for line in lines if "ERROR" in line or "erroneous" in line]
        said = (complaints[:1] or lines[-1:] or [f"exit status {self.process.returncode}"])[0]
        return SourceUnavailable(f"{otherwise}: {redact(said.split('FFMPEG:16] ')[-1])}")

    def _listen(
        self,
        stream: IO[bytes] | None,
        take: Callable[[str], None],
        at_end: Callable[[], None] = lambda: None,
    ) -> threading.Thread:
        """Give every line of a stream to `take`, in a thread of its own."""

        def drain() -> None:
            assert stream is not None
            with stream:
                for line in stream:
                    take(line.decode(errors="replace").strip())
            at_end()

        thread = threading.Thread(target=drain, name="cstl-edge-listener", daemon=True)
        thread.start()
        return thread


class ReaderCapture(ChildCapture):
    """Our own reader: cv2 in a child, for network streams and USB cameras."""

    def __init__(self, spec: dict[str, Any]) -> None:
        root = str(Path(__file__).parents[3])
        super().__init__(
            lambda fd: [sys.executable, "-c", RUN_READER, root, str(fd)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
        )
        assert self.process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # it died at once; open() tells why
            self.process.stdin.write(json.dumps(spec).encode() + b"\n")
            self.process.stdin.flush()

    def open(self) -> None:
        """Wait until the source answers."""
        if self._record(HELLO) is None:
            raise self._failure("no connection")

    def read(self) -> Image | None:
        """Wait for the next frame; a stream that ends is one that went away."""
        header = self._record(FRAME)
        image = self._picture(header[1], header[2], header[2] * 3) if header else None
        if header is None or image is None:
            raise self._failure("the stream ended")
        self.fps = float(header[3])
        return image

    def _record(self, form: struct.Struct) -> tuple[Any, ...] | None:
        buffer = bytearray(form.size)
        if not self._fill(memoryview(buffer)):
            return None
        values = form.unpack(buffer)
        if values[0] != MAGIC:
            raise SourceUnavailable("the reading process sent something that is no frame")
        return values

    def _ask(self) -> None:
        assert self.process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.close()  # its end makes the child leave


def usb_opener(uri: str, fps: float | None) -> Opener:
    """Return what opens a USB camera, named 0 or /dev/video0, if it is there."""
    number = int(uri.removeprefix("/dev/video"))
    return lambda: _usb(number, fps)


def _usb(number: int, fps: float | None) -> ReaderCapture:
    device = f"/dev/video{number}"
    if sys.platform == "linux" and not Path(device).exists():
        present = sorted(str(p) for p in Path("/dev").glob("video*"))
        raise SourceUnavailable(
            f"there is no {device}; cameras here: {', '.join(present) or 'none'}"
        )
    return ReaderCapture({"device": number, "fps": fps})
