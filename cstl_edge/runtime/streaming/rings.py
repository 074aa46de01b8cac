"""Rings of a walker's latest frames, and windows that slide: each frame is multiplied once.

The numbers are those of whole windows, up to rounding: see `model.incremental_head`, whose three
graphs an encoder may have. Letters as in `base`; h numbers of one hidden layer.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Executor
from typing import Any, Protocol

import numpy as np

from cstl_edge.arrays import Floats, Indices
from cstl_edge.errors import DataError, one_line
from cstl_edge.runtime.base import Embedded, Encoder


class Ring:
    """The latest part features of one walker, [p, window, c]."""

    def __init__(self, window: int, parts: int, channels: int, min_frames: int) -> None:
        self.features: Floats = np.empty((parts, window, channels), np.float32)
        self.window = window
        self.seen = 0
        self.due = min_frames  # the value of `seen` from which its head runs

    def push(self, feature: Floats) -> None:
        """Take the features [p, c] of one more frame, over the oldest ones."""
        self.features[:, self.seen % self.window] = feature
        self.seen += 1

    @property
    def held(self) -> int:
        """Return the number of frames that the window holds."""
        return min(self.seen, self.window)

    @property
    def oldest(self) -> int:
        """Return the slot of the ring in which the window begins."""
        return self.seen % self.window if self.seen > self.window else 0

    def copy_to(self, window: Floats) -> None:
        """Write the frames held, oldest first, to the beginning of `window` [s, p, c]."""
        tail, frames = self.held - self.oldest, self.features.swapaxes(0, 1)  # [window, p, c]
        window[:tail] = frames[self.oldest : self.held]
        window[tail : self.held] = frames[: self.oldest]


def embed_whole(encoder: Encoder, rings: Sequence[Ring]) -> Embedded:
    """Run the windows through the head, in one batch."""
    info = encoder.info
    lengths = np.array([ring.held for ring in rings], np.int32)
    windows = np.zeros((len(rings), lengths.max(), info.parts, info.channels), np.float32)
    for ring, window in zip(rings, windows, strict=True):
        ring.copy_to(window)
    return encoder.head(windows, lengths)


REACH = 2  # frames to either side whose features a frame's sum holds
TAPS = ("left2", "left1", "whole", "first", "right1", "right2", "end")
"""As in `model.incremental_head`."""
KEPT = ("kept_values", "kept_logits", "kept_judged", "kept_gates")
"""Inputs of `slide`, in order."""


class IncrementalHead(Protocol):
    """The head in three graphs, for windows that slide.

    Arrays have the parts first: [p, m, c] are m frames of any walkers, [n, p, s, c] n windows.
    """

    def taps(self, features: Floats) -> tuple[Floats, Floats]:
        """Return of frames [p, m, c] shares [p, m, 7c], as in `TAPS`, and gates [p, m, 2c]."""

    def mix(self, features: Floats, sums: Floats) -> tuple[Floats, Floats]:
        """Return of frames' T_f and T_f + T_s [p, m, c] the logits [p, m, 3c] and judged [p, m, h].

        Both are what `slide` wants of them.
        """

    def slide(self, kept: Mapping[str, Floats], slots: Indices) -> Embedded:
        """Return the embeddings of windows of what is kept of s frames, [n, p, s, ..] by name.

        kept: values (T_f, T_f + T_s twice: 3c), logits, judged and gates, named as in `KEPT`
        slots: [n, s], where a window's frames lie, from the oldest to the newest
        Several threads may call this at once.
        """


class SlidingEncoder(Encoder, IncrementalHead, Protocol):
    """An encoder with the incremental head too; `info.slides` is true."""


class SlidingRing(Ring):
    """The latest frames of one walker, and what is kept of them between two embeddings."""

    def __init__(self, window: int, parts: int, channels: int, min_frames: int) -> None:
        super().__init__(window, parts, channels, min_frames)
        self._values = np.empty((parts, window, 3, channels), np.float32)
        self.features = self._values[:, :, 0]
        self.kept = {KEPT[0]: self._values.reshape(parts, window, -1)}  # others come with `keep`
        self._ends = np.empty((2, parts, window, channels), np.float32)
        """T_f + T_s of a frame where it is the first of the window, and where it is the second."""
        self._answered = 0  # the value of `seen` at the last embedding
        # Of the last two frames, for those that come: T_f + T_s where they are the first of the
        # window, the second or another, of what came until now; and their shares for later ones.
        self._open: Floats = np.zeros((3, parts, REACH, channels), np.float32)
        self._left: Floats = np.zeros((2, parts, REACH, channels), np.float32)

    def slots(self, first: int = 0) -> Indices:
        """Return the slots of the ring of the window's frames from `first` on, 0 the oldest."""
        return (self.oldest + np.arange(first, self.held)) % self.window

    def new(self) -> Floats:
        """Return the features [p, k, c] of the frames since the last embedding."""
        count = min(self.seen - self._answered, self.held)
        return self.features[:, self.slots(self.held - count)]

    def absorb(self, taps: Floats) -> tuple[Indices, Floats]:
        """Take the shares [p, k, 7c] of the new frames, and return T_f + T_s where it has changed.

        slots [m] and sums [p, m, c], of the first two frames and of the last 2 + k
        """
        new = taps.shape[1]
        if new == self.held:  # the first answer, or a window of frames that never had one
            self._open[:], self._left[:] = 0, 0
        sums = self._add(np.split(taps, len(TAPS), 2))
        slots = self.slots()
        last = slots[max(0, self.held - new - REACH) :]
        self._ends[:, :, last] = sums[:2, :, -len(last) :]
        inner = last[max(0, len(last) + REACH - self.held) :]
        first = [self._ends[i, :, slot, None] for i, slot in enumerate(slots[:REACH])]
        changed = np.concatenate((*first, sums[2, :, sums.shape[2] - len(inner) :]), 1)
        changed[:, -1] -= taps[:, -1, -changed.shape[2] :]  # "end"
        return np.concatenate((slots[:REACH], inner)), changed

    def take(self, slots: Indices, sums: Floats, mixed: Mapping[str, Floats]) -> None:
        """Keep the sums [p, m, c] of changed frames in slots [m], and `mix` of them by name."""
        self._values[:, slots, 1:] = sums[:, :, None]
        for name, values in mixed.items():
            self.keep(name, slots, values)
        self._answered = self.seen

    def keep(self, name: str, slots: Indices, values: Floats) -> None:
        """Keep numbers [p, m, ..] of the frames in slots [m], under a name of `KEPT`."""
        if name not in self.kept:
            self.kept[name] = np.empty((len(values), self.window, values.shape[2]), np.float32)
        self.kept[name][:, slots] = values

    def window_kept(self) -> dict[str, Floats]:
        """Return what is kept of the frames held, a window [1, p, s, ..] by name, where it lies."""
        return {name: values[None, :, : self.held] for name, values in self.kept.items()}

    def _add(self, taps: Sequence[Floats]) -> Floats:
        """Return the sums [3, p, 2 + k, c] of the last two frames and k new ones, 7 · [p, k, c].

        Each where the frame is the window's first, its second, or another.
        """
        left2, left1, whole, first, right1, right2, _ = taps
        before = np.concatenate((self._left, (left2, left1)), 2)  # [2, p, 2 + k, c]
        sums = np.concatenate((self._open, (first, whole, whole)), 2)
        sums[1:, :, REACH:] += before[1, :, 1:-1]
        sums[2, :, REACH:] += before[0, :, :-REACH]
        sums[:, :, 1:-1] += right1
        sums[:, :, :-REACH] += right2
        self._open, self._left = sums[:, :, -REACH:].copy(), before[:, :, -REACH:].copy()
        return sums


