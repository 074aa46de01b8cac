"""A source at the wanted rate: frames too many are left out, a recording keeps its time."""

from __future__ import annotations

import threading
import time
from dataclasses import replace

from cstl_edge.live.sources.base import Frame, FrameSource

EARLY = 0.25  # of a period: a frame that comes so much too early counts as on time


class PacedSource(FrameSource):
    """Another source, thinned to a rate; a recording is played as a camera would give it."""

    def __init__(self, inner: FrameSource, fps: float | None) -> None:
        """Take over a source.

        inner: closed with this one
        fps: frames per second at most; None for all
        """
        super().__init__(inner.uri)
        self._inner, self._wanted = inner, fps
        self.live, self.frames = inner.live, inner.frames
        self._next_s: float | None = None  # time of the next frame that is wanted
        self._began: tuple[float, float] | None = None  # clock and media time of the first frame
        self._closing = threading.Event()

    @property
    def fps(self) -> float:  # type: ignore[override]
        """Frames per second that come out."""
        inner = self._inner.fps
        return min(inner, self._wanted) if inner and self._wanted else inner or self._wanted or 0.0

    @property
    def size(self) -> tuple[int, int]:  # type: ignore[override]
        """Height and width of the picture."""
        return self._inner.size

    @property
    def dropped(self) -> int:
        """Number of frames for which the reader was too slow."""
        return self._inner.dropped

    def reopen(self) -> FrameSource:
        """Return a new source from the beginning, as fast as it can be read."""
        return self._inner.reopen()

    def close(self) -> None:
        """Stop waiting, and close the inner source."""
        self._closing.set()
        super().close()

    def _next(self) -> Frame | None:
        while True:
            frame = next(self._inner, None)
            if frame is None or self._wants(frame.time_s):
                break
        if frame is None or self.live:
            return frame
        return self._on_time(frame)

    def _wants(self, time_s: float) -> bool:
        if not self._wanted:
            return True
        period_s = 1.0 / self._wanted
        if self._next_s is not None and time_s < self._next_s - EARLY * period_s:
            return False
        due_s = time_s if self._next_s is None else self._next_s
        self._next_s = max(due_s, time_s - period_s) + period_s
        return True

    def _on_time(self, frame: Frame) -> Frame | None:
        """Wait until a frame of a recording is due; its time becomes that of the clock."""
        if self._began is None:
            self._began = time.monotonic(), frame.time_s
        due_s = self._began[0] + frame.time_s - self._began[1]
        if self._closing.wait(max(0.0, due_s - time.monotonic())):
            return None
        return replace(frame, time_s=due_s)

    def _release(self) -> None:
        self._inner.close()
