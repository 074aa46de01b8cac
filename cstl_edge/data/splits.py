"""Which people of a dataset are trained on and which are tested, in one place for both.

CASIA-B is split as everybody splits it: the first 74 people train, the other 50 test. OU-MVLP as
the field splits it, odd ids up to 10305 against even ids and 10307, 5,153 people against 5,154;
the paper's wording (section 4.1, "the first 5153") is a split of its own. People are chosen by
their number, so that a part of a dataset is split as the whole of it is. Letters: `m` sequences,
`s` frames, `h w` pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

import numpy as np
import numpy.typing as npt

from cstl_edge.arrays import Bools, Indices, Silhouettes
from cstl_edge.data.sampling import Sequences
from cstl_edge.errors import ConfigError

FIELD = "field"  # the split that published figures are about

SPLITS: Mapping[str, Mapping[str, Callable[[Indices], Bools]]] = {
    "casia-b": {FIELD: lambda ids: ids <= 74},
    "ou-mvlp": {
        FIELD: lambda ids: (ids % 2 == 1) & (ids <= 10305),
        "first-5153": lambda ids: ids <= 5153,
    },
}
"""For each kind of dataset and each split of it, who is trained on."""


class Labelled(Sequences, Protocol):
    """Sequences of which view and recording are known too."""

    views_deg: Indices  # [m]
    sequences: npt.NDArray[np.str_]  # [m], names of recordings such as nm-01


def train_ids(kind: str, split: str, ids: Indices) -> Indices:
    """Return those of the sorted person ids that are trained on.

    kind, split: keys of SPLITS
    ids: [people]
    Raises ConfigError for a kind or split that is not there.
    """
    return ids[_trained(kind, split, ids)]


def test_ids(kind: str, split: str, ids: Indices) -> Indices:
    """Return those of the sorted person ids that are tested: all that are not trained on.

    Arguments and errors as for `train_ids`.
    """
    return ids[~_trained(kind, split, ids)]


class People:
    """The sequences of some people of a larger set, numbered anew."""

    def __init__(self, data: Labelled, ids: Indices) -> None:
        """Choose the people `ids`; nothing is read."""
        self._data = data
        self._rows = np.flatnonzero(np.isin(data.people, ids))
        self.people, self.lengths = data.people[self._rows], data.lengths[self._rows]
        self.views_deg, self.sequences = data.views_deg[self._rows], data.sequences[self._rows]

    def read(self, sequence: int) -> Silhouettes:
        """Return one whole sequence, uint8 [s, h, w]."""
        return self._data.read(int(self._rows[sequence]))


def _trained(kind: str, split: str, ids: Indices) -> Bools:
    if kind not in SPLITS:
        raise ConfigError(
            f"expected a dataset that has a split ({', '.join(SPLITS)}), got {kind!r}. Train on "
            "all of its people and test on another dataset"
        )
    if split not in SPLITS[kind]:
        raise ConfigError(f"expected a split of {kind} ({', '.join(SPLITS[kind])}), got {split!r}")
    return SPLITS[kind][split](ids)
