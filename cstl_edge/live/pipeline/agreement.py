"""Agreement of a walk's windows: whether they can be of one person.

A walker's own windows lie far nearer to each other than to a stranger's, within seconds and in one
camera all the more. Two that are as far apart as the model's strangers, its nearest left out, are
of two people. Letters: k windows, p parts, d embedding dimensions.
"""

from __future__ import annotations

import numpy as np

from cstl_edge.arrays import Bools, Floats
from cstl_edge.gallery.thresholds import ImpostorTable
from cstl_edge.runtime.base import EncoderInfo

STRANGERS = 0.001  # share of strangers who are nearer to a single window than the limit


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

    def of_one_person(self, windows: Floats) -> Bools:
        """Return [k] which windows [k, p, d] agree with the one that most others agree with."""
        if self.limit is None or len(windows) < 2:
            return np.ones(len(windows), bool)
        agree = self._distance.pairwise(windows, windows) <= self.limit
        np.fill_diagonal(agree, val=True)
        middle: Bools = agree[int(agree.sum(1).argmax())]
        return middle
