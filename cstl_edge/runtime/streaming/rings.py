"""Rings of a walker's latest frames, and windows that slide: each frame is multiplied once.

The embeddings are those of whole windows, up to rounding: see `model.incremental_head`, whose three
graphs an encoder may have. Letters as in `base`; h hidden units.
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
    """Which frames of one walker a window holds; slot `seen % window` is the next to be written."""

    def __init__(self, window: int, min_frames: int) -> None:
        """Begin without frames.

        Args:
            window: Number of frames of the ring.
            min_frames: Number of frames before the first embedding.
        """
        self.window, self.seen = window, 0
        self.next_head_at = min_frames  # the value of `seen` from which its head runs

    @property
    def held(self) -> int:
        """Return the number of frames that the window holds."""
        return min(self.seen, self.window)

    @property
    def oldest(self) -> int:
        """Return the slot of the ring in which the window begins."""
        return (self.seen - self.held) % self.window


class FeatureRing(Ring):
    """The latest part features of one walker, [p, window, c]."""

    def __init__(self, window: int, parts: int, channels: int, min_frames: int) -> None:
        """Begin without frames.

        Args:
            window: Number of frames of the ring.
            parts: Number of parts of a feature.
            channels: Number of channels of a part.
            min_frames: Number of frames before the first embedding.
        """
        super().__init__(window, min_frames)
        self.features: Floats = np.empty((parts, window, channels), np.float32)

    def push(self, feature: Floats) -> None:
        """Write the features [p, c] of one more frame over those of the oldest."""
        self.features[:, self.seen % self.window] = feature
        self.seen += 1

    def copy_to(self, window: Floats) -> None:
        """Write the frames held, oldest first, to the beginning of `window` [s, p, c]."""
        tail, frames = self.held - self.oldest, self.features.swapaxes(0, 1)  # [window, p, c]
        window[:tail] = frames[self.oldest : self.held]
        window[tail : self.held] = frames[: self.oldest]


def embed_whole(encoder: Encoder, rings: Sequence[FeatureRing]) -> Embedded:
    """Run the windows through the head, in one batch."""
    info = encoder.info
    lengths = np.array([ring.held for ring in rings], np.int32)
    windows = np.zeros((len(rings), lengths.max(), info.parts, info.channels), np.float32)
    for ring, window in zip(rings, windows, strict=True):
        ring.copy_to(window)
    return encoder.head(windows, lengths)


REACH = 2  # frames to either side whose features a frame's sum holds
TAPS = ("left2", "left1", "whole", "first", "right1", "right2", "end")
"""As in `model.incremental_head`, which needs PyTorch; `test_rings.py` compares both."""
SHORTEST_STEP = 5
"""Frames of a window from which its first two frames and the last three are different ones."""
KEPT = ("kept_values", "kept_logits", "kept_judged", "kept_gates")
"""Inputs of `slide`, in order."""


class IncrementalHead(Protocol):
    """The head in three graphs, for windows that slide.

    Arrays have the parts first: [p, m, c] are m frames of any walkers, [n, p, s, c] n windows.
    """

    def taps(self, features: Floats) -> tuple[Floats, Floats]:
        """Return the shares [p, m, 7c], as in `TAPS`, and the gates [p, m, 2c] of m frames."""

    def mix(self, features: Floats, sums: Floats) -> tuple[Floats, Floats]:
        """Return the logits [p, m, 3c] of Eq. 5 and the hidden layer [p, m, h] of Eq. 6.

        From T_f and T_f + T_s [p, m, c]; without the share of T_l, which `slide` adds.
        """

    def slide(self, kept: Mapping[str, Floats], slots: Indices) -> Embedded:
        """Return the embeddings of n windows of s frames. Several threads may call this at once.

        kept: [n, p, s, ..] by a name of `KEPT`: T_f and twice T_f + T_s (3c), logits, the hidden
            layer of Eq. 6, gates
        slots: [n, s], places of a window's frames, from the oldest to the newest
        """


class SlidingEncoder(Encoder, IncrementalHead, Protocol):
    """An encoder with the incremental head too; `info.slides` is true."""


class SlidingRing(FeatureRing):
    """The latest frames of one walker, and their state between two embeddings.

    T_f + T_s of a frame is the sum of the shares (`TAPS`) of the frames within two of it. In the
    window of frames 1 to 5:

        1:                     first(1) + right1(2) + right2(3)
        2:           left1(1) + whole(2) + right1(3) + right2(4)
        3: left2(1) + left1(2) + whole(3) + right1(4) + right2(5)
        4: left2(2) + left1(3) + whole(4) + right1(5)
        5: left2(3) + left1(4) + whole(5) - end(5)

    As it slides to frames 2 to 6, frame 2 becomes the first and 3 the second, without shares of 1:
    these two forms of every frame are kept in `_border_sums`. Frame 4 gains right2(6); 5 gains
    right1(6) and loses -end(5), which is never part of `_partial_sums`; 6 is summed as 5 was. In a
    longer window nothing else changes.
    """

    def __init__(self, window: int, parts: int, channels: int, min_frames: int) -> None:
        """Begin without frames; the arguments are those of `FeatureRing`."""
        super().__init__(window, parts, channels, min_frames)
        self._values = np.empty((parts, window, 3, channels), np.float32)
        self.features = self._values[:, :, 0]
        self.kept = {KEPT[0]: self._values.reshape(parts, window, -1)}  # others come with `store`
        self._border_sums = np.empty((2, parts, window, channels), np.float32)
        """T_f + T_s of each frame as the first of a window, and as the second."""
        self._answered = 0  # the value of `seen` at the last embedding
        self._partial_sums: Floats = np.zeros((3, parts, REACH, channels), np.float32)
        """T_f + T_s of the last two frames, without the shares of frames that are still to come: as
        the first frame of a window, as the second, as any other."""
        self._shares_for_later: Floats = np.zeros((2, parts, REACH, channels), np.float32)
        """left2 and left1 of the last two frames, for the sums of frames that are still to come."""

    @property
    def can_step(self) -> bool:
        """Tell whether its window is full and answered, so that one more frame slides it by one."""
        return self._answered == self.seen >= self.window >= SHORTEST_STEP

    def state(self) -> dict[str, Floats]:
        """Return the state that `step` reads and writes where it lies, by name."""
        return {
            **{name: values[None] for name, values in self.kept.items()},
            "borders": self._border_sums,
            "partial": self._partial_sums,
            "later": self._shares_for_later,
        }

    def stepped(self) -> None:
        """Note that `step` has taken in one frame and answered."""
        self._answered = self.seen

    def slots(self, first: int = 0) -> Indices:
        """Return the slots of the ring of the window's frames from `first` on, 0 the oldest."""
        return (self.oldest + np.arange(first, self.held)) % self.window

    def unanswered_features(self) -> Floats:
        """Return the features [p, k, c] of the frames since the last embedding."""
        count = min(self.seen - self._answered, self.held)
        return self.features[:, self.slots(self.held - count)]

    def add_frames(self, taps: Floats) -> tuple[Indices, Floats]:
        """Add the shares [p, k, 7c] of the new frames; return each T_f + T_s that has changed.

        Returns slots [m] and sums [p, m, c]: of the first two frames and of the last 2 + k.
        """
        new = taps.shape[1]
        if new == self.held:  # the first answer, or a window of frames that never had one
            self._partial_sums[:], self._shares_for_later[:] = 0, 0
        sums = self._add(np.split(taps, len(TAPS), 2))
        slots = self.slots()
        last = slots[max(0, self.held - new - REACH) :]
        self._border_sums[:, :, last] = sums[:2, :, -len(last) :]
        inner = last[max(0, len(last) + REACH - self.held) :]
        first = [self._border_sums[i, :, slot, None] for i, slot in enumerate(slots[:REACH])]
        changed = np.concatenate((*first, sums[2, :, sums.shape[2] - len(inner) :]), 1)
        changed[:, -1] -= taps[:, -1, -changed.shape[2] :]  # "end"
        return np.concatenate((slots[:REACH], inner)), changed

    def store_changed(self, slots: Indices, sums: Floats, mixed: Mapping[str, Floats]) -> None:
        """Store what has changed, up to date until the next embedding.

        Args:
            slots: [m], places of the changed frames.
            sums: [p, m, c], their T_f + T_s.
            mixed: Outputs of `mix` for them, by name of `KEPT`.
        """
        self._values[:, slots, 1:] = sums[:, :, None]
        self.store(slots, mixed)
        self._answered = self.seen

    def store(self, slots: Indices, arrays: Mapping[str, Floats]) -> None:
        """Store arrays [p, m, ..] of the frames in slots [m], by name of `KEPT`."""
        for name, values in arrays.items():
            if name not in self.kept:
                self.kept[name] = np.empty((len(values), self.window, values.shape[2]), np.float32)
            self.kept[name][:, slots] = values

    def window_kept(self) -> dict[str, Floats]:
        """Return views of the state of the frames held, a window [1, p, s, ..] by name."""
        return {name: values[None, :, : self.held] for name, values in self.kept.items()}

    def _add(self, taps: Sequence[Floats]) -> Floats:
        """Return sums [3, p, 2 + k, c], as in `_partial_sums`, of the last two and k new frames."""
        left2, left1, whole, first, right1, right2, _ = taps  # [p, k, c] each
        before = np.concatenate((self._shares_for_later, (left2, left1)), 2)  # [2, p, 2 + k, c]
        sums = np.concatenate((self._partial_sums, (first, whole, whole)), 2)
        sums[1:, :, REACH:] += before[1, :, 1:-1]
        sums[2, :, REACH:] += before[0, :, :-REACH]
        sums[:, :, 1:-1] += right1
        sums[:, :, :-REACH] += right2
        self._partial_sums[:] = sums[:, :, -REACH:]  # in place: `step` knows where they lie
        self._shares_for_later[:] = before[:, :, -REACH:]
        return sums


