"""Splits of datasets into people to train on and people to test on.

CASIA-B has the field's split: the first 74 people train, the other 50 test. So has OU-MVLP: odd ids
up to 10305 against even ids and 10307, 5,153 people against 5,154; the paper's wording (section
4.1, "the first 5153") is a split of its own. People are chosen by their number, so that a part of a
dataset is split as the whole of it is. Letters: `m` sequences, `s` frames, `h w` pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

import numpy as np
import numpy.typing as npt

from cstl_edge.arrays import Bools, Indices, Silhouettes
from cstl_edge.data.sampling import Sequences
from cstl_edge.errors import ConfigError

FIELD = "field"  # the split of published figures

SPLITS: Mapping[str, Mapping[str, Callable[[Indices], Bools]]] = {
    "casia-b": {FIELD: lambda ids: ids <= 74},
    "ou-mvlp": {
        FIELD: lambda ids: (ids % 2 == 1) & (ids <= 10305),
        "first-5153": lambda ids: ids <= 5153,
    },
}
"""For each dataset and each split of it, the rule for ids that are trained on."""


class LabelledSequences(Sequences, Protocol):
    """Sequences with their view and the name of their recording."""

    views_deg: Indices  # [m]
    sequences: npt.NDArray[np.str_]  # [m], names of recordings such as nm-01


def is_trained(kind: str, split: str, ids: Indices) -> Bools:
    """Return which person ids are trained on, [people]; all others are tested.

    Args:
        kind: Name of the dataset, a key of SPLITS.
        split: Name of the split, a key of that dataset's splits.
        ids: [people] ids of the people.

    Raises:
        ConfigError: an unknown kind or split.
    """
    if kind not in SPLITS:
        raise ConfigError(
            f"expected a dataset that has a split ({', '.join(SPLITS)}), got {kind!r}. Train on "
            "all of its people and test on another dataset"
        )
    if split not in SPLITS[kind]:
        raise ConfigError(f"expected a split of {kind} ({', '.join(SPLITS[kind])}), got {split!r}")
    return SPLITS[kind][split](ids)


class PeopleSubset:
    """The sequences of the people `ids` of a larger set, numbered anew; nothing is read yet."""

    def __init__(self, data: LabelledSequences, ids: Indices) -> None:
        self._data = data
        self._rows = np.flatnonzero(np.isin(data.people, ids))
        self.people, self.lengths = data.people[self._rows], data.lengths[self._rows]
        self.views_deg, self.sequences = data.views_deg[self._rows], data.sequences[self._rows]

    def read(self, sequence: int) -> Silhouettes:
        """Return one whole sequence, uint8 [s, h, w]."""
        return self._data.read(int(self._rows[sequence]))