def embed_slid(
    encoder: IncrementalHead, rings: Sequence[SlidingRing], pool: Executor | None = None
) -> Embedded:
    """Bring what is kept of the windows up to date, in one batch, and embed each by itself.

    A batch of windows would be a copy of all that is kept: 1.3 ms a window at the paper's widths,
    as long as `slide` takes.

    Args:
        encoder: its `taps`, `mix` and `slide` run
        rings: of the walkers
        pool: runs `slide` side by side for several walkers
    """
    _update(encoder, rings)
    kept, slots = [ring.window_kept() for ring in rings], [ring.slots()[None] for ring in rings]
    run = pool.map if pool is not None and len(rings) > 1 else map
    embedded = list(run(encoder.slide, kept, slots))
    return Embedded(*map(np.concatenate, zip(*embedded, strict=True)))


def check_slots(slots: Any, kept: Mapping[str, Floats]) -> None:
    """Refuse what is not an int64 array [n, s] of frames of the windows kept (DataError)."""
    n, _, s = kept[KEPT[0]].shape[:3]
    if not isinstance(slots, np.ndarray) or slots.dtype != np.int64 or slots.shape != (n, s):
        raise DataError(f"expected slots as int64 [{n}, {s}]; got {one_line(slots)}")
    if slots.min() < 0 or slots.max() >= s:
        raise DataError(f"expected slots in 0..{s - 1}; got {one_line(slots.tolist())}")


def _update(encoder: IncrementalHead, rings: Sequence[SlidingRing]) -> None:
    """Send the new frames of all windows through `taps`, the changed through `mix`; keep both."""
    new = [ring.new() for ring in rings]
    taps, gates = encoder.taps(_joined(new))
    slots, sums, features = [], [], []
    for ring, shares, own_gates in zip(rings, _apart(taps, new), _apart(gates, new), strict=True):
        ring.keep(KEPT[3], ring.slots(ring.held - own_gates.shape[1]), own_gates)
        changed_slots, changed_sums = ring.absorb(shares)
        slots.append(changed_slots)
        sums.append(changed_sums)
        features.append(ring.features[:, changed_slots])
    logits, judged = (_apart(x, sums) for x in encoder.mix(_joined(features), _joined(sums)))
    for ring, changed, own, *mixed in zip(rings, slots, sums, logits, judged, strict=True):
        ring.take(changed, own, dict(zip(KEPT[1:3], mixed, strict=True)))


def _joined(rows: Sequence[Floats]) -> Floats:
    """Return the frames [p, m, ..] of all walkers in one batch."""
    return rows[0] if len(rows) == 1 else np.concatenate(rows, 1)


def _apart(joined: Floats, rows: Sequence[Floats]) -> Iterator[Floats]:
    """Yield the share of each walker in an array of all frames, by the frames in `rows`."""
    begin = 0
    for own in rows:
        yield joined[:, begin : begin + own.shape[1]]
        begin += own.shape[1]
