"""Peaks are what kernels did by the clock, costs are counted, and limits are what follows."""

from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest

from cstl_edge.bench.context import Budget, Context
from cstl_edge.bench.record import Case, ModelUnderTest, Ran, Row
from cstl_edge.bench.roofline import kernel as kernel_module
from cstl_edge.bench.roofline import peaks, sample_graphs
from cstl_edge.bench.roofline.limits import MachineLimits, device_of
from cstl_edge.bench.roofline.op_count import count_cost
from cstl_edge.bench.scenarios import roofline
from cstl_edge.errors import ModelError
from cstl_edge.measure.timing import Timing
from cstl_edge.runtime import model_check

FOLDER = Path(__file__).parents[2] / "golden" / "tiny_reduced"
SUBJECT = ModelUnderTest(name="tiny", weights_sha256="0" * 64, size=(16, 12), parts=4)
CPU = Ran(
    backend="onnxruntime",
    provider="CPUExecutionProvider",
    precision="float32",
    computed_in="float32",
    version="1",
)


@pytest.fixture
def context(monkeypatch):
    monkeypatch.setattr(model_check, "probe", lambda graphs, shape: None)  # these files are our own
    return Context(
        run="r",
        folder=FOLDER,
        weights=None,
        model=SUBJECT,
        threads=1,
        budget=Budget(warm_up_s=0, seconds=0.01, samples=1),
        progress=lambda line: None,
    )


def kernel(work=1e9, prepare=lambda: lambda: None, kind="arithmetic", **changes):
    told = {"device": "cpu", "name": "stand-in", "precision": "float32", "ran": CPU, **changes}
    return kernel_module.Kernel(kind=kind, work=work, prepare=prepare, **told)


def test_a_peak_is_the_best_rounds_median(monkeypatch):
    rounds = iter([[9.0, 10.0, 11.0], [4.0, 5.0, 30.0], [6.0, 1.0, 20.0]])
    asked = []

    def measured(run, **options):
        asked.append(options)
        return Timing({"wall": next(rounds)}, {"throttled": 2}, [], {"load_1min": len(asked)})

    monkeypatch.setattr(kernel_module, "measure", measured)
    found = kernel_module.measure_kernel(kernel(work=5e9), seconds=0.6)
    assert found.rate == pytest.approx(5 / 5e-3)  # 5·10⁹ in 5 ms, not in its fastest call
    assert found.samples_ms == [9, 10, 11, 4, 5, 30, 6, 1, 20]
    assert found.dropped == {"throttled": 6}
    assert found.conditions == {"load_1min": 3}
    assert [options["seconds"] for options in asked] == pytest.approx([0.2] * 3)


def test_a_machine_that_throttles_all_the_time_has_no_peak(monkeypatch):
    monkeypatch.setattr(
        kernel_module, "measure", lambda run, **_: Timing({"wall": []}, {"throttled": 5})
    )
    with pytest.raises(RuntimeError, match="throttled all the time"):
        kernel_module.measure_kernel(kernel(), seconds=0.1)


def test_every_kernel_of_what_is_installed_everywhere_runs(monkeypatch):
    monkeypatch.setattr(peaks, "LEAST_MEMORY_BYTES", 2**20)
    for room, name, small in (
        (sample_graphs, "CONVOLUTION", (1, 16, 4, 4)),
        (sample_graphs, "PRODUCT", 16),
        (peaks, "PRODUCT", 16),
    ):
        monkeypatch.setattr(room, name, small)
    here = [k for k in peaks.kernels(1) if k.ran.backend in ("numpy", "onnxruntime")]
    for one in here:
        assert (
            len(kernel_module.measure_kernel(one, 0.0, rounds=1).samples_ms) >= kernel_module.FEWEST
        )
    assert {(k.name, k.precision) for k in here if k.kind == "arithmetic"} == {
        ("numpy product", "float32"),
        ("onnxruntime product", "float32"),
        ("onnxruntime product", "int8"),
        ("onnxruntime convolution", "float32"),
        ("onnxruntime convolution", "int8"),
    }


@pytest.mark.parametrize("make", [sample_graphs.convolution_graph, sample_graphs.product_graph])
@pytest.mark.parametrize("precision", ["float32", "int8"])
def test_kernels_do_the_work_that_they_claim(make, precision):
    model = make(precision)
    feed = sample_graphs.sample_inputs(model)
    cost = count_cost(model, {name: array.shape for name, array in feed.items()})
    claimed = {
        sample_graphs.convolution_graph: sample_graphs.CONVOLUTION_MACS,
        sample_graphs.product_graph: sample_graphs.PRODUCT_MACS,
    }
    assert cost.macs == {precision: claimed[make]}


def test_int8_convolutions_are_one_node_each_in_onnx_runtime(tmp_path):
    options = ort.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "o.onnx")
    ort.InferenceSession(
        sample_graphs.convolution_graph("int8").SerializeToString(),
        options,
        ["CPUExecutionProvider"],
    )
    import onnx

    kinds = [node.op_type for node in onnx.load(tmp_path / "o.onnx").graph.node]
    assert kinds.count("QLinearConv") == sample_graphs.DEPTH
    assert "Conv" not in kinds


