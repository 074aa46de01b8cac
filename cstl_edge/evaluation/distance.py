"""The distance of two embeddings, the mean over parts of the Euclidean one, in bounded memory.

OU-MVLP's test half is 133,478 sequences of 32 parts in 512 dimensions: 4.4 GB in float16, which
stay in a mapped file. What is in memory at a time is at most `BLOCK_BYTES`, whatever the sizes.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from cstl_edge.evaluation.walks import Floats, Rows, Vectors

BLOCK_BYTES = 512 * 2**20


def part_mean_distance(a: Vectors, b: Vectors) -> Floats:
    """Return the mean over parts of the Euclidean distance: [i, p, d] and [j, p, d] to [i, j].

    Computed in float32, where an embedding is up to a thousandth of its length away from itself.
    Whatever is not finite is infinitely far from everything.
    """
    total = np.zeros((len(a), len(b)), np.float32)
    for part in range(a.shape[1]):
        x, y = (np.asarray(side[:, part], np.float32) for side in (a, b))  # [i, d], [j, d]
        with np.errstate(invalid="ignore"):  # infinity minus infinity
            square = x @ y.T
            square *= -2
            square += (x * x).sum(1)[:, None]
            square += (y * y).sum(1)[None]
            total += np.sqrt(np.maximum(square, 0, out=square), out=square)
    total /= a.shape[1]
    total[~np.isfinite(total)] = np.inf
    return total


def distance_rows(
    embeddings: Vectors, probes: Rows, gallery: Rows, limit_bytes: int = BLOCK_BYTES
) -> Iterator[tuple[slice, Floats]]:
    """Yield the distances of some probes after another to the whole gallery: which, [i, g].

    embeddings: [m, p, d], may be a mapped file; probes, gallery: indices into m
    limit_bytes: what all blocks together may take
    """
    parts, dims = embeddings.shape[1:]
    rows, columns = block_shape(len(gallery), parts, dims, limit_bytes)
    for top in range(0, len(probes), rows):
        some = slice(top, min(top + rows, len(probes)))
        a = embeddings[probes[some]]
        distance = np.empty((len(a), len(gallery)), np.float32)
        for left in range(0, len(gallery), columns):
            b = embeddings[gallery[left : left + columns]]
            distance[:, left : left + columns] = part_mean_distance(a, b)
        yield some, distance


def block_shape(
    gallery: int, parts: int, dims: int, limit_bytes: int = BLOCK_BYTES
) -> tuple[int, int]:
    """Return how many probes and how many gallery entries are in memory at a time.

    Either takes its embedding (4 bytes a number at most) and one part of it at work. A probe has
    its distances besides, twice, for the caller still holds the last ones; every pair of the two
    three numbers at work. Probes get half of the limit, entries and pairs the other.

    >>> block_shape(4767, 32, 512)
    (2444, 2657)
    """
    half, entry = limit_bytes // 2, 4 * parts * dims + 12 * dims  # bytes
    rows = max(1, half // (entry + 8 * gallery))
    return rows, max(1, half // (entry + 12 * rows))
