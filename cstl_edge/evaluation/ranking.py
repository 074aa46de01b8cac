"""Rank-k, mAP and mINP of probes against one gallery.

Ties go to the entry that comes first in the gallery. A probe or an entry that failed to enrol is
infinitely far from everything and is never found; it counts as missed, not as absent.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from cstl_edge.evaluation.distance import distance_rows
from cstl_edge.evaluation.walks import Bools, Floats, Rows, Walks

RANKS = (1, 5, 10)
METRICS = (*(f"rank-{k}" for k in RANKS), "mAP", "mINP")

CELLS = 2**21  # distances that are sorted at a time, about 40 bytes each

Scores = npt.NDArray[np.float64]


def scores(walks: Walks, probes: Rows, gallery: Rows) -> tuple[Scores, Bools]:
    """Return METRICS of every probe [probes, 5], and whether its person is in the gallery.

    probes, gallery: indices into the walks; a probe without a mate scores 0
    """
    found = np.zeros((len(probes), len(METRICS)))
    who, entries = walks.people[probes], walks.people[gallery]
    if len(gallery):
        step = max(1, CELLS // len(gallery))
        for some, distance in distance_rows(walks.embeddings, probes, gallery):
            for top in range(0, len(distance), step):
                rows = slice(some.start + top, min(some.start + top + step, some.stop))
                mates = who[rows, None] == entries[None]  # [i, g]
                found[rows] = rank(distance[top : top + step], mates)
    return found, np.isin(who, entries)


def rank(distance: Floats, mates: Bools) -> Scores:
    """Return METRICS of probes [i, 5] from distances [i, g] and who is whose mate [i, g].

    Average precision is the mean over mates of the precision at each one's rank, inverse negative
    penalty the number of mates divided by the rank of the last of them; both are 0 for mates that
    are never found.
    """
    order = np.argsort(distance, axis=1, kind="stable")
    found = np.take_along_axis(mates & np.isfinite(distance), order, axis=1)  # by rank
    ranks = np.arange(1, found.shape[1] + 1)
    hits = np.cumsum(found, axis=1)
    count = np.maximum(mates.sum(axis=1), 1)
    out = np.empty((len(found), len(METRICS)))
    for column, k in enumerate(RANKS):
        out[:, column] = hits[:, min(k, found.shape[1]) - 1] > 0
    out[:, -2] = np.where(found, hits / ranks, 0).sum(axis=1) / count
    last = (found * ranks).max(axis=1)
    out[:, -1] = np.where(hits[:, -1] == count, count / np.maximum(last, 1), 0)
    return out
