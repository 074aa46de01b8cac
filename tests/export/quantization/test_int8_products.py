"""Products with int8 weights: equality with a plain loop, rounding, what is refused."""

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from cstl_edge.errors import ExportError
from cstl_edge.export.graphs import INCREMENTAL
from cstl_edge.export.quantization import int8_products
from cstl_edge.export.quantization.int8_products import (
    COARSE,
    FINE,
    HEADROOM,
    ZERO,
    products,
    quantise_products,
    round_products,
    weight_steps,
)
from cstl_edge.export.quantization.tensor_ranges import InputStatistics, StatisticsSession
from cstl_edge.runtime.backends.ort_session import open_session
from cstl_edge.runtime.graph_format import check_graph
from cstl_edge.runtime.manifest import Shape

RNG = np.random.default_rng(2)
ROWS = RNG.normal(size=(4, 5, 16)).astype(np.float32)  # [p, m, c]


@pytest.fixture(autouse=True)
def every_product(monkeypatch):
    """A small network has no product that gains: let all be in integers but those of 4 weights."""
    monkeypatch.setattr(int8_products, "MIN_WEIGHTS", 5)


def collected(model, graph, *feeds):
    session = StatisticsSession(f"{graph}.onnx", model, [node.input[0] for node in products(model)])
    for feed in feeds:
        session.run(None, feed)
    return session.statistics


def weights_of(model):
    return {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}


def run(model, feed, *outputs):
    """Run a graph with some of its tensors as outputs."""
    model.graph.output.extend(map(onnx.helper.make_empty_tensor_value_info, outputs))
    return open_session("taps.int8.onnx", model.SerializeToString(), 1).run([*outputs], feed)


def twin(rows, weight, statistics):
    """A product [p, m, k] x [p, k, o] in integers, as the graph has to."""
    largest = HEADROOM * max(-statistics.smallest, statistics.largest)
    coarse = np.float32(largest / COARSE)
    fine = np.float32(coarse / FINE)
    within = np.clip(rows, -np.float32(largest), np.float32(largest))
    first = np.rint(within / coarse)
    second = np.rint((within - first * coarse) / fine)
    for integers in (first, second):  # beside weights of 127 a pair of products fits 16 bits
        assert (integers + ZERO).min() >= 0
        assert (integers + ZERO).max() * 127 * 2 < 2**15
    whole = np.einsum("pmk,pko->pmo", FINE * first + second, weight.steps.astype(np.float64))
    return (whole * fine * weight.scale).astype(np.float32)


@pytest.mark.parametrize("frames", [1, 5])
def test_quantised_product_equals_integer_product(traced, frames):
    model, rows = traced("taps"), ROWS[:, :frames]
    statistics = collected(model, "taps", {"features": ROWS / 4})  # so some values are clipped
    rounded = round_products(model, statistics)
    assert rounded["matrix"].steps.dtype == np.int8
    assert np.abs(rounded["matrix"].steps).max() == 127
    product = next(n for n in products(model) if n.input[1] == "matrix").output[0]
    quantised = quantise_products(model, rounded, statistics)
    (actual,) = run(quantised, {"features": rows}, product)
    expected = twin(rows, rounded["matrix"], statistics["features"])
    np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=2e-5)


def test_both_forms_have_the_same_weights_and_nearly_the_same_outputs(traced):
    model = traced("taps")
    statistics = collected(model, "taps", {"features": ROWS})
    rounded = round_products(model, statistics)
    product = next(n for n in products(model) if n.input[1] == "matrix").output[0]
    one, many = (
        run(quantise_products(model, rounded, given), {"features": ROWS}, product)[0]
        for given in (statistics, None)
    )
    weight = weights_of(model)["matrix"]
    steps = rounded["matrix"].steps * rounded["matrix"].scale
    np.testing.assert_allclose(many, ROWS @ steps, rtol=1e-5, atol=1e-5)
    step = HEADROOM * np.abs(ROWS).max() / COARSE / FINE
    assert np.abs(one - many).max() <= 0.51 * step * np.abs(steps).sum(1).max()
    assert np.abs(one - many).max() < np.abs(many - ROWS @ weight).max() / 3


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
@pytest.mark.parametrize("integers", [True, False])
def test_int8_graph_passes_format_check_with_int8_weights(network, traced, graph, integers):
    model = traced(graph)
    shapes = {n.input[0]: weights_of(model)[n.input[1]].shape for n in products(model)}
    statistics = {
        name: InputStatistics(-1.0, 1.0, np.tile(np.eye(k), (p, 1, 1)))
        for name, (p, k, _) in shapes.items()
    }
    rounded = round_products(model, statistics)
    quantised = quantise_products(model, rounded, statistics if integers else None)
    check_graph(
        f"{graph}.int8.onnx",
        quantised.SerializeToString(),
        Shape.model_validate(network().config.to_dict()),
    )
    kinds = [node.op_type for node in quantised.graph.node]
    assert kinds.count("MatMulInteger") == (len(products(model)) if integers else 0)
    assert kinds.count("QuantizeLinear") == (2 * len(statistics) if integers else 0)
    int8 = [t for t in quantised.graph.initializer if t.data_type == onnx.TensorProto.INT8]
    assert len(int8) == len(rounded) > 0
    assert not {*rounded} & {tensor.name for tensor in quantised.graph.initializer}


def test_an_empty_range_is_refused(traced):
    model = traced("taps")
    nothing = {n.input[0]: InputStatistics(gram=np.zeros((4, 16, 16))) for n in products(model)}
    rounded = round_products(model, {**nothing, **collected(model, "taps", {"features": ROWS})})
    with pytest.raises(ExportError, match=r"features spans 0 to 0 .* Calibrate on silhouettes"):
        quantise_products(model, rounded, nothing)


def test_small_products_stay(traced, monkeypatch):
    monkeypatch.undo()
    assert not any(products(traced(graph)) for graph in INCREMENTAL)
    large = {"widths": (4, 8, 16, 64), "embedding": 128}
    counts = {graph: len(products(traced(graph, **large))) for graph in INCREMENTAL}
    assert counts == {"taps": 1, "mix": 0, "slide": 1}
