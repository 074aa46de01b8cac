"""How near a walk is to a person who was enrolled from several: fusion of their walks' scores.

Half is the distance to the person's nearest entry, which knows the side and the clothes of the
search best; half is 1 - cos to the mean of the walks that are nearest to it, in which what one walk
has by chance cancels out. Letters: w walks of a person, f of them that are fused.
"""

from __future__ import annotations

import numpy as np

from cstl_edge.arrays import Floats, Indices

FUSED_WALKS = 4
_TINY = np.float32(1e-6)


def nearest_walks(similar: Floats, most: int) -> Indices:
    """Return the places of the walks most like a search, the most alike first: [..., f].

    Args:
        similar: [..., w], cosines of the search and the mean of each walk.
        most: How many at most.
    """
    return np.asarray(np.argsort(-similar, axis=-1, kind="stable")[..., :most], np.intp)


def fused_distances(nearest: Floats, similar: Floats, alike: Floats) -> Floats:
    """Return the distances of searches to people, from those to their walks: [...].

    Args:
        nearest: [...], the distance to each person's nearest entry.
        similar: [..., f], cosines of the search and the means of the walks that are nearest to it.
        alike: [..., f, f], cosines of these walks' means with one another.
    """
    length = np.sqrt(np.maximum(alike.mean(axis=(-2, -1)), _TINY))  # of the mean of unit vectors
    together = np.maximum(1 - similar.mean(axis=-1) / length, 0)
    return np.asarray((nearest + together) / 2, np.float32)
