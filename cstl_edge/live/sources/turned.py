"""Source whose pictures are turned or mirrored: a camera that hangs upside down or sideways."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from cstl_edge.arrays import Image
from cstl_edge.live.sources.base import Frame, FrameSource

QUARTER_DEG = 90


def turn(image: Image, rotate: int, flip: str | None) -> Image:
    """Return a picture turned clockwise, then mirrored.

    Args:
        image: uint8 [H, W, 3].
        rotate: Degrees: 0, 90, 180 or 270.
        flip: `h`, `v` or None.
    """
    turned = np.rot90(image, -rotate // QUARTER_DEG)
    if flip is not None:
        turned = turned[:, ::-1] if flip == "h" else turned[::-1]
    return np.ascontiguousarray(turned)


class TurnedSource(FrameSource):
    """Another source, each of its pictures turned."""

    def __init__(self, inner: FrameSource, rotate: int, flip: str | None) -> None:
        super().__init__(inner.uri)
        self._inner, self._rotate, self._flip = inner, rotate, flip
        self.live = inner.live
        self.frames = inner.frames

    @property
    def fps(self) -> float:  # type: ignore[override]
        """Frames per second of the inner source, which may know them late."""
        return self._inner.fps

    @property
    def size(self) -> tuple[int, int]:  # type: ignore[override]
        """Height and width of the turned picture."""
        height, width = self._inner.size
        return (width, height) if self._rotate % (2 * QUARTER_DEG) else (height, width)

    @property
    def dropped(self) -> int:
        """Number of frames for which the reader was too slow."""
        return self._inner.dropped

    def reopen(self) -> TurnedSource:
        """Return a new source that starts from the beginning."""
        return TurnedSource(self._inner.reopen(), self._rotate, self._flip)

    def _next(self) -> Frame | None:
        frame = next(self._inner, None)
        if frame is None:
            return None
        return replace(frame, image=turn(frame.image, self._rotate, self._flip))

    def _release(self) -> None:
        self._inner.close()


def turned(source: FrameSource, rotate: int | None, flip: str | None) -> FrameSource:
    """Return the source, or one whose pictures are turned where that is wanted."""
    return TurnedSource(source, rotate or 0, flip) if rotate or flip else source