def embed_slid(
    encoder: IncrementalHead, rings: Sequence[SlidingRing], pool: Executor | None = None
) -> Embedded:
    """Bring the state of the windows up to date, in one batch, and embed each by itself.

    A batch would copy all their state: 1.3 ms a window at the paper's widths, as long as `slide`.

    Args:
        encoder: Owner of the graphs `taps`, `mix` and `slide`.
        rings: Rings of the walkers.
        pool: Threads that run `slide` side by side for several walkers.
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
    """Run the new frames of all windows through `taps`, the changed through `mix`; store both."""
    new = [ring.unanswered_features() for ring in rings]
    taps, gates = encoder.taps(_concatenate(new))
    slots, sums, features = [], [], []
    for ring, shares, own_gates in zip(rings, _split(taps, new), _split(gates, new), strict=True):
        ring.store(ring.slots(ring.held - own_gates.shape[1]), {KEPT[3]: own_gates})
        changed_slots, changed_sums = ring.add_frames(shares)
        slots.append(changed_slots)
        sums.append(changed_sums)
        features.append(ring.features[:, changed_slots])
    mixed = encoder.mix(_concatenate(features), _concatenate(sums))
    logits, score_hidden = (_split(rows, sums) for rows in mixed)
    for ring, changed, own, *outputs in zip(rings, slots, sums, logits, score_hidden, strict=True):
        ring.store_changed(changed, own, dict(zip(KEPT[1:3], outputs, strict=True)))


def _concatenate(rows: Sequence[Floats]) -> Floats:
    """Return the frames [p, m, ..] of all walkers in one batch."""
    return rows[0] if len(rows) == 1 else np.concatenate(rows, 1)


def _split(batch: Floats, rows: Sequence[Floats]) -> Iterator[Floats]:
    """Yield the frames of each walker in a batch of all: as many as it has in `rows`."""
    begin = 0
    for own in rows:
        yield batch[:, begin : begin + own.shape[1]]
        begin += own.shape[1]
