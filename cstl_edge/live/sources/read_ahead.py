"""Recordings that are opened and read by a thread of their own, while the caller does other work.

A reader takes 0.2 s until its first picture, and pictures take time to be decoded. A recording
whose pictures need no more than `KEPT_BYTES` is kept until the caller takes them: who wants to see
them before, as one does who learns the empty scene, reads the same pictures instead of opening the
recording again. Of a longer one a few pictures are read ahead.
"""

from __future__ import annotations

import logging
import os
import threading
from collections import deque
from collections.abc import Callable

from cstl_edge.live.sources.base import Frame, FrameSource
from cstl_edge.live.sources.open import open_source, source_kind
from cstl_edge.live.sources.options import SourceOptions, split_query

log = logging.getLogger(__name__)

KEPT_BYTES = 192 * 2**20  # of pictures: 3 s of 1024 x 576 at 30 per second
AHEAD = 4  # pictures of a recording that is not kept
JOIN_S = 3.0  # that closing waits for the picture in work


def read_ahead(
    uri: str | os.PathLike[str], options: SourceOptions | None = None
) -> ReadAhead | None:
    """Begin to open a video file or a folder of images; None for any other source.

    Args:
        uri: As for `open_source`.
        options: As there.

    Raises ConfigError for an address or options that make no sense.
    """
    address, _ = split_query(os.fspath(uri), options or SourceOptions())
    if source_kind(address) != "file":
        return None
    return ReadAhead(lambda: open_source(uri, options), address)


class ReadAhead(FrameSource):
    """A recording behind a thread that opens and reads it; `wait` before it is used."""

    def __init__(self, opener: Callable[[], FrameSource], uri: str) -> None:
        """Start the thread.

        Args:
            opener: Opens the recording, in the thread.
            uri: Address, for messages until it is open.
        """
        super().__init__(uri)
        self._opener = opener
        self._inner: FrameSource | None = None
        self._changed = threading.Condition()
        self._pictures: deque[Frame] = deque()
        self._taken = 0  # by the caller
        self._bytes = 0  # of the pictures that wait
        self._is_short = False  # whole in memory, as far as its container says
        self._at_end = False
        self._fault: BaseException | None = None  # that ended it
        self._closing = False
        self._thread = threading.Thread(target=self._read, name="cstl-edge-reader", daemon=True)
        self._thread.start()

    def wait(self) -> None:
        """Wait until the recording is open; raises what opening it raised."""
        with self._changed:
            self._changed.wait_for(lambda: self._inner is not None or self._at_end)
            if self._inner is None and self._fault is not None:
                raise self._fault

    def reopen(self) -> FrameSource:
        """Return a source that starts from the beginning; of a short recording with pictures kept.

        Such pictures are the caller's as well: they must not be changed.
        """
        assert self._inner is not None
        return _KeptRecording(self) if self._is_short else self._inner.reopen()

    def opened_again(self) -> FrameSource:
        """Return a source that reads the recording anew."""
        assert self._inner is not None
        return self._inner.reopen()

    def kept(self, number: int) -> Frame | None:
        """Wait for a picture that the caller has not taken; None where it is taken or not kept.

        Args:
            number: Counted from 0; IndexError past the end, a fault of the recording at its place.
        """
        with self._changed:
            self._changed.wait_for(
                lambda: (
                    number < self._taken + len(self._pictures)
                    or self._at_end
                    or not self._has_room()
                )
            )
            place = number - self._taken
            if 0 <= place < len(self._pictures):
                return self._pictures[place]
            if place < 0 or not self._at_end or self._closing:
                return None
            if self._fault is not None:
                raise self._fault
            raise IndexError(number)

    def _next(self) -> Frame | None:
        with self._changed:
            self._changed.wait_for(lambda: self._pictures or self._at_end or self._closing)
            if self._pictures:
                frame = self._pictures.popleft()
                self._taken += 1
                self._bytes -= frame.image.nbytes
                self._changed.notify_all()
                return frame
        if self._fault is not None:
            raise self._fault
        return None

    def _release(self) -> None:
        with self._changed:
            self._closing = True
            self._pictures.clear()
            self._changed.notify_all()
        if self._thread is not threading.current_thread():
            self._thread.join(JOIN_S)
        if self._thread.is_alive():  # it closes the recording when it comes back from it
            log.warning("%s: the reading thread did not stop within %g s", self.uri, JOIN_S)

    def _read(self) -> None:
        """Open the recording and read it to its end; a thread of its own."""
        fault: BaseException | None = None
        try:
            with self._opener() as inner:
                self._has_opened(inner)
                for frame in inner:
                    if not self._put(frame):
                        break
        except BaseException as err:  # raised where the caller comes to it
            fault = err
        with self._changed:
            self._fault, self._at_end = fault, True
            self._changed.notify_all()

    def _has_opened(self, inner: FrameSource) -> None:
        """Take over what the recording says of itself."""
        self.uri, self.fps, self.size, self.frames = inner.uri, inner.fps, inner.size, inner.frames
        height, width = inner.size
        with self._changed:
            self._is_short = (inner.frames or KEPT_BYTES) * height * width * 3 <= KEPT_BYTES
            self._inner = inner
            self._changed.notify_all()

    def _put(self, frame: Frame) -> bool:
        """Put a picture behind the others and wait for room; return whether to go on."""
        with self._changed:
            self._pictures.append(frame)
            self._bytes += frame.image.nbytes
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._closing or self._has_room())
            return not self._closing

    def _has_room(self) -> bool:
        """Return whether one more picture may be read."""
        return self._bytes < KEPT_BYTES and (self._is_short or len(self._pictures) < AHEAD)


class _KeptRecording(FrameSource):
    """The pictures of a short recording that wait for their taker, from the first one."""

    def __init__(self, ahead: ReadAhead) -> None:
        super().__init__(ahead.uri)
        self.fps, self.size, self.frames = ahead.fps, ahead.size, ahead.frames
        self._ahead = ahead
        self._seen = 0
        self._anew: FrameSource | None = None  # where it is longer than its container says

    def reopen(self) -> FrameSource:
        """Return a source that starts from the beginning."""
        return self._ahead.reopen()

    def _next(self) -> Frame | None:
        if self._anew is None:
            try:
                frame = self._ahead.kept(self._seen)
            except IndexError:
                return None
            if frame is not None:
                self._seen += 1
                return frame
            self._anew = self._ahead.opened_again()
            for _ in range(self._seen):
                next(self._anew)
        return next(self._anew, None)

    def _release(self) -> None:
        if self._anew is not None:
            self._anew.close()