def cache_tree(root, **indexes):
    for name, (level, kind, size) in indexes.items():
        folder = root / peaks.CACHES / name
        folder.mkdir(parents=True)
        for file, text in (("level", level), ("type", kind), ("size", size)):
            (folder / file).write_text(f"{text}\n")


def test_bandwidth_is_taken_in_memory_and_in_every_cache(tmp_path):
    cache_tree(
        tmp_path,
        index0=(1, "Data", "32K"),
        index1=(1, "Instruction", "64K"),
        index2=(2, "Unified", "1024K"),
        index3=(3, "Unified", "32M"),
    )
    assert peaks.cache_sizes(tmp_path) == {1: 2**15, 2: 2**20, 3: 2**25}
    found = {k.details["level"]: k for k in peaks.copy_kernels(2, tmp_path)}
    assert found["l2"].details == {"level": "l2", "capacity_bytes": 2**21, "bytes": 2**20}
    assert found["l3"].details["capacity_bytes"] == 2**25
    assert 2 * 2**20 < found["l3"].details["bytes"] < 2**25
    assert found["memory"].details["bytes"] >= 4 * 2**25
    cache_tree(tmp_path / "odd", index2=(2, "Unified", "?"))
    assert [k.details["level"] for k in peaks.copy_kernels(2, tmp_path / "odd")] == ["memory"]


def test_a_copy_moves_all_that_it_says(monkeypatch):
    monkeypatch.setattr(peaks, "LEAST_MEMORY_BYTES", 2**20)
    moved = []
    copy = np.copyto
    monkeypatch.setattr(np, "copyto", lambda t, s: (moved.append(t.nbytes + s.nbytes), copy(t, s)))
    (one,) = peaks.copy_kernels(2, Path("/nowhere"))
    one.prepare()()
    assert sum(moved) == one.work


def test_rows_of_a_model(context, monkeypatch):
    def missing():
        raise ImportError("no library")

    monkeypatch.setattr(
        roofline, "kernels", lambda threads: [kernel(), kernel(prepare=missing, name="other")]
    )
    rows = list(roofline.rows(context))
    peak, skipped, *costs = rows
    assert peak.contender == "peak float32: stand-in"
    assert peak.values["gmacs_per_s"] > 0
    assert "before" in peak.conditions
    assert len(peak.samples["wall"]) >= kernel_module.ROUNDS * kernel_module.FEWEST
    assert (skipped.contender, skipped.skipped) == ("peak float32: other", "no library")
    assert not skipped.values
    seen = {(row.contender, row.case.graph, row.case.batch, row.case.frames) for row in costs}
    assert len(seen) == len(costs) == 3 * 8
    by = {(r.contender, r.case.graph, r.case.batch, r.case.frames): r.values for r in costs}
    int8 = by["cost int8", "full", 1, 30]
    assert int8["gmacs"] == pytest.approx(int8["gmacs_int8"] + int8["gmacs_float32"])
    assert int8["gmacs_int8"] == pytest.approx(30 * by["cost int8", "frames", 1, None]["gmacs"])
    assert all(Row.model_validate(row.model_dump(mode="json")) == row for row in rows)


def test_a_kernel_that_is_refused_leaves_a_row(context, monkeypatch):
    def refused():
        raise ModelError("ONNX Runtime refuses it")

    monkeypatch.setattr(roofline, "kernels", lambda threads: [kernel(prepare=refused)])
    assert next(roofline.rows(context)).skipped == "ONNX Runtime refuses it"


def peak_row(precision, rate, device="cpu", name="a"):
    details = {"kind": "arithmetic", "device": device, "precision": precision, "kernel": name}
    return row_of(details=details, values={"gmacs_per_s": rate})


def bandwidth_row(level, rate, capacity=None, device="cpu"):
    details = {"kind": "bandwidth", "device": device, "level": level, "capacity_bytes": capacity}
    return row_of(details=details, values={"gbytes_per_s": rate, "megabytes": 1.0})


def row_of(**told):
    return Row(**{"run": "r", "scenario": "roofline", "contender": "c", "subject": SUBJECT, **told})


def times(ms, precision="float32", computed_in="float32", case=None, **told):
    ran = CPU.model_copy(update={"precision": precision, "computed_in": computed_in})
    case = case or Case(graph="frames", batch=4)
    samples = {"wall": [ms, ms, ms * 2]}
    return row_of(**{"scenario": "graph", "ran": ran, "case": case, "samples": samples, **told})


