"""INT8 incremental head: equality with a plain loop, its files, and its accuracy gate."""

import copy
import logging

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from cstl_edge.errors import ExportError, ModelError
from cstl_edge.export.checks.accuracy_gate import GateResult
from cstl_edge.export.export_model import export_model
from cstl_edge.export.graphs import INCREMENTAL
from cstl_edge.export.quantization import int8_head, variants
from cstl_edge.export.quantization.int8_head import (
    STATES,
    STEPS,
    products,
    quantise_products,
    weight_steps,
)
from cstl_edge.export.quantization.tensor_ranges import InputStatistics, StatisticsSession
from cstl_edge.runtime import load
from cstl_edge.runtime.backends.ort_session import open_session
from cstl_edge.runtime.graph_format import check_graph
from cstl_edge.runtime.manifest import Shape, read_manifest
from cstl_edge.runtime.streaming.encoder import StreamingEncoder

INT8 = ("taps.int8.onnx", "mix.int8.onnx", "slide.int8.onnx")
RNG = np.random.default_rng(2)
ROWS = RNG.normal(size=(4, 5, 16)).astype(np.float32)  # [p, m, c]


@pytest.fixture(autouse=True)
def every_product(monkeypatch):
    """A small network has no product that gains: let all be in integers but those of 4 weights."""
    monkeypatch.setattr(int8_head, "MIN_WEIGHTS", 5)


@pytest.fixture(scope="module")
def folder(weights, gather, tmp_path_factory):
    """An export whose windows slide by int8."""
    target = tmp_path_factory.mktemp("incremental") / "small"
    plain = {"graphs": ("frames", "head"), "simplify": False}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(int8_head, "MIN_WEIGHTS", 5)
        export_model(weights, target, precisions=("int8",), gather=gather, **plain)
    return target


def collected(model, graph, *feeds):
    session = StatisticsSession(f"{graph}.onnx", model, [node.input[0] for node in products(model)])
    for feed in feeds:
        session.run(None, feed)
    return session.statistics


def weights_of(model):
    return {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}


def statistics_of(model, node):
    p, k, _ = weights_of(model)[node.input[1]].shape
    return InputStatistics(-1.0, 1.0, np.tile(np.eye(k), (p, 1, 1)))


def twin(rows, steps, scales, statistics):
    """A product [p, m, k] x [p, k, o] in integers, as the graph has to."""
    width = statistics.largest - statistics.smallest
    scale = np.float32(width / STEPS)
    zero = np.rint(-statistics.smallest / width * STEPS)
    inputs = np.clip(np.rint(rows / scale) + zero, 0, STEPS) - zero
    whole = np.einsum("pmk,pko->pmo", inputs, steps.astype(np.float64))
    return whole.astype(np.float32) * (scales * scale)


def test_quantised_product_equals_integer_product(traced):
    model = traced("taps")
    statistics = collected(model, "taps", {"features": ROWS / 2})  # so some values are clipped
    quantised = quantise_products(model, statistics)
    weight = weights_of(model)["matrix"]
    product = next(n for n in products(model) if n.input[1] == "matrix")
    steps, scales = weight_steps(weight, statistics["features"].gram)
    assert steps.dtype == np.int8
    assert np.abs(steps).max() == 63  # 255 * 63 * 2 still fits into 16 bits
    quantised.graph.output.append(onnx.helper.make_empty_tensor_value_info(product.output[0]))
    session = open_session("taps.int8.onnx", quantised.SerializeToString(), 1)
    (actual,) = session.run([product.output[0]], {"features": ROWS})
    expected = twin(ROWS, steps, scales, statistics["features"])
    np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-6)


def test_rounding_errors_compensate_each_other():
    """Inputs of few directions, as features are; not those that the weights were rounded on."""
    weight = RNG.normal(size=(2, 32, 24)).astype(np.float32)
    rows = RNG.normal(size=(2, 400, 6)) @ RNG.normal(size=(2, 6, 32))
    known, others = rows[:, :200], rows[:, 200:]
    steps, scales = weight_steps(weight, known.swapaxes(1, 2) @ known)
    nearest = np.rint(weight / scales)
    error, theirs = (np.abs(others @ (x * scales - weight)).mean() for x in (steps, nearest))
    assert error < theirs / 2


def test_a_part_without_a_value_is_rounded_to_the_nearest():
    weight = RNG.normal(size=(1, 8, 5)).astype(np.float32)
    steps, scales = weight_steps(weight, np.zeros((1, 8, 8)))
    np.testing.assert_array_equal(steps, np.rint(weight / scales))


@pytest.mark.parametrize("graph", INCREMENTAL)
def test_int8_graph_passes_format_check_with_int8_weights(network, traced, graph):
    model = traced(graph)
    statistics = {node.input[0]: statistics_of(model, node) for node in products(model)}
    quantised = quantise_products(model, statistics)
    check_graph(
        f"{graph}.int8.onnx",
        quantised.SerializeToString(),
        Shape.model_validate(network().config.to_dict()),
    )
    kinds = [node.op_type for node in quantised.graph.node]
    assert kinds.count("MatMulInteger") == len(statistics) + (
        graph == "taps"
    )  # two read `features`
    assert kinds.count("QuantizeLinear") == len(statistics)
    large = [t for t in quantised.graph.initializer if len(t.dims) == 3 and t.dims[1] > 1]
    assert large
    assert {t.data_type for t in large if t.dims[1] * t.dims[2] > 4} == {onnx.TensorProto.INT8}


def test_output_does_not_depend_on_other_walkers(folder):
    encoder = load(folder, precision="int8")
    alone = encoder.taps(ROWS[:, :1])
    together = encoder.taps(np.concatenate((ROWS[:, :1], 50 * ROWS), 1))
    for one, many in zip(alone, together, strict=True):
        np.testing.assert_array_equal(one, many[:, :1])


