"""P×K batch sampler and the field's frame rules; batches follow from the seed on every machine.

Every batch is a function of (seed, batch number) alone. A run that resumes at batch 1,234, inside
an epoch or not, therefore gets exactly the batches of a run that never stopped, and a thread may
prepare the next batch while this one is computed. Processes that train together each take a share
of the people of the same batch, so their number changes nothing either. Letters: `m` sequences of
the set, `n` of a batch, `s` frames, `h w` pixels.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from cstl_edge.arrays import Indices, Silhouettes
from cstl_edge.data.augment import Augmentation
from cstl_edge.errors import ConfigError, DataError

FrameRule = Callable[[int, int, np.random.Generator], Indices]
"""Frames [s] of a sequence, by its length, the number of frames wanted and random numbers."""


class Sequences(Protocol):
    """Sequences of many people, in memory or mapped from disk."""

    people: Indices  # [m]
    lengths: Indices  # [m] frames

    def read(self, sequence: int) -> Silhouettes:
        """Return one whole sequence, uint8 [s, h, w]."""


@dataclass(frozen=True)
class Batch:
    """One training batch: `people`·`sequences` silhouette sequences of equal length."""

    number: int
    silhouettes: Silhouettes  # [n, s, h, w]
    labels: Indices  # [n], index into the sorted people of the set
    rows: Indices  # [n], sequence numbers in the set: they name a batch in an error


def _contiguous_frames(length: int, frames: int, rng: np.random.Generator) -> Indices:
    """Return consecutive frames from a random start."""
    if length < frames:
        return _repeated_frames(length, frames, rng)
    return np.arange(frames) + rng.integers(length - frames + 1)


def _thinned_frames(length: int, frames: int, rng: np.random.Generator) -> Indices:
    """Return frames of a window a third longer, in order (30 out of 40)."""
    if length < frames:
        return _repeated_frames(length, frames, rng)
    return _window_frames(length, min(length, round(frames * 4 / 3)), frames, rng)


def _tiled_frames(length: int, frames: int, rng: np.random.Generator) -> Indices:
    """Return frames of a window a third longer of the looped sequence.

    A sequence shorter than the window is repeated from its first frame until it is long enough; the
    frames are in playing order, so that a walk may continue from its end at its beginning.
    """
    _refuse_empty(length)
    window = round(frames * 4 / 3)
    return _window_frames(length * -(-window // length), window, frames, rng) % length


def _window_frames(length: int, window: int, frames: int, rng: np.random.Generator) -> Indices:
    start = rng.integers(length - window + 1)
    return start + np.sort(rng.choice(window, frames, replace=False))


def _repeated_frames(length: int, frames: int, rng: np.random.Generator) -> Indices:
    """Return all frames of a sequence that is too short, some of them several times, in order."""
    _refuse_empty(length)
    extra = rng.choice(length, frames % length, replace=False)
    return np.sort(np.concatenate([np.tile(np.arange(length), frames // length), extra]))


def _refuse_empty(length: int) -> None:
    if length < 1:
        raise DataError("expected a sequence of at least one frame, got an empty one")


FRAME_RULES: Mapping[str, FrameRule] = {
    "released": _contiguous_frames,  # of the released code
    "paper": _thinned_frames,
    "opengait": _tiled_frames,
}


class Sampler:
    """Sampler of batches of P people × K sequences; everyone comes once per epoch."""

    def __init__(
        self,
        data: Sequences,
        *,
        people: int,
        sequences: int,
        frames: int,
        rule: str = "paper",
        seed: int = 0,
        augmentation: Augmentation | None = None,
        rank: int = 0,
        ranks: int = 1,
    ) -> None:
        """Draw from `data`.

        Args:
            data: Sequences, which may be larger than memory.
            people: P of a batch.
            sequences: K of a batch.
            frames: Length of every sequence of a batch.
            rule: Rule by which frames are chosen, a key of FRAME_RULES.
            seed: Seed of all draws.
            augmentation: Changes to every sequence drawn; None leaves all as they are.
            rank: Rank of this process: its share of a batch is the people P·rank/ranks onwards.
            ranks: Number of processes.

        Raises:
            ConfigError: there are fewer people than P, or P does not divide among the ranks.
        """
        self.data, self.frames, self.seed = data, frames, seed
        self.augmentation = augmentation or Augmentation()
        self.people, self.sequences = people, sequences
        self.rule = FRAME_RULES[rule]
        self.ids = np.unique(data.people)
        self._of_person = [np.flatnonzero(data.people == person) for person in self.ids]
        self.next_batch = 0
        self._settings = [people, sequences, frames, rule, seed, len(data.people)]
        if len(self.ids) < people:
            raise ConfigError(
                f"expected at least {people} people for batches of {people} × {sequences}, got "
                f"{len(self.ids)}. Lower sampler.people or give more data"
            )
        if people % ranks:
            raise ConfigError(
                f"expected sampler.people to divide among {ranks} processes, got {people}. Take "
                f"{people // ranks * ranks or ranks} or another number of processes"
            )
        share = people // ranks * sequences
        self._share = range(rank * share, (rank + 1) * share)

    def __next__(self) -> Batch:
        """Return the next batch and step on."""
        batch = self.batch(self.next_batch)
        self.next_batch += 1
        return batch

    def batch(self, number: int) -> Batch:
        """Return batch `number`, or this rank's share of it, whatever was drawn before."""
        rng = np.random.default_rng([self.seed, 1, number])
        labels = np.repeat(self._people_of(number), self.sequences)  # [P·K]
        rows = np.concatenate([self._rows_of(label, rng) for label in labels[:: self.sequences]])
        drawn = [self._frames_of(int(row), rng, i in self._share) for i, row in enumerate(rows)]
        share = slice(self._share.start, self._share.stop)
        return Batch(number, np.stack(drawn[share]), labels[share], rows[share])

    def state_dict(self) -> dict[str, Any]:
        """Return what `load_state_dict` needs to go on after the last batch, fit for JSON."""
        return {"next_batch": self.next_batch, "settings": self._settings}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where `state` was taken; the data and settings must be those of then."""
        if list(state["settings"]) != self._settings:
            raise ConfigError(
                f"expected the sampler of the saved run {list(state['settings'])}, got "
                f"{self._settings} (people, sequences, frames, rule, seed, size of the data)"
            )
        self.next_batch = int(state["next_batch"])

    def _people_of(self, number: int) -> Indices:
        """Return P labels; the few people that do not fill an epoch's last batch are left out."""
        epoch, place = divmod(number, len(self.ids) // self.people)
        order = np.random.default_rng([self.seed, 0, epoch]).permutation(len(self.ids))
        return order[place * self.people : (place + 1) * self.people]

    def _rows_of(self, label: int, rng: np.random.Generator) -> Indices:
        rows = self._of_person[label]
        return rng.choice(rows, self.sequences, replace=len(rows) < self.sequences)

    def _frames_of(self, row: int, rng: np.random.Generator, in_share: bool) -> Silhouettes:
        length = int(self.data.lengths[row])
        span = self.augmentation.span(self.frames, length, rng)  # that the chosen ones lie in
        thinned = np.linspace(0, span - 1, self.frames).round().astype(np.int64)
        chosen = self.rule(length, span, rng)[thinned]
        # Another rank's sequence is not read, but draws its random numbers: one stream for all.
        silhouettes = self.data.read(row)[chosen] if in_share else self._blank  # [s, h, w]
        return self.augmentation(silhouettes, rng)

    @functools.cached_property
    def _blank(self) -> Silhouettes:
        return np.zeros((self.frames, *self.data.read(0).shape[1:]), np.uint8)
