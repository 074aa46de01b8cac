"""People of one gallery who are as near each other as one person's walks are."""

from __future__ import annotations

import numpy as np

from cstl_edge.gallery.index import MAX_PROBES, TemplateIndex

LookAlike = tuple[str, str, float, float]  # two names, their distance, the threshold


def look_alikes(index: TemplateIndex, limit: float) -> list[LookAlike]:
    """Return the pairs of people of whom one would be taken for the other, the nearest first.

    Args:
        index: Templates of the gallery, with its distance.
        limit: Distance below which a name is given.
    """
    if len(index.names) < 2:
        return []
    ends = np.append(index.starts[1:], index.templates.shape[2])
    each = max(1, MAX_PROBES // len(index.names))
    columns = [
        np.unique(np.linspace(start, end - 1, min(each, end - start)).astype(np.intp))
        for start, end in zip(index.starts, ends, strict=True)
    ]
    owners = np.repeat(np.arange(len(columns)), [len(one) for one in columns])
    distances = index.candidates(index.queries_of(np.concatenate(columns)), 2)  # [k, people]
    nearest = np.stack([np.median(distances[owners == i], axis=0) for i in range(len(columns))])
    nearest = np.minimum(nearest, nearest.T)
    first, second = np.nonzero(np.triu(nearest < limit, 1))
    pairs = [
        (index.names[i], index.names[j], float(nearest[i, j]), limit)
        for i, j in zip(first, second, strict=True)
    ]
    return sorted(pairs, key=lambda pair: pair[2])
