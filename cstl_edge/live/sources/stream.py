"""Live sources: give the newest frame, notice silence and old pictures, open a lost source again.

One daemon thread per opening reads a capture into a slot of one frame; a frame that is overtaken
there counts as dropped. A picture has an age: since it arrived, or, where the same picture comes
again and again, since it came first; beyond 1 s it is none. The thread that iterates keeps the
time: it gives up an opening after 5 s, and a capture that has given nothing new for 5 s, and opens
again after 1, 2, 4, 8, 10 s. Captures are child processes (`child_capture`), which can be killed in
any state; a read inside this process could hang for ever.
"""

from __future__ import annotations

import logging
import math
import threading
import time
import zlib
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Literal, NoReturn

from cstl_edge.errors import ConfigError, SourceUnavailable, one_line
from cstl_edge.live.sources.base import Frame, FrameSource, SourceState, redact
from cstl_edge.live.sources.options import SourceOptions

if TYPE_CHECKING:
    from cstl_edge.arrays import Image

log = logging.getLogger(__name__)

OPEN_TIMEOUT_S = 5.0  # from starting a capture to its answer
FIRST_FRAME_TIMEOUT_S = 15.0  # from answer to first frame: key frames may be 10 s apart
STALL_TIMEOUT_S = 5.0  # between two frames
MAX_AGE_S = 1.0  # of a picture
FIRST_DELAY_S, MAX_DELAY_S = 1.0, 10.0  # before opening again; doubled every time
MAX_DOUBLINGS = 16
REFUSED_DELAY_S = 60.0  # after a refused password: cameras lock accounts
SMALLEST_STEP_S = 1e-4  # between the times of two frames that came at once
REPEATED = "the same picture comes again and again: the camera is frozen"
LATE = "pictures come more than 1 s late: this machine or the network is too slow"
PRINT_ROWS = 8  # every so many rows of a picture tell whether it is the one before
CLOSE_TIMEOUT_S = 1.0  # that closing waits for the reading thread, whose child is dead


class Capture:
    """One opening of a live source; `open` and `read` run in the reading thread."""

    fps = 0.0  # as the source declares it, once a frame has been read; 0.0 when it does not
    captured_s: float | None = None  # monotonic clock when the last picture came, where it is known

    def open(self) -> object:
        """Wait until the source answers; raises SourceUnavailable."""

    def read(self) -> Image | None:
        """Wait for the next frame; None at the regular end; raises SourceUnavailable."""
        raise NotImplementedError

    def stop(self) -> None:
        """Free the device and make a waiting `open` or `read` return soon; from any thread."""

    def close(self) -> None:
        """Free pipes and devices; called by the reading thread at its end."""


def unavailable(uri: str, err: Exception) -> SourceUnavailable:
    """Return the error of a live source that does not open."""
    return SourceUnavailable(
        f"{redact(uri)} does not open: {redact(err)}; check that it is plugged in, powered and "
        "reachable, and that the address and password are right"
    )


Opener = Callable[[], Capture]  # returns at once


class _CaptureSession:
    """One opening of a source: the capture, its reading thread, and the slot between them."""

    def __init__(
        self, capture: Capture, first_index: int, last_print: int | None, options: SourceOptions
    ) -> None:
        """Start reading.

        Args:
            capture: What is read.
            first_index: Number of the next frame.
            last_print: Fingerprint of the last picture of the opening before.
            options: Of which the waits count.
        """
        self._first_s = options.first_picture_s or FIRST_FRAME_TIMEOUT_S
        self._next_s = options.next_picture_s or STALL_TIMEOUT_S
        open_s = max(OPEN_TIMEOUT_S, options.first_picture_s or 0.0)
        self.capture, self.captured, self.dropped = capture, first_index, 0
        self.announced = False  # the state "online" was sent
        self.last_print, self._new_s = last_print, -math.inf  # of the newest picture; since when
        self._last_s = -math.inf  # time of the newest frame
        self._changed = threading.Condition()
        self._slot: Frame | None = None
        self._outcome: Exception | Literal["end"] | None = None
        self._deadline_s = time.monotonic() + open_s
        self._waiting_for = f"no answer within {open_s:g} s"
        self._thread = threading.Thread(target=self._work, name="cstl-edge-capture", daemon=True)
        self._thread.start()

    def wait(self) -> Frame | None:
        """Wait for a frame and leave it in the slot; None at the end; raises SourceUnavailable."""
        with self._changed:
            while True:
                if self._slot is not None and time.monotonic() - self._slot.time_s > MAX_AGE_S:
                    self._slot, self.dropped = None, self.dropped + 1
                if self._slot is not None or self._outcome is not None:
                    break
                left_s = self._deadline_s - time.monotonic()
                if left_s <= 0:
                    raise SourceUnavailable(self._waiting_for)
                self._changed.wait(left_s)
            if self._slot is None and isinstance(self._outcome, Exception):
                raise SourceUnavailable(redact(self._outcome)) from self._outcome
            return self._slot

    def take(self) -> Frame | None:
        """Return the frame in the slot and empty it."""
        with self._changed:
            frame, self._slot = self._slot, None
        return frame

    def stop(self) -> None:
        """End the capture and its thread; a thread that does not end is left to itself."""
        self.capture.stop()
        self._finish("end")
        self._thread.join(CLOSE_TIMEOUT_S)

    def _work(self) -> None:
        """Read until the end or a fault; the reading thread."""
        try:
            self.capture.open()
            self._expect(self._first_s, "connected, but no frame within")
            while (image := self.capture.read()) is not None:
                self._put(image)
        except Exception as err:  # raised in the thread that iterates
            self._finish(err)
        else:
            self._finish("end")
        finally:
            self.capture.close()

    def _put(self, image: Image) -> None:
        now_s, utc = time.monotonic(), datetime.now(timezone.utc)
        came_s = min(self.capture.captured_s or now_s, now_s)
        mark = zlib.adler32(image[::PRINT_ROWS].tobytes())
        repeated = mark == self.last_print
        if not repeated:
            self.last_print, self._new_s = mark, came_s
        with self._changed:
            index, self.captured = self.captured, self.captured + 1
            if now_s - self._new_s > MAX_AGE_S:
                self.dropped += 1
                self._waiting_for = f"{REPEATED if repeated else LATE} for {self._next_s:g} s"
                return
            self.dropped += self._slot is not None
            self._last_s = max(came_s, self._last_s + SMALLEST_STEP_S)
            utc -= timedelta(seconds=now_s - came_s)
            self._slot = Frame(index, image, self._last_s, utc)
        self._expect(self._next_s, "no frame for")

    def _expect(self, within_s: float, otherwise: str) -> None:
        """Set the deadline of the next frame, and the message when it passes."""
        with self._changed:
            self._deadline_s = time.monotonic() + within_s
            self._waiting_for = f"{otherwise} {within_s:g} s"
            self._changed.notify_all()

    def _finish(self, outcome: Exception | Literal["end"]) -> None:
        with self._changed:
            self._outcome = self._outcome or outcome
            self._changed.notify_all()


