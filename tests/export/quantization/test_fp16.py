"""FP16 graphs: half tensors, float32 islands, and the rounding twin."""

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from cstl_edge.errors import ExportError
from cstl_edge.export.graphs import GRAPHS, IR_VERSION, build_graph
from cstl_edge.export.quantization import fp16
from cstl_edge.export.quantization.fp16 import (
    ISLANDS,
    half_tensors,
    islands,
    open_exact,
    rounding_twin,
    tensor_types,
    to_half,
)
from cstl_edge.export.quantization.tensor_ranges import run_exposed
from cstl_edge.export.simplify import run
from cstl_edge.runtime.graph_format import OPSET

GOLDEN = Path(__file__).parents[2] / "golden"
FLOAT, HALF = TensorProto.FLOAT, TensorProto.FLOAT16
RNG = np.random.default_rng(0)
FEEDS = {
    "frames": {"silhouettes": RNG.integers(0, 256, (5, 16, 12), np.uint8)},
    "head": {
        "features": RNG.random((2, 9, 4, 16), np.float32),
        "lengths": np.array([9, 4], np.int32),
    },
}


def kinds(model, operator):
    """The types of the numbers that nodes of an operator give out."""
    types = tensor_types(model)
    return {types[node.output[0]] for node in model.graph.node if node.op_type == operator}


@pytest.mark.parametrize("graph", GRAPHS)
def test_products_are_half_and_ratios_are_not(traced, graph):
    half = to_half(traced(graph))
    onnx.checker.check_model(half, full_check=True)
    assert kinds(half, "Conv") <= {HALF}
    if graph == "frames":
        assert not islands(traced(graph))
        return
    assert kinds(half, "CstlPartGather") == {HALF}
    for operator in ("ReduceSum", "Exp", "Reciprocal", "ReduceMax"):
        assert kinds(half, operator) == {FLOAT}, operator
    by_255 = 1 if graph == "full" else 0
    divisions = [tensor_types(half)[n.output[0]] for n in half.graph.node if n.op_type == "Div"]
    assert divisions.count(HALF) == by_255
    assert divisions.count(FLOAT) == 2  # Eq. 1 and Eq. 5


def test_all_products_but_the_last_are_half(traced):
    half = to_half(traced("head"))
    types = tensor_types(half)
    products = [types[n.output[0]] for n in half.graph.node if n.op_type == "MatMul"]
    assert products.count(FLOAT) == 1
    assert products[-1] == FLOAT
    assert products.count(HALF) == 8  # two convs, T_f, T_f + T_s, T_l, two gates, the scores


def test_inputs_and_outputs_keep_their_types(traced):
    for graph in GRAPHS:
        model = traced(graph)
        half = to_half(model)
        assert list(half.graph.input) == list(model.graph.input)
        assert list(half.graph.output) == list(model.graph.output)


def test_features_are_cast_once_at_the_input(traced):
    half = to_half(traced("head"))
    readers = [n for n in half.graph.node if "features" in n.input and n.op_type != "Shape"]
    assert [n.op_type for n in readers] == ["Cast"]
    assert readers[0].attribute[0].i == HALF


def test_no_tensor_is_cast_twice_the_same_way(traced):
    half = to_half(traced("full"))
    casts = [(n.input[0], n.attribute[0].i) for n in half.graph.node if n.op_type == "Cast"]
    assert len(casts) == len(set(casts))


def test_the_gather_and_its_body_are_half(traced):
    half = to_half(traced("head"))
    (body,) = half.functions
    lowest = next(n for n in body.node if n.output[0] == "lowest")
    assert lowest.attribute[0].t.data_type == HALF


ABLATIONS = [
    {"aggregation": "max"},
    {"aggregation": "mean", "salient": False},
    {"scales": ("frame",), "salient": False},
    {"scales": ("long",)},
]


@pytest.mark.parametrize("changes", ABLATIONS, ids=lambda c: "-".join(map(str, c.values())))
def test_every_configuration_runs_near_float32(network, changes):
    network = network(**changes)
    half = to_half(build_graph(network.fused(), "head"))
    features, lengths = torch.rand(3, 6, 4, 16), torch.tensor([6, 1, 4], dtype=torch.int32)
    actual = run(half, {"features": features.numpy(), "lengths": lengths.numpy()})
    with torch.no_grad():
        expected, frames = network.head(features, lengths)
    same = np.ones((3, 4), bool) if frames is None else frames.numpy() == actual[1]
    assert same.mean() > 0.8
    np.testing.assert_allclose(actual[0][same], expected.numpy()[same], atol=0.02)
    assert actual[0].dtype == np.float32


def test_a_simplified_graph_with_stored_weights_has_the_same_islands(traced):
    simplified = onnx.load(GOLDEN / "tiny_reduced" / "head.onnx")
    traced = traced("head")
    for island in ISLANDS:
        counts = [list(islands(m).values()).count(island.name) for m in (simplified, traced)]
        assert counts[0] == counts[1] or island.name == "embedding", island.name
    half = to_half(simplified)
    onnx.checker.check_model(half, full_check=True)
    feed = {"features": np.ones((1, 3, 4, 16), np.float32), "lengths": np.array([3], np.int32)}
    actual, expected = (run(model, feed)[0] for model in (half, simplified))
    np.testing.assert_allclose(actual, expected, atol=0.02)


