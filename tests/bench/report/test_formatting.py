"""Numbers of the report with as many digits as their intervals allow."""

import numpy as np
import pytest
from standin_results import needs_bench

from cstl_edge.bench.report.formatting import Quantile, number, percent, quantile


@needs_bench
@pytest.mark.parametrize("q", [50, 90, 95, 99])
def test_the_interval_holds_the_percentile_about_as_often_as_it_says(q):
    rng = np.random.default_rng(q)
    true = -np.log(1 - q / 100)  # of an exponential distribution
    held = 0
    for _ in range(300):
        actual = quantile(rng.exponential(size=400).tolist(), q)
        held += (actual.low or 0) <= true <= (actual.high if actual.high is not None else np.inf)
    assert held >= 0.93 * 300


@needs_bench
def test_few_samples_set_no_bound_to_a_high_percentile():
    actual = quantile([float(x) for x in range(150)], 99)
    assert actual.high is None
    assert actual.low is not None
    assert actual.value == 148.0  # index n - 1 - int(0.01 n)


@needs_bench
def test_one_sample_is_every_percentile_and_has_no_interval():
    assert quantile([3.456], 99) == Quantile(3.456, 3.456, None)
    assert str(quantile([3.456], 99)) == "3.5"


@pytest.mark.parametrize(
    ("value", "error", "shown"),
    [
        (1.8342, None, "1.83"),
        (1.8342, 0.2, "1.8"),
        (1.8342, 1.5, "1.8"),
        (17.04, 0.05, "17.0"),
        (49.13, 2.0, "49"),
        (0.03817, 0.0001, "0.0382"),
        (9.996, None, "10.0"),
        (12345.6, None, "12,300"),
        (0.0, None, "0"),
        (-2.5, None, "-2.50"),
        (1.5e-8, None, "1.50e-08"),
    ],
)
def test_a_figure_has_the_digits_that_it_carries(value, error, shown):
    assert number(value, error) == shown


def test_percents_lose_their_decimal_where_the_error_is_a_percent():
    assert [percent(0.8134, e) for e in (None, 0.004, 0.01)] == ["81.3 %", "81.3 %", "81 %"]
