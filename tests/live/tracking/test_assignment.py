"""Assignment: the least sum of costs, as scipy finds it; impossible pairs are none."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cstl_edge.live.tracking.assignment import assign

optimize = pytest.importorskip("scipy.optimize", reason="scipy is not among the edge's packages")


def test_the_best_sum_goes_before_the_best_pair():
    assert assign([[1.0, 1.1], [1.2, 9.0]], limit=10.0) == [(0, 1), (1, 0)]


def test_pairs_of_the_limit_or_more_and_impossible_ones_are_none():
    assert assign([[3.0, None], [None, 2.9]], limit=3.0) == [(1, 1)]
    assert assign([], limit=1.0) == []
    assert assign([[], []], limit=1.0) == []


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 6), st.integers(1, 6))
def test_the_sum_is_that_of_scipy(seed: int, rows: int, columns: int):
    table = np.random.default_rng(seed).uniform(0, 4, (rows, columns))
    costs = [[None if cost > 3 else float(cost) for cost in row] for row in table]
    pairs = assign(costs, limit=2.5)
    assert len({row for row, _ in pairs}) == len({column for _, column in pairs}) == len(pairs)
    limited = np.minimum(np.where(table > 3, 9.0, table), 2.5)
    best = (limited[optimize.linear_sum_assignment(limited)] - 2.5).sum()
    assert sum(table[pair] - 2.5 for pair in pairs) == pytest.approx(best)
