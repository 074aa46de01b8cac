"""Best one-to-one assignment of few rows to few columns (Hungarian method)."""

from __future__ import annotations

import math
from collections.abc import Sequence


def assign(costs: Sequence[Sequence[float | None]], limit: float) -> list[tuple[int, int]]:
    """Return the pairs (row, column) with the least sum of costs; a row may stay without one.

    A pair is worth `limit` less its cost, so none of `limit` or more is chosen. Shortest augmenting
    paths with potentials, as in Jonker and Volgenant, Computing 38, 1987.

    Args:
        costs: Cost of each pair, None where it is impossible.
        limit: Cost of leaving a row without a column.
    """
    rows, columns = len(costs), len(costs[0]) if costs else 0
    if not columns:
        return []
    single = _singles(costs, limit)
    if single is not None:
        return single
    # behind the columns one for each row, which means: none
    table = [[limit if c is None else min(c, limit) for c in row] + [limit] * rows for row in costs]
    width = columns + rows
    u, v = [0.0] * (rows + 1), [0.0] * (width + 1)
    owner = [0] * (width + 1)  # row of each column, from 1; 0 is none
    for row in range(1, rows + 1):
        owner[0], free = row, 0
        least, before, done = [math.inf] * (width + 1), [0] * (width + 1), [False] * (width + 1)
        while owner[free]:
            done[free] = True
            here, delta, then = owner[free], math.inf, 0
            for j in range(1, width + 1):
                if done[j]:
                    continue
                reduced = table[here - 1][j - 1] - u[here] - v[j]
                if reduced < least[j]:
                    least[j], before[j] = reduced, free
                if least[j] < delta:
                    delta, then = least[j], j
            for j in range(width + 1):
                if done[j]:
                    u[owner[j]] += delta
                    v[j] -= delta
                else:
                    least[j] -= delta
            free = then
        while free:
            owner[free] = owner[before[free]]
            free = before[free]
    pairs = [(owner[j] - 1, j - 1) for j in range(1, columns + 1) if owner[j]]
    return sorted((i, j) for i, j in pairs if costs[i][j] is not None and table[i][j] < limit)


def _singles(costs: Sequence[Sequence[float | None]], limit: float) -> list[tuple[int, int]] | None:
    """Return the pairs where no row and no column has a choice, as in most frames; else None."""
    possible = [
        (i, j)
        for i, row in enumerate(costs)
        for j, c in enumerate(row)
        if c is not None and c < limit
    ]
    alone = len({i for i, _ in possible}) == len({j for _, j in possible}) == len(possible)
    return possible if alone else None
