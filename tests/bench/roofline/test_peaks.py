"""Peaks are the kernels' best rounds by the clock."""

from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from standin_bench import kernel

from cstl_edge.bench.roofline import kernel as kernel_module
from cstl_edge.bench.roofline import peaks, sample_graphs
from cstl_edge.bench.roofline.op_count import count_cost
from cstl_edge.measure.timing import Timing


def test_a_peak_is_the_best_rounds_median(monkeypatch):
    rounds = iter([[9.0, 10.0, 11.0], [4.0, 5.0, 30.0], [6.0, 1.0, 20.0]])
    calls = []

    def measured(run, **options):
        calls.append(options)
        return Timing({"wall": next(rounds)}, {"throttled": 2}, [], {"load_1min": len(calls)})

    monkeypatch.setattr(kernel_module, "measure", measured)
    reached = kernel_module.measure_kernel(kernel(work=5e9), seconds=0.6)
    assert reached.rate == pytest.approx(5 / 5e-3)  # 5·10⁹ in 5 ms, not in its fastest call
    assert reached.samples_ms == [9, 10, 11, 4, 5, 30, 6, 1, 20]
    assert reached.dropped == {"throttled": 6}
    assert reached.conditions == {"load_1min": 3}
    assert [options["seconds"] for options in calls] == pytest.approx([0.2] * 3)


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
        peak = kernel_module.measure_kernel(one, 0.0, rounds=1)
        assert len(peak.samples_ms) >= kernel_module.FEWEST
    assert {(k.name, k.precision) for k in here if k.kind == "arithmetic"} == {
        ("numpy product", "float32"),
        ("onnxruntime product", "float32"),
        ("onnxruntime product", "int8"),
        ("onnxruntime convolution", "float32"),
        ("onnxruntime convolution", "int8"),
    }


@pytest.mark.parametrize(
    ("make", "claimed"),
    [
        (sample_graphs.convolution_graph, sample_graphs.CONVOLUTION_MACS),
        (sample_graphs.product_graph, sample_graphs.PRODUCT_MACS),
    ],
)
@pytest.mark.parametrize("precision", ["float32", "int8"])
def test_kernels_do_the_work_that_they_claim(make, claimed, precision):
    model = make(precision)
    feed = sample_graphs.sample_inputs(model)
    cost = count_cost(model, {name: array.shape for name, array in feed.items()})
    assert cost.macs == {precision: claimed}


def test_int8_convolutions_are_one_node_each_in_onnx_runtime(tmp_path):
    options = ort.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "o.onnx")
    graph = sample_graphs.convolution_graph("int8").SerializeToString()
    ort.InferenceSession(graph, options, ["CPUExecutionProvider"])
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
    reached = {k.details["level"]: k for k in peaks.copy_kernels(2, tmp_path)}
    assert reached["l2"].details == {"level": "l2", "capacity_bytes": 2**21, "bytes": 2**20}
    assert reached["l3"].details["capacity_bytes"] == 2**25
    assert 2 * 2**20 < reached["l3"].details["bytes"] < 2**25
    assert reached["memory"].details["bytes"] >= 4 * 2**25
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
