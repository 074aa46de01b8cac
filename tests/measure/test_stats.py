"""Percentiles, summaries and JSON lines."""

import ctypes
import math
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cstl_edge.measure.stats import MAX_SAMPLES, Samples, percentile, summary


def test_percentiles_equal_trtexecs():
    samples = [float(i) for i in range(1, 101)]
    assert [percentile(samples, q) for q in (50, 90, 99, 100)] == [50.0, 90.0, 100.0, 100.0]
    assert percentile([7.0], 99) == 7.0
    with pytest.raises(ValueError, match="at least one"):
        percentile([], 50)


def single(x):
    return ctypes.c_float(x).value


@settings(deadline=None)
@given(
    st.lists(st.floats(0, 1e6), min_size=1, max_size=1200),
    st.sampled_from([1, 5, 50, 75, 90, 95, 99, 99.9, 100]),
)
def test_percentile_is_a_sample_with_so_many_above_it(samples, q):
    """Counted from the raw samples, without sorting them."""
    actual = percentile(samples, q)
    left_out = math.floor(single(single(1 - single(single(q) / 100)) * len(samples)))
    counts = Counter(samples)
    assert counts[actual] > 0
    above = sum(n for x, n in counts.items() if x > actual)
    assert above <= left_out
    if left_out < len(samples):
        assert above + counts[actual] > left_out


@pytest.mark.parametrize(
    ("count", "q", "place"),
    [(10, 90, 9), (100, 90, 90), (100, 95, 95), (99, 99, 99), (100, 99, 100), (200, 99, 199)],
)
def test_percentile_has_the_place_that_single_precision_gives(count, q, place):
    """Places from 1, as a C++ program computed them; in exact numbers p99 of 100 is the 99th."""
    assert percentile([float(i) for i in range(count, 0, -1)], q) == place


@settings(deadline=None)
@given(st.lists(st.floats(0.001, 1e6), min_size=1, max_size=300))
def test_summaries_count_all_and_lie_within(samples):
    actual = summary(samples)
    assert actual["count"] == len(samples)
    assert actual["mean_ms"] == pytest.approx(math.fsum(samples) / len(samples), abs=5.1e-5)
    marks = [actual[f"p{q}_ms"] for q in (50, 90, 95, 99)]
    assert marks == sorted(marks)
    assert marks[-1] <= round(max(samples), 4)


def test_stages_keep_their_samples():
    samples = Samples()
    with samples.time("a"):
        pass
    samples.add("a", 3.0)
    assert samples.summary()["a"]["count"] == 2
    assert samples.by_stage["a"][1] == 3.0
    assert summary([1.0, 2.0, 3.0])["mean_ms"] == 2.0


def test_a_failing_block_is_timed_too():
    samples = Samples()

    def fail():
        with samples.time("a"):
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert len(samples.by_stage["a"]) == 1


def test_a_long_run_keeps_the_newest_samples_and_counts_all() -> None:
    samples = Samples()
    for i in range(MAX_SAMPLES + 5):
        samples.add("a", float(i))
    assert len(samples.by_stage["a"]) == MAX_SAMPLES
    assert samples.by_stage["a"][0] == 5.0
    assert samples.summary()["a"]["count"] == MAX_SAMPLES + 5
    assert samples.summary()["a"]["mean_ms"] == (MAX_SAMPLES + 4) / 2
    total = Samples()
    total.update(samples)
    assert total.summary() == samples.summary()
