"""Tell a scene in which everybody walks on their head: its camera hangs upside down.

Legs swing and a head does not: the width of a walker's lowest quarter changes from frame to frame,
that of the highest hardly. Where it is the other way round, for everybody who shows it at all, the
picture has to be turned. People seen from the front show nothing and do not count.
"""

from __future__ import annotations

from collections import deque

import numpy as np

from cstl_edge.arrays import Mask

QUARTER = 4  # a mask's height by the parts that are compared
MIN_FRAMES, MAX_FRAMES = 20, 60  # of a track
MIN_SWING = 0.05  # deviation of the width of the legs, in body heights
MIN_RATIO = 2.0  # of the two deviations


class UprightCheck:
    """Watches the masks of all tracks."""

    def __init__(self) -> None:
        """Start without an opinion."""
        self._widths: dict[int, deque[tuple[float, float]]] = {}
        self._shown: dict[int, bool] = {}  # whether a track in view walks on its head
        self._past = {False: 0, True: 0}  # tracks that have ended

    def observe(self, track: int, mask: Mask) -> None:
        """Take the mask of somebody whole who moves, uint8 [h, w]."""
        rows = max(1, mask.shape[0] // QUARTER)
        widths = self._widths.setdefault(track, deque(maxlen=MAX_FRAMES))
        widths.append((_width(mask[:rows]) / mask.shape[0], _width(mask[-rows:]) / mask.shape[0]))
        if len(widths) < MIN_FRAMES:
            return
        top, bottom = np.std(widths, axis=0)
        if max(top, bottom) >= MIN_SWING and max(top, bottom) >= MIN_RATIO * min(top, bottom):
            self._shown[track] = bool(top > bottom)

    def close(self, track: int) -> None:
        """Count a track that has ended, and forget its masks."""
        self._widths.pop(track, None)
        if track in self._shown:
            self._past[self._shown.pop(track)] += 1

    @property
    def everybody_inverted(self) -> bool:
        """Whether somebody walks on their head and nobody on their feet."""
        shown = [inverted for inverted in (True, False) if self._past[inverted]]
        return {*shown, *self._shown.values()} == {True}


def _width(part: Mask) -> float:
    """Return the width in pixels of what is seen in some rows of a mask."""
    columns = np.flatnonzero((part > 127).any(axis=0))
    return float(columns[-1] - columns[0] + 1) if columns.size else 0.0
