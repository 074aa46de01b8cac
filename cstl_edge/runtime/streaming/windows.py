"""Windows of walkers: where their latest part features are held, and how they are embedded.

Letters as in `base`. On a CPU features are arrays; a GPU keeps them in its own memory, so that
between `frames` and `head` nothing is copied to the host (`KeepingEncoder`).
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol, cast

import numpy as np

from cstl_edge.arrays import Silhouettes
from cstl_edge.runtime.base import Embedded, Encoder
from cstl_edge.runtime.streaming.rings import (
    FeatureRing,
    Ring,
    SlidingEncoder,
    SlidingRing,
    embed_slid,
    embed_whole,
)
from cstl_edge.runtime.streaming.steps import Stepper, SteppingEncoder


class WindowStore(Protocol):
    """The latest part features of walkers. Not thread-safe."""

    def ring(self, min_frames: int) -> Ring:
        """Return the ring of a new walker, who is embedded from `min_frames` frames on."""

    def push(self, rings: Sequence[Ring], silhouettes: Silhouettes) -> None:
        """Run `frames` on one silhouette [m, h, w] of each of m walkers and hold the features."""

    def embed(self, rings: Sequence[Ring]) -> Embedded | None:
        """Run the windows through the head, in one batch; None where they were lost."""

    def drop(self, ring: Ring) -> None:
        """Forget a walker."""


class KeepingEncoder(Encoder, Protocol):
    """An encoder that keeps windows where it computes; `info.keeps_windows` is true."""

    def windows(self, window: int, walkers: int) -> WindowStore:
        """Return windows of so many frames for at most so many walkers at once."""


class HostWindows:
    """Features in arrays; each window goes through the head whole."""

    def __init__(self, encoder: Encoder, window: int) -> None:
        """Begin without walkers, with windows of so many frames."""
        self._encoder, self._window = encoder, window

    def ring(self, min_frames: int) -> Ring:
        """Return the ring of a new walker."""
        info = self._encoder.info
        return FeatureRing(self._window, info.parts, info.channels, min_frames)

    def push(self, rings: Sequence[Ring], silhouettes: Silhouettes) -> None:
        """Run `frames` and hold the features."""
        features = self._encoder.frames(silhouettes)  # [m, p, c]
        for ring, feature in zip(cast(Sequence[FeatureRing], rings), features, strict=True):
            ring.push(feature)

    def embed(self, rings: Sequence[Ring]) -> Embedded | None:
        """Run the windows through the head."""
        return embed_whole(self._encoder, cast(Sequence[FeatureRing], rings))

    def drop(self, ring: Ring) -> None:
        """Do nothing: the ring holds its own."""


class SlidingWindows(HostWindows):
    """Features in arrays; only what a slide changes is computed again."""

    def __init__(self, encoder: SlidingEncoder, window: int) -> None:
        """Begin without walkers, with windows of so many frames."""
        super().__init__(encoder, window)
        self._sliding, threads = encoder, encoder.info.threads
        self._pool = ThreadPoolExecutor(threads) if threads > 1 else None

    def ring(self, min_frames: int) -> Ring:
        """Return the ring of a new walker."""
        info = self._encoder.info
        return SlidingRing(self._window, info.parts, info.channels, min_frames)

    def embed(self, rings: Sequence[Ring]) -> Embedded | None:
        """Run the windows through the incremental head."""
        return embed_slid(self._sliding, cast(Sequence[SlidingRing], rings), self._pool)


class SteppingWindows(SlidingWindows):
    """Windows that slide by one frame, each frame and its answer by one call (`steps`).

    For hop 1: everybody who is pushed is embedded next. Windows that are not full yet, and several
    at once of a network with many weights, go the way of `SlidingWindows`, beside the others.
    """

    def __init__(self, encoder: SteppingEncoder, window: int) -> None:
        """Begin without walkers, with windows of so many frames."""
        super().__init__(encoder, window)
        self._graph = encoder.step_graph()
        self._steps: dict[Ring, Stepper] = {}
        self._answers: dict[Ring, Embedded] = {}  # of the last push

    def push(self, rings: Sequence[Ring], silhouettes: Silhouettes) -> None:
        """Take in the frames, and embed the windows that can step."""
        self._answers = {}
        able = [i for i, ring in enumerate(cast(Sequence[SlidingRing], rings)) if ring.can_step]
        if len(able) > 1 and not self._graph.light:
            able = []
        rest = [i for i in range(len(rings)) if i not in able]
        if rest:
            super().push([rings[i] for i in rest], silhouettes[rest])
        if able:
            run = self._pool.map if self._pool is not None and len(able) > 1 else map
            walkers = [rings[i] for i in able]
            answers = run(self._step, walkers, silhouettes[able])
            self._answers = dict(zip(walkers, answers, strict=True))

    def embed(self, rings: Sequence[Ring]) -> Embedded | None:
        """Return what the last push embedded, or run the windows through the incremental head."""
        answers, self._answers = self._answers, {}
        rest = [ring for ring in rings if ring not in answers]
        embedded = super().embed(rest) if rest else None
        if not answers:
            return embedded
        if embedded is not None:
            for i, ring in enumerate(rest):
                rows = slice(i, i + 1)
                answers[ring] = Embedded(embedded.embedding[rows], embedded.salient_frames[rows])
        in_order = [answers[ring] for ring in rings]
        if len(in_order) == 1:
            return in_order[0]
        return Embedded(*map(np.concatenate, zip(*in_order, strict=True)))

    def drop(self, ring: Ring) -> None:
        """Forget what is bound to a walker's state."""
        self._steps.pop(ring, None)

    def _step(self, ring: Ring, silhouette: Silhouettes) -> Embedded:
        """Take in one frame [h, w] of a walker."""
        if ring not in self._steps:
            sliding = cast(SlidingRing, ring)
            self._steps[ring] = Stepper(self._graph, self._encoder.info, sliding)
        return self._steps[ring].take(silhouette)


def open_windows(
    encoder: Encoder, window: int, walkers: int, *, hop: int, slide: bool
) -> WindowStore:
    """Return the windows that suit an encoder.

    Args:
        encoder: Encoder that embeds.
        window: Number of frames of a window.
        walkers: Number of walkers held at once.
        hop: Number of frames between two embeddings of a walker.
        slide: True to compute again, where the encoder can, only what a slide changes.
    """
    if encoder.info.keeps_windows:
        return cast(KeepingEncoder, encoder).windows(window, walkers)
    if slide and encoder.info.steps and hop == 1:
        return SteppingWindows(cast(SteppingEncoder, encoder), window)
    if slide and encoder.info.slides:
        return SlidingWindows(cast(SlidingEncoder, encoder), window)
    return HostWindows(encoder, window)