def test_an_empty_range_is_refused(traced):
    model = traced("taps")
    with pytest.raises(ExportError, match=r"features spans 0 to 0 .* Calibrate on silhouettes"):
        quantise_products(model, {n.input[0]: InputStatistics() for n in products(model)})


def test_small_products_stay(traced, monkeypatch):
    monkeypatch.undo()
    assert not any(products(traced(graph)) for graph in INCREMENTAL)
    large = {"widths": (4, 8, 16, 32), "embedding": 64}
    counts = {graph: len(products(traced(graph, **large))) for graph in INCREMENTAL}
    assert counts == {"taps": 1, "mix": 0, "slide": 1}


def test_export_folder_holds_int8_head_and_its_gate_report(folder):
    manifest = read_manifest(folder)
    variant = manifest.precisions["int8"]
    assert variant.cuts == INT8
    assert set(INT8) < set(manifest.files)
    assert manifest.incremental_files("int8", int8=False) == ("taps.onnx", "mix.onnx", "slide.onnx")
    assert manifest.incremental_files("float32", int8=True) == (
        "taps.onnx",
        "mix.onnx",
        "slide.onnx",
    )
    for state in STATES:
        report = variant.judged[f"onnxruntime, window {state}"]
        assert report["window_frames"] == 3  # of 6, for the others are to slide by
        assert 0.95 <= report["cosine"]["smallest"] < 1
        assert report["salient_frames"]["compared"] == 60 * 4


def test_int8_sliding_windows_are_near_float32(folder, gather):
    """Long windows, from the first answer on, and once more after every frame of a slide."""
    walk = np.concatenate([gather().evaluation.silhouettes[i] for i in (0, 2, 4)])  # 18 frames
    streams = [
        StreamingEncoder(load(folder, precision=precision), window=8, hop=1)
        for precision in ("float32", "int8")
    ]
    differ = 0
    for silhouette in walk:
        plain, other = (stream.push({"a": silhouette}).get("a") for stream in streams)
        if plain is None:
            continue
        same = plain.salient_frames == other.salient_frames
        a, b = plain.embedding[same], other.embedding[same]
        cosine = (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)
        assert cosine.min() > 0.98
        differ += int((plain.embedding != other.embedding).any())
    assert differ == 11


def test_a_changed_cut_is_refused(folder, tmp_path):
    import shutil

    copy = shutil.copytree(folder, tmp_path / "copy")
    (copy / INT8[0]).write_bytes((copy / "taps.onnx").read_bytes())
    load(copy, precision="float32").close()
    with pytest.raises(ModelError, match=r"taps\.int8\.onnx: expected sha256"):
        load(copy, precision="int8")


def sliding_gates(folder, problems=(), at_most_points=0.0):
    """The gates of an export, with what a test wants of them."""
    judged = read_manifest(folder).precisions["int8"].judged
    reports = {state: copy.deepcopy(judged[f"onnxruntime, window {state}"]) for state in STATES}
    for report in reports.values():
        report["rank1"]["lost"]["at_most_points"] = at_most_points
    return {state: GateResult(report, list(problems)) for state, report in reports.items()}


@pytest.fixture
def with_gates(context, folder, monkeypatch):
    """Make int8 variants whose incremental head came through given gates."""

    def make(**changes):
        gates = sliding_gates(folder, **changes)
        monkeypatch.setattr(int8_head, "quantise_head", lambda context, frames: context.incremental)
        monkeypatch.setattr(int8_head, "evaluate_head", lambda *given: gates)
        return variants.make_variants(context, ("int8",), lambda phase: None)

    return make


@pytest.mark.parametrize(("points", "default"), [(49.0, "int8"), (51.0, "float32")])
def test_the_incremental_head_counts_for_the_default(with_gates, monkeypatch, points, default):
    monkeypatch.setattr(variants, "DEFAULT_DROP_POINTS", 50.0)
    assert with_gates(at_most_points=points).cpu_default == default


def test_far_outputs_close_the_gate(context, traced):
    """An incremental head of another network, behind the frames of this one."""
    others = {name: traced(name, seed=1) for name in context.incremental}
    gates = int8_head.evaluate_head(context, others, context.features)
    for gate in gates.values():
        assert any("smallest cosine" in problem for problem in gate.problems)
    same = int8_head.evaluate_head(context, {}, context.features)  # float32 slides as it is whole
    for gate in same.values():
        assert not gate.problems
        assert gate.report["cosine"]["smallest"] > 1 - 1e-4


def test_a_closed_gate_leaves_out_the_incremental_head_alone(with_gates, reduced, caplog):
    with caplog.at_level(logging.WARNING):
        result = with_gates(problems=["off"])
    (warning,) = [r.getMessage() for r in caplog.records if "slide by float32" in r.getMessage()]
    assert "off when full: off; slid: off. Judged on more people" in warning
    assert "\n" not in warning
    trunks = {"frames.int8.onnx", "frames.int8.tensorrt.onnx"}
    assert set(result.graphs) == trunks | {"head.fp16.onnx"}
    assert result.precisions["int8"].cuts is None
    assert result.precisions["int8"].judged["onnxruntime, window slid"]["cosine"]["smallest"] < 1
    assert read_manifest(reduced).precisions["int8"].cuts is None  # its products are too small
    encoder = load(reduced, precision="int8")
    assert encoder.info.slides
    plain = load(reduced, precision="float32")
    np.testing.assert_array_equal(encoder.taps(ROWS)[0], plain.taps(ROWS)[0])
