"""The latest frames of a walker in a ring, and how a batch of such windows becomes embeddings.

Two ways with the same numbers: whole windows through `head`, or, where the encoder can, the frames
that a slide has changed through `local` and the rest as it was kept. Letters as in `base`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from cstl_edge.errors import DataError, one_line
from cstl_edge.runtime.base import Embedded, Encoder, Floats, Ints

REACH = 2  # frames to either side that `local` sees
FEATURES = "kept_features"


class SlidingEncoder(Encoder, Protocol):
    """An encoder with the head in two cuts, for windows that slide; its info says `slides`.

    What is kept of a frame by name, `kept_features` [n, p, s, c] among them, depends on no more
    than two frames to either side; in a window that slides, most of it stays.
    """

    def local(self, features: Floats, lengths: Ints) -> dict[str, Floats]:
        """Return what to keep of strips of consecutive frames [n, s, p, c]: [n, p, s, ..] each."""

    def slide(self, kept: Mapping[str, Floats], oldest: Ints) -> Embedded:
        """Return the embeddings of full windows, each from its frame `oldest` [n] on and round."""


class Ring:
    """The latest part features of one walker."""

    def __init__(self, window: int, parts: int, channels: int, min_frames: int) -> None:
        self.features = np.empty((window, parts, channels), np.float32)
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

    def slots(self, frames: Sequence[int]) -> Ints:
        """Return where in the ring frames of the window lie, 0 the oldest."""
        return (self.oldest + np.array(frames, np.int32)) % np.int32(self.window)

    def copy_to(self, window: Floats) -> None:
        """Write the frames held, oldest first, to the beginning of `window` [s, p, c]."""
        tail = self.held - self.oldest
        window[:tail] = self.features[self.oldest : self.held]
        window[tail : self.held] = self.features[: self.oldest]


class SlidingRing(Ring):
    """The latest frames of one walker with all that is kept of them between two answers."""

    def __init__(self, window: int, parts: int, channels: int, min_frames: int) -> None:
        super().__init__(window, parts, channels, min_frames)
        self.features = np.empty((parts, window, channels), np.float32)
        self.kept = {FEATURES: self.features}  # [p, window, ..]; the others come with `take`
        self._answered = 0  # the value of `seen` when the rest was up to date

    def push(self, feature: Floats) -> None:
        """Take the features [p, c] of one more frame, over the oldest ones."""
        self.features[:, self.seen % self.window] = feature
        self.seen += 1

    def strip(self) -> tuple[list[int], list[int]]:
        """Return which frames of the window to send through `local`, and which of these to take."""
        new = min(self.seen - self._answered, self.held)
        return changed(self.held, new, self.seen > self.window)

    def take(self, found: Mapping[str, Floats], slots: Ints) -> None:
        """Keep what was found, [p, s, ..] each, of the frames in `slots` [s]; all is up to date."""
        for name, values in found.items():
            if name not in self.kept:
                self.kept[name] = np.empty((len(values), self.window, values.shape[2]), np.float32)
            self.kept[name][:, slots] = values
        self._answered = self.seen


def changed(held: int, new: int, slid: bool) -> tuple[list[int], list[int]]:
    """Return the frames of a window that `local` has to see, and the places there of the changed.

    held: frames in the window; new: how many came since it was last up to date; slid: whether its
    beginning moved. A frame within `REACH` of an end that moves has changed; one more `REACH` is
    what the changed ones see. `local` takes the two runs of frames for one: where they meet, and
    where the strip begins within the window, it is wrong for `REACH` frames, which are not taken.

    >>> changed(held=30, new=1, slid=True)
    ([0, 1, 2, 3, 25, 26, 27, 28, 29], [0, 1, 6, 7, 8])
    >>> changed(held=5, new=1, slid=False)
    ([0, 1, 2, 3, 4], [0, 1, 2, 3, 4])
    """
    first = list(range(2 * REACH)) if slid else []
    begin = held - new - 2 * REACH
    if begin <= len(first):  # the two runs touch, or the strip begins with the window
        return list(range(held)), list(range(held))
    frames = first + list(range(begin, held))
    return frames, [*range(REACH if slid else 0), *range(len(first) + REACH, len(frames))]


def embed_whole(encoder: Encoder, rings: Sequence[Ring]) -> Embedded:
    """Run the windows through the head, in one batch."""
    info = encoder.info
    lengths = np.array([ring.held for ring in rings], np.int32)
    windows = np.zeros((len(rings), lengths.max(), info.parts, info.channels), np.float32)
    for ring, window in zip(rings, windows, strict=True):
        ring.copy_to(window)
    return encoder.head(windows, lengths)


def embed_slid(encoder: SlidingEncoder, rings: Sequence[SlidingRing]) -> Embedded:
    """Bring what is kept of the windows up to date, in one batch, and answer from it, in one."""
    _update(encoder, rings)
    info = encoder.info
    embedding = np.empty((len(rings), info.parts, info.embedding), np.float32)
    salient_frames = np.empty((len(rings), info.parts), np.int32)
    for held in sorted({ring.held for ring in rings}):  # one batch, but for windows that still grow
        places = [i for i, ring in enumerate(rings) if ring.held == held]
        alike = [rings[i] for i in places]
        oldest = np.array([ring.oldest for ring in alike], np.int32)
        answers = encoder.slide(_stacked(alike, held), oldest)
        embedding[places], salient_frames[places] = answers
    return Embedded(embedding, salient_frames)


def _stacked(rings: Sequence[SlidingRing], held: int) -> dict[str, Floats]:
    """Return what is kept of windows of as many frames, [n, p, s, ..]; one alone is not copied."""
    kept = [{name: values[:, :held] for name, values in ring.kept.items()} for ring in rings]
    if len(kept) == 1:
        return {name: values[None] for name, values in kept[0].items()}
    return {name: np.stack([one[name] for one in kept]) for name in kept[0]}


def check_oldest(oldest: Any, kept: Mapping[str, Floats]) -> None:
    """Refuse what is not an int32 array [n] of frames of the windows kept (DataError)."""
    n, _, s = kept[FEATURES].shape[:3]
    if not isinstance(oldest, np.ndarray) or oldest.dtype != np.int32 or oldest.shape != (n,):
        raise DataError(f"expected oldest as int32 [{n}]; got {one_line(oldest)}")
    if oldest.min() < 0 or oldest.max() >= s:
        raise DataError(f"expected oldest in 0..{s - 1}; got {one_line(oldest.tolist())}")


def _update(encoder: SlidingEncoder, rings: Sequence[SlidingRing]) -> None:
    """Send the strips of changed frames through `local`, and keep what it says."""
    strips = [ring.strip() for ring in rings]
    lengths = np.array([len(frames) for frames, _ in strips], np.int32)
    info = encoder.info
    batch = np.zeros((len(rings), lengths.max(), info.parts, info.channels), np.float32)
    for ring, (frames, _), features in zip(rings, strips, batch, strict=True):
        features[: len(frames)] = ring.features[:, ring.slots(frames)].swapaxes(0, 1)  # [s, p, c]
    found = encoder.local(batch, lengths)  # [n, p, s, ..] each
    for i, (ring, (frames, taken)) in enumerate(zip(rings, strips, strict=True)):
        slots = ring.slots([frames[k] for k in taken])
        ring.take({name: values[i][:, taken] for name, values in found.items()}, slots)
