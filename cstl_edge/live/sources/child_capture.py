"""Reading child processes: captures that can be killed whatever their driver or decoder is doing.

A child's crash does not reach this process. Children end with it: they watch their standard input.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import select
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cstl_edge.credentials import environment_without_credentials
from cstl_edge.errors import DataError, SourceUnavailable
from cstl_edge.foreign import MAX_PIXELS
from cstl_edge.live.sources.base import redact
from cstl_edge.live.sources.child_protocol import (
    HEAD,
    MAGIC,
    MAX_HEAD_BYTES,
    End,
    Failure,
    Hello,
    PictureHead,
    ReadRequest,
    Record,
    decode,
)
from cstl_edge.live.sources.reasons import stream_reason
from cstl_edge.live.sources.stream import Capture

if TYPE_CHECKING:
    from cstl_edge.arrays import Image

PIPE_BYTES = 2**20  # size of a pipe under Linux: a frame then needs fewer reads
STOP_TIMEOUT_S = 1.0  # from asking a child to end to killing it: else a CSI daemon may block
RUN_READER = (
    "import sys; sys.path[:] = [sys.argv[1]] + [p for p in sys.path if p]; "
    "from cstl_edge.live.sources.child_main import main; sys.exit(main())"
)  # without the working folder on the path, where `-m` would put it


class ReaderCapture(Capture):
    """A reading child process, the pipe of its records, and its last lines of output."""

    def __init__(self, request: ReadRequest, timeout_s: float | None = None) -> None:
        """Start the child.

        Args:
            request: What it reads.
            timeout_s: Longest time without a record; None where somebody else keeps the time.
        """
        self.timeout_s, self._live = timeout_s, not request.is_recording
        self._hello: Hello | None = None
        self._lines: deque[str] = deque(maxlen=20)
        self._pipe, writing = os.pipe()
        with contextlib.suppress(OSError, AttributeError):  # beyond the user's limit, or no Linux
            fcntl.fcntl(self._pipe, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
        os.set_blocking(self._pipe, False)
        root = str(Path(__file__).parents[3])
        try:
            # a session of its own: Ctrl-C reaches this process alone, which then stops the child
            self.process = subprocess.Popen(
                [sys.executable, "-c", RUN_READER, root, str(writing)],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                start_new_session=True,
                pass_fds=(writing,),
                env={**environment_without_credentials(), "LC_ALL": "C"},
            )
        except OSError as err:
            os.close(self._pipe)
            raise SourceUnavailable(f"cannot start a reading process: {err.strerror}") from err
        finally:
            os.close(writing)
        self._listener = threading.Thread(
            target=self._listen, name="cstl-edge-listener", daemon=True
        )
        self._listener.start()
        assert self.process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # it died at once; open() raises the reason
            self.process.stdin.write(json.dumps(asdict(request)).encode() + b"\n")
            self.process.stdin.flush()

    def open(self) -> Hello:
        """Wait until the source answers."""
        if self._hello is None:
            record = self.record()
            if not isinstance(record, Hello):
                raise SourceUnavailable("the reading process sent something that is no greeting")
            self._hello, self.fps = record, record.fps
        return self._hello

    def read(self) -> Image | None:
        """Wait for the next picture of a live source; None at the end of one that has an end."""
        while True:
            record = self.record()
            if isinstance(record, PictureHead):
                if self._hello is not None and not self._hello.finite:
                    self.captured_s = record.time_s
                return self.picture(record)
            if isinstance(record, End):
                return None

    def record(self) -> Record:
        """Return the child's next record; raises its failure, or that of the child itself."""
        head = bytearray(HEAD.size)
        if not self._fill(memoryview(head)):
            raise self._death()
        magic, length = HEAD.unpack(head)
        if magic != MAGIC or length > MAX_HEAD_BYTES:
            raise SourceUnavailable("the reading process sent something that is no record")
        body = bytearray(length)
        if not self._fill(memoryview(body)):
            raise self._death()
        record = decode(bytes(body))
        if isinstance(record, Failure):
            raise self._error(record)
        return record

    def picture(self, head: PictureHead) -> Image:
        """Read the pixels behind a record."""
        import numpy as np  # the child starts before it is imported

        if not 0 < head.height * head.width <= MAX_PIXELS or head.row_bytes < 3 * head.width:
            limit = f"{MAX_PIXELS // 10**6} megapixels"
            raise SourceUnavailable(f"sends {head.width}x{head.height}; expected at most {limit}")
        rows = np.empty((head.height, head.row_bytes), np.uint8)
        if not self._fill(rows.data.cast("B")):
            raise self._death()
        packed = np.ascontiguousarray(rows[:, : head.width * 3])
        return packed.reshape(head.height, head.width, 3)  # [H, W, 3]

    def stop(self) -> None:
        """End the child; may be called twice and from any thread."""
        assert self.process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.close()  # its end makes the child leave
        try:
            self.process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)  # with whatever it has started
            self.process.wait()

    def close(self) -> None:
        """Free the pipe; called by the reading thread at its end."""
        self.stop()
        if self._pipe >= 0:
            os.close(self._pipe)
            self._pipe = -1
        self._listener.join(STOP_TIMEOUT_S)

    def _fill(self, buffer: memoryview) -> bool:
        """Fill a buffer from the pipe; False when the child closed it."""
        poll = select.poll()
        poll.register(self._pipe, select.POLLIN)
        end_s = None if self.timeout_s is None else time.monotonic() + self.timeout_s
        while buffer:
            left_s = None if end_s is None else end_s - time.monotonic()
            if left_s is not None and left_s <= 0:
                self.stop()
                reason = f"reading took more than {self.timeout_s:g} s without a picture"
                raise self._error(Failure("data", reason))
            poll.poll(None if left_s is None else 1000 * left_s)
            try:
                count = os.readv(self._pipe, [buffer])
            except BlockingIOError:
                continue
            if count == 0:
                return False
            buffer = buffer[count:]
        return True

    def _error(self, failure: Failure) -> SourceUnavailable | DataError:
        reason = redact(failure.reason or self._complaint())
        if self._live or failure.kind == "unavailable":
            return SourceUnavailable(reason)
        return DataError(reason)

    def _complaint(self) -> str:
        """Return the reason among FFmpeg's complaints (cv2 has no errors)."""
        self._listener.join(STOP_TIMEOUT_S)
        return stream_reason(None, " ".join(self._lines))

    def _death(self) -> SourceUnavailable | DataError:
        """Return the error of a child that ended without a word."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(STOP_TIMEOUT_S)
        self._listener.join(STOP_TIMEOUT_S)
        status = self.process.returncode
        crashed = status is not None and status < 0
        last = next((line for line in reversed(self._lines) if line), "")
        cause = f"by signal {-status}" if crashed else f"with status {status} {last}"
        return self._error(Failure("data", f"the reading process ended {cause}".strip()))

    def _listen(self) -> None:
        """Keep the last lines of the child's standard error; a thread of its own."""
        stream: Any = self.process.stderr
        with stream:
            for line in stream:
                self._lines.append(line.decode(errors="replace").strip())