@pytest.fixture
def rows(context, monkeypatch):
    """The costs of the tiny network beside peaks of round numbers."""
    monkeypatch.setattr(roofline, "kernels", lambda threads: [])
    return [
        *roofline.rows(context),
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
    found = limits.of(times(1.0))
    cost = limits.cost(times(1.0))
    assert found.bound == "arithmetic"
    assert found.level == "l2"
    assert found.least_ms == pytest.approx(cost["gmacs"] / 100 * 1e3)
    assert found.share == pytest.approx(found.least_ms)
    assert found.reached_gmacs_per_s == pytest.approx(cost["gmacs"] * 1e3)
    assert found.attainable_gmacs_per_s == pytest.approx(100.0)
    assert found.intensity == pytest.approx(cost["gmacs"] / cost["gbytes"])
    fast = MachineLimits([*rows, peak_row("float32", 1e6)]).of(times(1.0))
    assert fast.bound == "bandwidth"
    assert fast.least_ms == pytest.approx(cost["gbytes"] / 200 * 1e3)


def test_bytes_that_fit_no_cache_go_at_the_speed_of_memory(rows):
    levels = [row for row in rows if row.details["kind"] != "bandwidth"]
    small = [bandwidth_row("l2", 200.0, 8), bandwidth_row("memory", 10.0)]
    found = MachineLimits([*levels, *small, peak_row("float32", 1e6)]).of(times(1.0))
    assert (found.level, found.bound) == ("memory", "bandwidth")


@pytest.mark.parametrize(("n", "s"), [(1, 30), (3, 17), (16, 120)])
def test_costs_of_other_cases_follow(rows, n, s):
    import onnx

    row = times(1.0, case=Case(graph="head", batch=n, frames=s))
    model = onnx.load(FOLDER / "head.onnx")
    counted = count_cost(model, {"features": (n, s, 4, 16), "lengths": (n,)})
    found = MachineLimits(rows).cost(row)
    assert found["gmacs"] == pytest.approx(counted.total_macs / 1e9)
    assert found["gbytes"] == pytest.approx(counted.least_bytes / 1e9, rel=1e-3)
    assert found["gbytes_between"] == pytest.approx(counted.intermediate_bytes / 1e9, rel=1e-2)


def test_each_kind_of_multiply_add_has_its_own_peak(rows):
    limits = MachineLimits(rows)
    case = Case(graph="full", batch=2, frames=30)
    found = limits.of(times(1.0, "int8", "float32 and int8", case))
    cost = limits.cost(times(1.0, "int8", "int8", case))
    expected = cost["gmacs_int8"] / 400 + cost["gmacs_float32"] / 100
    assert found.least_ms == pytest.approx(expected * 1e3)
    on_cpu = limits.of(times(1.0, "float16", "float32", case))  # a float16 file computed wide
    assert on_cpu.least_ms == pytest.approx(on_cpu.gmacs / 100 * 1e3)


def test_of_several_precisions_the_fastest_is_the_limit(rows):
    limits = MachineLimits([*rows, peak_row("bfloat16", 200.0)])
    mixed = limits.of(times(1.0, "float32", "bfloat16 and float32"))
    assert mixed.least_ms == pytest.approx(mixed.gmacs / 200 * 1e3)


def test_a_precision_without_a_file_takes_the_float32_graph(rows):
    limits = MachineLimits([*rows, peak_row("bfloat16", 200.0)])
    narrow, wide = (limits.of(times(1.0, kind, kind)) for kind in ("bfloat16", "float32"))
    assert narrow.gmacs == wide.gmacs
    assert narrow.gbytes == wide.gbytes / 2
    assert narrow.least_ms == wide.least_ms / 2


def test_the_devices_own_time_counts_where_there_is_one(rows):
    samples = {"wall": [9.0], "compute": [2.0]}
    assert MachineLimits(rows).of(times(1.0, samples=samples)).median_ms == 2.0


@pytest.mark.parametrize(
    "told",
    [
        {"samples": {}},
        {"ran": None},
        {"case": Case(graph="streaming", batch=1)},
        {"case": Case(graph="frames")},
        {"subject": SUBJECT.model_copy(update={"weights_sha256": "1" * 64})},
        {"computed_in": "float64"},
    ],
    ids=str,
)
def test_what_is_not_known_has_no_limit(rows, told):
    assert MachineLimits(rows).of(times(1.0, **told)) is None
    assert MachineLimits([]).of(times(1.0)) is None


def test_rates_of_nothing_are_no_limits(rows):
    kept = [row for row in rows if row.details["kind"] == "cost"]
    zero = [*kept, peak_row("float32", 0.0), bandwidth_row("memory", 10.0)]
    assert MachineLimits(zero).of(times(1.0)) is None
    zero = [*kept, peak_row("float32", 10.0), bandwidth_row("memory", 0.0)]
    assert MachineLimits(zero).of(times(1.0)) is None
    free = [row.model_copy(update={"values": dict.fromkeys(row.values, 0.0)}) for row in kept]
    assert MachineLimits([*free, *zero[-2:], bandwidth_row("l2", 1.0, 9)]).of(times(1.0)) is None


def test_who_is_a_gpu():
    assert device_of(CPU) == "cpu"
    assert device_of(CPU.model_copy(update={"provider": "NVIDIA Orin"})) == "gpu"