class LiveSource(FrameSource):
    """Source that gives the newest frame; `dropped` counts the others."""

    live = True

    def __init__(self, uri: str, opener: Opener, options: SourceOptions) -> None:
        """Open the source and wait for its first frame; with `wait`, open it while it is read.

        Args:
            uri: Address, for messages.
            opener: Starts a capture; called again whenever one is lost.
            options: Of which `wait`, `fps`, `on_state` and the two waits count.
        """
        super().__init__(uri)
        self._options = options
        self._opener, self._on_state = opener, options.on_state
        self._wanted_fps = self.fps = options.fps or 0.0
        self.size = (0, 0)  # until the first frame
        self._last_print: int | None = None
        self._closing = threading.Event()
        self._lock = threading.Lock()
        self._session: _CaptureSession | None = None
        self._tries, self.captured, self._dropped = 0, 0, 0
        if options.wait:
            return
        try:
            if self._newest(retry=False) is None:
                raise SourceUnavailable(f"{self.uri} ended before its first frame")
        except BaseException:
            self.close()
            raise

    @property
    def dropped(self) -> int:
        """Number of frames for which the reader was too slow."""
        session = self._session
        return self._dropped + (session.dropped if session else 0)

    def reopen(self) -> NoReturn:
        """Raise ConfigError: a live source has no beginning to go back to."""
        raise ConfigError(f"{self.uri} is live and cannot start over; record it to a file first")

    def close(self) -> None:
        """Stop the capture; may be called from another thread than the one that iterates."""
        self._closing.set()
        super().close()

    def _next(self) -> Frame | None:
        if self._newest() is not None and (session := self._session) is not None:
            return session.take()
        if not self._closing.is_set():
            self._notify(SourceState("ended"))
        return None

    def _newest(self, retry: bool = True) -> Frame | None:
        """Wait for a frame, leave it in the slot, None at the end; retry: open again what fails."""
        while not self._closing.is_set():
            try:
                session = self._session or self._start()
                frame = session.wait()
            except SourceUnavailable as err:
                if not retry:
                    raise unavailable(self.uri, err) from err
                self._handle_loss(redact(err))
                continue
            if frame is not None and not session.announced:
                session.announced = True
                self.fps = self._wanted_fps or session.capture.fps
                self.size = (frame.image.shape[0], frame.image.shape[1])
                self._notify(SourceState("online", attempt=self._tries))
            return frame
        return None

    def _start(self) -> _CaptureSession:
        """Start a capture; raises SourceUnavailable when that fails at once."""
        self._tries += 1
        self._notify(SourceState("opening", attempt=self._tries))
        capture = self._opener()
        with self._lock:
            self._session = session = _CaptureSession(
                capture, self.captured, self._last_print, self._options
            )
        if self._closing.is_set():  # closed while the child was starting
            session.stop()
        return session

    def _handle_loss(self, detail: str) -> None:
        """Stop the lost capture, send the state "offline", and wait before the next one."""
        if self._stop_session():
            self._tries = 1
        delay_s = min(FIRST_DELAY_S * 2.0 ** min(self._tries - 1, MAX_DOUBLINGS), MAX_DELAY_S)
        if "401" in detail or "nauthorized" in detail:
            delay_s = REFUSED_DELAY_S
        detail = f"{detail}; trying again in {delay_s:g} s"
        self._notify(SourceState("offline", detail, self._tries))
        self._closing.wait(delay_s)

    def _release(self) -> None:
        self._stop_session()

    def _stop_session(self) -> bool:
        """Stop the present capture; return whether it gave frames."""
        with self._lock:
            session, self._session = self._session, None
        if session is None:
            return False
        session.stop()
        self.captured = session.captured
        self._dropped += session.dropped
        self._last_print = session.last_print
        return session.announced

    def _notify(self, state: SourceState) -> None:
        """Log a change of state and pass it on."""
        if state.state == "offline":
            log.warning("%s offline: %s", self.uri, one_line(state.detail))
        elif state.state != "opening":
            log.info("%s %s", self.uri, state.state)
        if self._on_state is not None and not self._closing.is_set():
            self._on_state(state)
