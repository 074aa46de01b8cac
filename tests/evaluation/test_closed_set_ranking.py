"""Rank-k, mAP and mINP: worked by hand, and against loops over the definitions."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from cstl_edge.evaluation.closed_set import METRICS, RANKS, rank_metrics, score_probes

from .conftest import made_walks, plain_distance


def plain_rank(distance, mates):
    """METRICS of one probe by their definitions, entry by entry."""
    order = sorted(range(len(distance)), key=lambda g: (distance[g], g))
    places = [
        place for place, g in enumerate(order, start=1) if mates[g] and np.isfinite(distance[g])
    ]
    total = sum(mates)
    row = [float(any(place <= k for place in places)) for k in RANKS]
    precision = [(n + 1) / place for n, place in enumerate(places)]
    row.append(sum(precision) / total if total else 0.0)
    row.append(total / places[-1] if places and len(places) == total else 0.0)
    return row


def test_by_hand():
    """Mates at ranks 2 and 4 of 5: AP (1/2 + 2/4) / 2, INP 2/4."""
    distance = np.array([[0.5, 0.1, 0.3, 0.9, 0.7]], np.float32)
    mates = np.array([[False, False, True, False, True]])
    assert METRICS == ("rank-1", "rank-5", "rank-10", "mAP", "mINP")
    assert rank_metrics(distance, mates).tolist() == [[0, 1, 1, 0.5, 0.5]]


def test_ties_go_to_the_gallery_s_first():
    distance = np.zeros((1, 3), np.float32)
    first, second = np.array([[True, False, False]]), np.array([[False, True, False]])
    assert rank_metrics(distance, first)[0].tolist() == [1, 1, 1, 1, 1]
    assert rank_metrics(distance, second)[0].tolist() == [0, 1, 1, 0.5, 0.5]


def test_what_is_infinitely_far_is_never_found():
    distance = np.array([[np.inf, np.inf], [1.0, np.inf]], np.float32)
    mates = np.array([[True, False], [True, True]])
    # the second probe finds one of its two mates: half of the precision, no last one
    assert rank_metrics(distance, mates).tolist() == [[0, 0, 0, 0, 0], [1, 1, 1, 0.5, 0]]


@settings(max_examples=60, deadline=None)
@given(hnp.arrays(np.int8, (4, 12), elements=st.integers(0, 6)), hnp.arrays(np.bool_, (4, 12)))
def test_equals_the_definitions(levels, mates):
    """Few levels make many ties; the highest of them is infinite."""
    distance = np.where(levels == 6, np.inf, levels).astype(np.float32)
    expected = [plain_rank(d, m) for d, m in zip(distance.tolist(), mates.tolist(), strict=True)]
    assert np.allclose(rank_metrics(distance, mates), expected)


def test_scores_equal_loops_over_float64():
    walks = made_walks(people=5, spread=1.0)
    rng = np.random.default_rng(1)
    probes, gallery = np.split(rng.permutation(len(walks.people)), [40])
    values, mated = score_probes(walks, probes, gallery)
    for row, probe in enumerate(probes):
        distance = [plain_distance(walks, probe, g) for g in gallery]
        mates = [walks.people[probe] == walks.people[g] for g in gallery]
        assert np.allclose(values[row], plain_rank(distance, mates))
        assert mated[row] == any(mates)


def test_embeddings_that_are_not_finite_match_nobody_and_nobody_matches_them():
    walks = made_walks(people=2, views=(0,), spread=0.0)
    walks.embeddings[0, 1, 2] = np.nan  # one number suffices
    walks.embeddings[1] = np.inf
    other = np.flatnonzero(walks.people == 11)
    # the nearest left of somebody else, though two of the probe's own are in the gallery
    values, mated = score_probes(walks, np.array([2]), np.array([0, 1, *other]))
    assert values[0].tolist() == [0, 0, 0, 0, 0]
    assert mated[0]
    values, _ = score_probes(walks, np.array([0, 1]), np.array([2, 3, *other]))
    assert not values.any()


def test_an_empty_gallery_finds_nobody():
    values, mated = score_probes(made_walks(), np.arange(3), np.arange(0))
    assert not values.any()
    assert not mated.any()
