"""Limits follow from the rows of peaks and costs."""

import onnx
import pytest
from standin_bench import GOLDEN, context_of, ran

from cstl_edge.bench.record import Case, Row
from cstl_edge.bench.roofline.limits import MachineLimits, device_of
from cstl_edge.bench.roofline.op_count import count_cost
from cstl_edge.bench.scenarios import roofline

CONTEXT = context_of(GOLDEN / "tiny_reduced", short=False)
MODEL = CONTEXT.model


def peak_row(precision, rate, device="cpu", name="a"):
    details = {"kind": "arithmetic", "device": device, "precision": precision, "kernel": name}
    return row_of(details=details, values={"gmacs_per_s": rate})


def bandwidth_row(level, rate, capacity=None, device="cpu"):
    details = {"kind": "bandwidth", "device": device, "level": level, "capacity_bytes": capacity}
    return row_of(details=details, values={"gbytes_per_s": rate, "megabytes": 1.0})


def row_of(**given):
    return Row(**{"run": "r", "scenario": "roofline", "contender": "c", "subject": MODEL, **given})


def times(ms, precision="float32", computed_in="float32", case=None, **given):
    case, how = case or Case(graph="frames", batch=4), ran(precision, computed_in)
    samples = {"wall": [ms, ms, ms * 2]}
    return row_of(**{"scenario": "graph", "ran": how, "case": case, "samples": samples, **given})


@pytest.fixture(scope="module")
def costs():
    """The costs of the tiny network."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(roofline, "kernels", lambda threads: [])
        return [*roofline.rows(CONTEXT)]


@pytest.fixture
def rows(costs):
    """The costs of the tiny network beside peaks of round numbers."""
    return [
        *costs,
        peak_row("float32", 80.0),
        peak_row("float32", 100.0, name="b"),
        peak_row("int8", 400.0),
        bandwidth_row("l2", 200.0, 2**20),
        bandwidth_row("l3", 50.0, 2**25),
        bandwidth_row("memory", 10.0),
    ]


def test_the_limit_is_the_slower_of_arithmetic_and_bytes(rows):
    limits = MachineLimits(rows)
    assert limits.peak("cpu", "float32") == 100.0  # the best kernel
    assert limits.peak("gpu", "float32") is None
    assert limits.bandwidth("cpu", "l3") == 50.0
    actual = limits.limit_of(times(1.0))
    cost = limits.cost(times(1.0))
    assert actual.bound == "arithmetic"
    assert actual.level == "l2"
    assert actual.least_ms == pytest.approx(cost["gmacs"] / 100 * 1e3)
    assert actual.share == pytest.approx(actual.least_ms)
    assert actual.reached_gmacs_per_s == pytest.approx(cost["gmacs"] * 1e3)
    assert actual.attainable_gmacs_per_s == pytest.approx(100.0)
    assert actual.intensity == pytest.approx(cost["gmacs"] / cost["gbytes"])
    fast = MachineLimits([*rows, peak_row("float32", 1e6)]).limit_of(times(1.0))
    assert fast.bound == "bandwidth"
    assert fast.least_ms == pytest.approx(cost["gbytes"] / 200 * 1e3)


def test_bytes_that_fit_no_cache_go_at_the_speed_of_memory(rows):
    levels = [row for row in rows if row.details["kind"] != "bandwidth"]
    small = [bandwidth_row("l2", 200.0, 8), bandwidth_row("memory", 10.0)]
    actual = MachineLimits([*levels, *small, peak_row("float32", 1e6)]).limit_of(times(1.0))
    assert (actual.level, actual.bound) == ("memory", "bandwidth")


@pytest.mark.parametrize(("n", "s"), [(1, 30), (3, 17), (16, 120)])
def test_costs_of_other_cases_follow(rows, n, s):
    row = times(1.0, case=Case(graph="head", batch=n, frames=s))
    model = onnx.load(CONTEXT.folder / "head.onnx")
    counted = count_cost(model, {"features": (n, s, 4, 16), "lengths": (n,)})
    actual = MachineLimits(rows).cost(row)
    assert actual["gmacs"] == pytest.approx(counted.total_macs / 1e9)
    assert actual["gbytes"] == pytest.approx(counted.least_bytes / 1e9, rel=1e-3)
    assert actual["gbytes_between"] == pytest.approx(counted.intermediate_bytes / 1e9, rel=1e-2)


def test_each_kind_of_multiply_add_has_its_own_peak(rows):
    limits = MachineLimits(rows)
    case = Case(graph="full", batch=2, frames=30)
    actual = limits.limit_of(times(1.0, "int8", "float32 and int8", case))
    cost = limits.cost(times(1.0, "int8", "int8", case))
    expected = cost["gmacs_int8"] / 400 + cost["gmacs_float32"] / 100
    assert actual.least_ms == pytest.approx(expected * 1e3)
    on_cpu = limits.limit_of(times(1.0, "float16", "float32", case))  # a float16 file computed wide
    assert on_cpu.least_ms == pytest.approx(on_cpu.gmacs / 100 * 1e3)


def test_of_several_precisions_the_fastest_is_the_limit(rows):
    limits = MachineLimits([*rows, peak_row("bfloat16", 200.0)])
    mixed = limits.limit_of(times(1.0, "float32", "bfloat16 and float32"))
    assert mixed.least_ms == pytest.approx(mixed.gmacs / 200 * 1e3)


def test_a_precision_without_a_file_takes_the_float32_graph(rows):
    limits = MachineLimits([*rows, peak_row("bfloat16", 200.0)])
    narrow, wide = (limits.limit_of(times(1.0, kind, kind)) for kind in ("bfloat16", "float32"))
    assert narrow.gmacs == wide.gmacs
    assert narrow.gbytes == wide.gbytes / 2
    assert narrow.least_ms == wide.least_ms / 2


def test_the_devices_own_time_counts_where_there_is_one(rows):
    samples = {"wall": [9.0], "compute": [2.0]}
    assert MachineLimits(rows).limit_of(times(1.0, samples=samples)).median_ms == 2.0


@pytest.mark.parametrize(
    "given",
    [
        {"samples": {}},
        {"ran": None},
        {"case": Case(graph="streaming", batch=1)},
        {"case": Case(graph="frames")},
        {"subject": MODEL.model_copy(update={"weights_sha256": "1" * 64})},
        {"computed_in": "float64"},
    ],
    ids=str,
)
def test_a_row_without_peaks_times_or_costs_has_no_limit(rows, given):
    assert MachineLimits(rows).limit_of(times(1.0, **given)) is None
    assert MachineLimits([]).limit_of(times(1.0)) is None


def test_rates_of_nothing_are_no_limits(rows):
    kept = [row for row in rows if row.details["kind"] == "cost"]
    zero = [*kept, peak_row("float32", 0.0), bandwidth_row("memory", 10.0)]
    assert MachineLimits(zero).limit_of(times(1.0)) is None
    zero = [*kept, peak_row("float32", 10.0), bandwidth_row("memory", 0.0)]
    assert MachineLimits(zero).limit_of(times(1.0)) is None
    free = [row.model_copy(update={"values": dict.fromkeys(row.values, 0.0)}) for row in kept]
    assert (
        MachineLimits([*free, *zero[-2:], bandwidth_row("l2", 1.0, 9)]).limit_of(times(1.0)) is None
    )


def test_a_provider_other_than_a_cpu_is_a_gpu():
    assert device_of(ran()) == "cpu"
    assert device_of(ran(provider="NVIDIA Orin")) == "gpu"
