"""The distance of two embeddings: the mean over parts of the Euclidean distance."""

from __future__ import annotations

import numpy as np

from cstl_edge.evaluation.walks import Floats


def part_mean_distance(a: Floats, b: Floats) -> Floats:
    """Return the mean over parts of the Euclidean distance: [i, p, d] and [j, p, d] to [i, j]."""
    total = np.zeros((len(a), len(b)), np.float32)
    for part in range(a.shape[1]):
        x, y = a[:, part], b[:, part]  # [i, d], [j, d]
        square = (x * x).sum(1)[:, None] + (y * y).sum(1)[None] - 2 * (x @ y.T)
        total += np.sqrt(np.maximum(square, 0))
    total /= a.shape[1]
    return total
