"""Paired comparison of two models over the same people."""

import numpy as np
import pytest

from cstl_edge.evaluation.intervals import bootstrap, by_person, compare

RNG = np.random.default_rng(5)


def test_small_steady_gain_is_significant():
    """People differ far more than the models do: only the paired interval can see it."""
    people = RNG.random(50)
    better = np.clip(people + 0.02 + 0.01 * RNG.normal(size=50), 0, 1)
    comparison = compare(better, people)
    low, high = comparison.interval_95
    assert comparison.verdict == "better"
    assert low < comparison.difference < high
    assert comparison.difference == pytest.approx((better - people).mean())
    first, second = bootstrap(better), bootstrap(people)
    assert first[0] < second[1]  # the unpaired intervals overlap
    swapped = compare(people, better)
    assert swapped.verdict == "worse"
    assert swapped.difference == pytest.approx(-comparison.difference)


def test_interval_around_zero_gives_no_verdict():
    a, b = RNG.random(40), RNG.random(40)
    assert compare(a, b).verdict == "none"
    assert compare(a, a).verdict == "none"


def test_interval_equals_a_paired_bootstrap():
    a, b = RNG.random(30), RNG.random(30)
    drawn = [(a - b)[RNG.integers(0, 30, 30)].mean() for _ in range(3000)]
    expected = np.quantile(drawn, [0.025, 0.975])
    assert compare(a, b).interval_95 == pytest.approx(expected, abs=0.02)


def test_compare_refuses_different_people():
    for a, b in (([0.1, 0.2], [0.1]), ([[0.1]], [[0.2]]), ([0.1], [0.2])):
        with pytest.raises(ValueError, match="same people"):
            compare(np.array(a), np.array(b))


def test_by_person_leaves_out_nan():
    hits = np.array([[1, np.nan], [0, 0], [1, 1]])
    assert by_person(hits, np.array([7, 7, 3])).tolist() == [1.0, pytest.approx(1 / 3)]