def test_every_island_has_a_reason_and_operators_of_its_own():
    operators = [operator for island in ISLANDS for operator in island.operators]
    assert len(operators) == len(set(operators))
    assert all(len(island.reason) > 40 for island in ISLANDS)


def test_islands_of_the_whole_head(traced):
    model = traced("head")
    island_of = islands(model)
    assert set(island_of.values()) == {"gates", "sums", "ratios", "embedding"}
    assert island_of["embedding"] == "embedding"
    assert not set(island_of) & set(half_tensors(to_half(model))) - cast_to_half(model)


def cast_to_half(model):
    """What an island gives out and somebody reads as half."""
    half = to_half(model)
    return {n.input[0] for n in half.graph.node if n.op_type == "Cast" and n.attribute[0].i == HALF}


def test_a_weight_beyond_half_is_refused(network):
    network = network()
    with torch.no_grad():
        network.backbone.convs[2].weight[0, 0, 0, 0] = 70_000.0
    with pytest.raises(ExportError, match=r"convs\.2\.weight holds 70000; float16 ends at 65504"):
        to_half(build_graph(network.fused(), "frames"))


# The rounding twin


def is_half(values):
    with np.errstate(over="ignore"):
        return np.array_equal(values.astype(np.float16).astype(np.float32), values, equal_nan=True)


@pytest.mark.parametrize("graph", GRAPHS)
def test_rounding_twin_is_float32_throughout(traced, graph):
    twin = rounding_twin(to_half(traced(graph)))
    halves = [name for name, kind in tensor_types(twin).items() if kind == HALF]
    assert all(name.endswith(".rounded") for name in halves)


@pytest.mark.parametrize("graph", ["frames", "head"])
def test_every_half_tensor_is_rounded_and_no_other(traced, graph):
    model = traced(graph)
    half = to_half(model)
    twin, types = rounding_twin(half), tensor_types(half)
    rounded = [x for x, kind in types.items() if kind == HALF and "weight" not in x]
    rounded = [x for n in half.graph.node for x in n.output if x in rounded]
    wide = list(islands(model))
    (tensors,) = run_exposed(twin, [*rounded, *wide], [FEEDS[graph]])
    for name in rounded:
        assert is_half(tensors[name]), name
    assert all(not is_half(tensors[name]) for name in wide if "Reduce" in name and "Sum" in name)
    assert len(rounded) >= len(half_tensors(half))


def test_rounding_twin_equals_plain_loop():
    """y = W x in half: rounded weights and input, the sum in float32, rounded once."""
    weight = RNG.normal(size=(1, 3, 8)).astype(np.float32)
    x = RNG.normal(size=(1, 8, 5)).astype(np.float32)
    ends = [
        helper.make_tensor_value_info("x", FLOAT, [1, 8, 5]),
        helper.make_tensor_value_info("y", FLOAT, [1, 3, 5]),
    ]
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["w", "x"], ["y"])],
        "product",
        ends[:1],
        ends[1:],
        [numpy_helper.from_array(weight, "w")],
    )
    opset = helper.make_opsetid("", OPSET)
    model = helper.make_model(graph, opset_imports=[opset], ir_version=IR_VERSION)
    session = open_exact("product", rounding_twin(to_half(model)))
    rounded_w, rounded_x = (v.astype(np.float16).astype(np.float64) for v in (weight, x))
    expected = (rounded_w @ rounded_x).astype(np.float32).astype(np.float16).astype(np.float32)
    actual = session.run(None, {"x": x})[0]
    assert np.abs(actual - expected).max() <= np.abs(expected).max() * 2**-11  # the last bit
    assert (actual == expected).mean() > 0.9
    assert is_half(actual)
    assert not np.array_equal(actual, (weight @ x).astype(np.float32))


def test_what_reaches_70000_is_infinite_and_float32_does_not_notice(overflowing):
    feed = FEEDS["frames"]
    model = build_graph(overflowing.fused(), "frames")
    (plain,) = run_exposed(model, ["features"], [feed])
    twin = open_exact("frames", rounding_twin(to_half(model)))
    assert np.isfinite(plain["features"]).all()
    with torch.no_grad():
        expected = overflowing.frame_features(torch.tensor(feed["silhouettes"])).numpy()
    np.testing.assert_allclose(plain["features"], expected, rtol=1e-4)
    assert not np.isfinite(twin.run(None, feed)[0]).all()


def test_a_runtime_that_leaves_the_casts_out_is_found(network, monkeypatch):
    def no_casts(name):
        return (helper.make_node("Identity", [f"{name}.exact"], [name]),)

    monkeypatch.setattr(fp16, "_rounding", no_casts)
    twin = onnx.ModelProto()
    with pytest.raises(ExportError, match="leaves out Casts to float16 and back"):
        open_exact("frames", twin)
