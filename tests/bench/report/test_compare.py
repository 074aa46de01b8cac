"""Comparison of two sides: sure differences, corrected p-values, dependent samples."""

import itertools

import numpy as np
import pytest
from standin_results import SUBJECT, graph_rows, needs_bench, row, samples

from cstl_edge.bench.record import Case
from cstl_edge.bench.report.compare import compare, holm, independent, mann_whitney

CASE = Case(graph="full", batch=1, frames=30)


def one(taken, **more):
    return row(case=CASE, samples={"wall": list(taken)}, **more)


def verdict(before, after):
    (difference,) = compare([one(before)], [one(after)])
    return difference.verdict


@needs_bench
def test_identical_samples_do_not_differ():
    same = samples(10.0)
    assert verdict(same, same) == "no difference"
    assert verdict([5.0] * 50, [5.0] * 50) == "no difference"


@needs_bench
def test_shifted_samples_differ():
    assert verdict(samples(10.0, seed=1), samples(9.0, seed=2)) == "faster"
    assert verdict(samples(10.0, seed=1), samples(11.0, seed=2)) == "slower"


@needs_bench
def test_a_significant_difference_below_2_percent_is_none():
    (difference,) = compare([one(samples(10.0, 4000, 1, 0.01))], [one(samples(9.9, 4000, 2, 0.01))])
    assert difference.p < 1e-6
    assert difference.verdict == "no difference"
    (difference,) = compare([difference.before], [difference.after], smallest=0.005)
    assert difference.verdict == "faster"


@needs_bench
@pytest.mark.parametrize("count", [1, 7])
def test_few_samples_have_no_verdict(count):
    assert verdict(samples(10.0, count), samples(1.0, count)) == "too few samples"


@needs_bench
def test_the_effect_is_the_ratio_of_medians_and_how_often_a_sample_is_quicker():
    before, after = samples(10.0, seed=3), samples(9.0, seed=4)
    (difference,) = compare([one(before)], [one(after)])
    ordered = [sorted(x)[len(x) - 1 - int(0.5 * len(x))] for x in (after, before)]
    assert difference.ratio == ordered[0] / ordered[1]
    assert difference.interval[0] < difference.ratio < difference.interval[1]
    pairs = itertools.product(independent(before), independent(after))
    wins = [(b > a) + 0.5 * (b == a) for b, a in pairs]
    assert difference.quicker == pytest.approx(np.mean(wins))


@needs_bench
def test_no_false_alarm_among_many_rows_of_the_same_speed():
    differences = compare(graph_rows(seed=0), graph_rows(seed=9000))
    assert len(differences) == 24
    assert {one.verdict for one in differences} == {"no difference"}


@needs_bench
def test_only_what_shares_scenario_contender_case_and_network_is_matched():
    before = [one(samples(10.0)), row(scenario="single", case=CASE, samples={"wall": samples(9.0)})]
    others = [
        one(samples(8.0), contender="openvino float32"),
        one(samples(8.0), subject=SUBJECT.model_copy(update={"widths": (8, 8, 8, 8)})),
        row(case=Case(graph="full", batch=2, frames=30), samples={"wall": samples(8.0)}),
    ]
    assert compare(before, others) == []
    retrained = one(samples(8.0), subject=SUBJECT.model_copy(update={"weights_sha256": "b" * 64}))
    assert [difference.verdict for difference in compare(before, [retrained])] == ["faster"]


def test_holm_by_hand():
    assert holm([0.01, 0.04, 0.03, 0.005]) == [0.03, 0.06, 0.06, 0.02]
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([]) == []


@needs_bench
def test_samples_that_follow_each_other_count_less():
    rng = np.random.default_rng(0)
    noise = rng.normal(size=1000)
    assert independent(noise.tolist()) == noise.tolist()
    drifting = np.convolve(noise, np.ones(20) / 20, "same") + 10
    assert len(independent(drifting.tolist())) < 150


@needs_bench
def test_a_drift_of_one_machine_is_no_difference_of_two():
    rng = np.random.default_rng(1)
    alarms = 0
    for _ in range(20):
        walks = [10 + np.convolve(rng.normal(size=400), np.ones(40) / 40, "same") for _ in "ab"]
        alarms += mann_whitney(*(independent(w.tolist()) for w in walks))[0] < 0.01
    assert alarms <= 2
