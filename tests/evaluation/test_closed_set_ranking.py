"""Rank-k, mAP and mINP against worked examples and loops over the definitions."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from cstl_edge.evaluation.closed_set import METRICS, RANKS, rank_metrics, score_probes

from .conftest import draw_labelled, plain_distance


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


def test_rank_metrics_of_a_worked_example():
    """Mates at ranks 2 and 4 of 5: AP (1/2 + 2/4) / 2, INP 2/4."""
    distance = np.array([[0.5, 0.1, 0.3, 0.9, 0.7]], np.float32)
    mates = np.array([[False, False, True, False, True]])
    assert METRICS == ("rank-1", "rank-5", "rank-10", "mAP", "mINP")
    assert rank_metrics(distance, mates).tolist() == [[0, 1, 1, 0.5, 0.5]]


def test_ties_are_ranked_in_gallery_order():
    distance = np.zeros((1, 3), np.float32)
    first, second = np.array([[True, False, False]]), np.array([[False, True, False]])
    assert rank_metrics(distance, first)[0].tolist() == [1, 1, 1, 1, 1]
    assert rank_metrics(distance, second)[0].tolist() == [0, 1, 1, 0.5, 0.5]


def test_mates_at_infinite_distance_are_never_ranked():
    distance = np.array([[np.inf, np.inf], [1.0, np.inf]], np.float32)
    mates = np.array([[True, False], [True, True]])
    # the second probe finds one of its two mates: half of the precision, no last one
    assert rank_metrics(distance, mates).tolist() == [[0, 0, 0, 0, 0], [1, 1, 1, 0.5, 0]]


@settings(max_examples=60, deadline=None)
@given(hnp.arrays(np.int8, (4, 12), elements=st.integers(0, 6)), hnp.arrays(np.bool_, (4, 12)))
def test_rank_metrics_equal_their_definitions(levels, mates):
    """Few levels make many ties; the highest of them is infinite."""
    distance = np.where(levels == 6, np.inf, levels).astype(np.float32)
    expected = [plain_rank(d, m) for d, m in zip(distance.tolist(), mates.tolist(), strict=True)]
    assert np.allclose(rank_metrics(distance, mates), expected)


def test_score_probes_equals_float64_loops():
    labelled = draw_labelled(people=5, spread=1.0)
    rng = np.random.default_rng(1)
    probes, gallery = np.split(rng.permutation(len(labelled.people)), [40])
    values, mated = score_probes(labelled, probes, gallery)
    for row, probe in enumerate(probes):
        distance = [plain_distance(labelled, probe, g) for g in gallery]
        mates = [labelled.people[probe] == labelled.people[g] for g in gallery]
        assert np.allclose(values[row], plain_rank(distance, mates))
        assert mated[row] == any(mates)


def test_nonfinite_embeddings_match_nobody():
    labelled = draw_labelled(people=2, views=(0,), spread=0.0)
    labelled.embeddings[0, 1, 2] = np.nan  # one number suffices
    labelled.embeddings[1] = np.inf
    other = np.flatnonzero(labelled.people == 11)
    # the nearest left of somebody else, though two of the probe's own are in the gallery
    values, mated = score_probes(labelled, np.array([2]), np.array([0, 1, *other]))
    assert values[0].tolist() == [0, 0, 0, 0, 0]
    assert mated[0]
    values, _ = score_probes(labelled, np.array([0, 1]), np.array([2, 3, *other]))
    assert not values.any()


def test_empty_gallery_matches_nobody():
    values, mated = score_probes(draw_labelled(), np.arange(3), np.arange(0))
    assert not values.any()
    assert not mated.any()
