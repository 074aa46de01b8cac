"""Agreement of a walk's windows, and of walks: whether they can be of one person.

A walker's own windows lie far nearer to each other than to a stranger's, within seconds and in one
camera all the more. Two that are as far apart as the model's strangers, its nearest left out, are
of two people. Two walks are of one person for sure only where they are far nearer than that.
Letters: k windows, p parts, d embedding dimensions.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from cstl_edge.arrays import Bools, Floats
from cstl_edge.gallery.thresholds import ImpostorTable
from cstl_edge.live.pipeline.options import TrackRecord
from cstl_edge.runtime.base import EncoderInfo

STRANGERS = 0.001  # share of strangers who are nearer to a single window than the limit
ONE_PERSON = 0.4
"""Share of the limit below which two walks are of one person: of a thousand pairs of people whom
one camera sees from one side, one at most is as near, of whatever kind of synthetic people."""


class Agreement:
    """Compares windows by the model's distance; a model without an impostor table says nothing."""

    def __init__(self, info: EncoderInfo) -> None:
        """Take distance and limit from what the model says of itself."""
        self._distance = info.distance
        self.limit: float | None = None
        if info.impostors is not None:
            table = ImpostorTable(info.impostors)
            self.limit = table.value(people=1, fpir=STRANGERS, walks=1, seen=1)

    def is_other(self, earlier: Floats, newest: Floats) -> bool:
        """Return whether a window is of somebody else than those before it.

        earlier: [k, p, d], k may be 0; newest: [p, d], which shares no frames with them
        """
        if self.limit is None or not len(earlier):
            return False
        mean = earlier.mean(0, keepdims=True, dtype=np.float32)
        return bool(self._distance.pairwise(newest[None], mean)[0, 0] > self.limit)

    def are_of_one_person(self, walks: Sequence[TrackRecord]) -> bool:
        """Return whether somebody walked several times, and nobody else: surely, or False.

        Two people who are taken for one would be enrolled without being asked. Walks that overlap
        in time are of two people, whatever they look like.
        """
        if self.limit is None or not all(len(walk.embeddings) for walk in walks):
            return False
        spans = [
            (walk.started_s, walk.ended_s)
            for walk in walks
            if walk.started_s is not None and walk.ended_s is not None
        ]
        follow = all(one[1] <= other[0] for one, other in pairwise(sorted(spans)))
        if len(spans) < len(walks) or not follow:
            return False
        means = np.stack([walk.embeddings.mean(axis=0, dtype=np.float32) for walk in walks])
        return bool((self._distance.pairwise(means, means) <= ONE_PERSON * self.limit).all())

    def of_one_person(self, windows: Floats) -> Bools:
        """Return [k] which windows [k, p, d] agree with the one that most others agree with."""
        if self.limit is None or len(windows) < 2:
            return np.ones(len(windows), bool)
        agree = self._distance.pairwise(windows, windows) <= self.limit
        np.fill_diagonal(agree, val=True)
        middle: Bools = agree[int(agree.sum(1).argmax())]
        return middle
