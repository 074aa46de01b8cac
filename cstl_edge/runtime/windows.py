"""The latest frames of a walker in a ring, and how such windows go through the head whole.

Letters as in `base`. Where an encoder can do without computing windows anew, see `sliding`.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from cstl_edge.runtime.base import Embedded, Encoder, Floats


class Ring:
    """The latest part features of one walker."""

    def __init__(self, window: int, parts: int, channels: int, min_frames: int) -> None:
        self.features: Floats = np.empty((window, parts, channels), np.float32)
        self.window = window
        self.seen = 0
        self.due = min_frames  # the value of `seen` from which its head is wanted

    def push(self, feature: Floats) -> None:
        """Take the features [p, c] of one more frame, over the oldest ones."""
        self.features[self.seen % self.window] = feature
        self.seen += 1

    @property
    def held(self) -> int:
        """Return how many frames the window holds."""
        return min(self.seen, self.window)

    @property
    def oldest(self) -> int:
        """Return where in the ring the window begins."""
        return self.seen % self.window if self.seen > self.window else 0

    def copy_to(self, window: Floats) -> None:
        """Write the frames held, oldest first, to the beginning of `window` [s, p, c]."""
        tail = self.held - self.oldest
        window[:tail] = self.features[self.oldest : self.held]
        window[tail : self.held] = self.features[: self.oldest]


def embed_whole(encoder: Encoder, rings: Sequence[Ring]) -> Embedded:
    """Run the windows through the head, in one batch."""
    info = encoder.info
    lengths = np.array([ring.held for ring in rings], np.int32)
    windows = np.zeros((len(rings), lengths.max(), info.parts, info.channels), np.float32)
    for ring, window in zip(rings, windows, strict=True):
        ring.copy_to(window)
    return encoder.head(windows, lengths)
