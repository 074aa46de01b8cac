"""Streaming encoder: each frame passes the trunk once, each window the head once per hop.

Letters as in `base`. A ring holds the last part features of each walker; the embeddings are exactly
those of the full network for the same frames, whatever else is in the batches.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np

from cstl_edge.arrays import Floats, Ints, Silhouettes
from cstl_edge.errors import ConfigError, DataError, one_line
from cstl_edge.runtime.base import Encoder, check_array
from cstl_edge.runtime.streaming.rings import Ring
from cstl_edge.runtime.streaming.windows import open_windows

log = logging.getLogger(__name__)

Walker = TypeVar("Walker", bound=Hashable)


@dataclass(frozen=True)
class StreamResult:
    """Embedding of a walker's window."""

    embedding: Floats  # [p, d]
    salient_frames: Ints
    """[p]: the frame of the window, 0 the oldest, that gave each part; -1 without SSFL."""
    frames_seen: int  # of this walker since its first
    window_frames: int  # the latest of them, that the embedding is of


class StreamingEncoder(Generic[Walker]):
    """Windows over the frames of many walkers, on any encoder. Not thread-safe.

    Memory: window · p · c floats for each of at most `max_walkers` (0.5 MB at the paper's widths);
    ten times as many where windows slide. On a GPU it is the GPU's.
    """

    def __init__(
        self,
        encoder: Encoder,
        window: int = 30,
        hop: int = 5,
        min_frames: int | None = None,
        max_walkers: int = 64,
        slide: bool = True,
    ) -> None:
        """Begin without walkers (ConfigError for numbers that contradict each other).

        Args:
            encoder: Encoder that embeds.
            window: Number of frames of a window.
            hop: Number of frames between two embeddings of a walker.
            min_frames: Number of frames before the first embedding; by default a full window.
            max_walkers: Number of walkers held at once.
            slide: True to compute again, where the encoder can, only what a slide changes.
        """
        first = window if min_frames is None else min_frames
        if min(window, hop, first, max_walkers) < 1 or first > window:
            raise ConfigError(
                "expected window, hop, max_walkers >= 1 and min_frames in 1..window; got "
                f"window {window}, hop {hop}, max_walkers {max_walkers}, min_frames {first}"
            )
        self.encoder = encoder
        self.window, self.hop, self.min_frames, self.max_walkers = window, hop, first, max_walkers
        self.forgotten = 0  # walkers dropped because there were more than `max_walkers`
        self.not_finite = 0  # embeddings held back because of a NaN or an infinity
        info = encoder.info
        self.slides = slide and info.slides  # or windows go through the head whole
        if not self.slides:
            why = "as asked for" if info.slides else "the only form that this model has here"
            log.info("windows go through the head whole, %s", why)
        self._windows = open_windows(encoder, window, max_walkers, hop=hop, slide=slide)
        self._rings: OrderedDict[Walker, Ring] = OrderedDict()  # the longest unseen walker first

    def __len__(self) -> int:
        """Return the number of walkers held."""
        return len(self._rings)

    def push(self, silhouettes: Mapping[Walker, Silhouettes]) -> dict[Walker, StreamResult]:
        """Take one more frame [h, w] of each of some walkers; embed those whose turn it is.

        Turns are staggered: one push runs at most its share, 1/hop, of these walkers' heads; those
        longest overdue go first, the others wait for a later push. So a walker's embeddings are
        `hop` of its frames apart, and up to 2·hop - 1 where walkers who came together are spread.

        Raises DataError for silhouettes that cannot be used; then no walker has moved on.
        """
        if not silhouettes:
            return {}
        if len(silhouettes) > self.max_walkers:
            raise DataError(
                f"expected at most {self.max_walkers} walkers in a frame; got {len(silhouettes)}. "
                "Raise max_walkers"
            )
        batch = self._batch(silhouettes)
        for walker in silhouettes:  # all of them before anyone is forgotten for a new one
            if walker in self._rings:
                self._rings.move_to_end(walker)
        self._windows.push([self._ring(walker) for walker in silhouettes], batch)
        return self._run_heads(self._turns(silhouettes))

    def close(self, walker: Walker) -> None:
        """Forget a walker; an unknown walker is no error."""
        ring = self._rings.pop(walker, None)
        if ring is not None:
            self._windows.drop(ring)

    def _batch(self, silhouettes: Mapping[Walker, Silhouettes]) -> Silhouettes:
        """Stack silhouettes to [m, h, w] after checking each."""
        for walker, silhouette in silhouettes.items():
            try:
                check_array("silhouettes", silhouette, np.uint8, self.encoder.info.size)
            except DataError as err:
                raise DataError(f"walker {one_line(walker)}: {err}") from err
        return np.stack(list(silhouettes.values()))

    def _ring(self, walker: Walker) -> Ring:
        """Return the ring of a walker, a new one for a new walker."""
        if walker not in self._rings:
            if len(self._rings) >= self.max_walkers:
                longest_unseen, ring = self._rings.popitem(last=False)
                self._windows.drop(ring)
                self.forgotten += 1
                forgotten = one_line(longest_unseen)
                log.warning("more than %d walkers: %s is forgotten", self.max_walkers, forgotten)
            self._rings[walker] = self._windows.ring(self.min_frames)
        return self._rings[walker]

    def _turns(self, pushed: Mapping[Walker, Silhouettes]) -> list[Walker]:
        """Return the walkers whose heads run now: the share of this push, longest overdue first."""
        overdue = {w: self._rings[w].seen - self._rings[w].next_head_at for w in pushed}
        due = sorted((w for w in pushed if overdue[w] >= 0), key=lambda w: -overdue[w])
        return due[: -(-len(pushed) // self.hop)]

    def _run_heads(self, due: list[Walker]) -> dict[Walker, StreamResult]:
        """Run the windows of the due walkers through the head, in one batch."""
        if not due:
            return {}
        rings = [self._rings[walker] for walker in due]
        embedded = self._windows.embed(rings)
        if embedded is None:  # the GPU failed: these walkers begin anew
            return {}
        results = {}
        for i, (walker, ring) in enumerate(zip(due, rings, strict=True)):
            ring.next_head_at = ring.seen + self.hop
            if embedded.finite[i]:
                results[walker] = StreamResult(
                    embedded.embedding[i], embedded.salient_frames[i], ring.seen, ring.held
                )
        self._warn_not_finite(len(due) - len(results))
        return results

    def _warn_not_finite(self, count: int) -> None:
        """Count embeddings held back, and warn of the first."""
        if count and not self.not_finite:
            log.warning("the network gave a NaN or an infinity: such embeddings are held back")
        self.not_finite += count
