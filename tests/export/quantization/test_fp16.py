"""FP16 in the graph: what becomes half, what stays an island, and that the types fit."""

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto

from cstl_edge.errors import ExportError
from cstl_edge.export.graphs import GRAPHS, build_graph
from cstl_edge.export.quantization.fp16 import ISLANDS, half_tensors, islands, tensor_types, to_half
from cstl_edge.export.simplify import run

GOLDEN = Path(__file__).parents[2] / "golden"
FLOAT, HALF = TensorProto.FLOAT, TensorProto.FLOAT16


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
    found = run(half, {"features": features.numpy(), "lengths": lengths.numpy()})
    with torch.no_grad():
        expected, frames = network.head(features, lengths)
    same = np.ones((3, 4), bool) if frames is None else frames.numpy() == found[1]
    assert same.mean() > 0.8
    np.testing.assert_allclose(found[0][same], expected.numpy()[same], atol=0.02)
    assert found[0].dtype == np.float32


def test_a_simplified_graph_with_stored_weights_has_the_same_islands(traced):
    simplified = onnx.load(GOLDEN / "tiny_reduced" / "head.onnx")
    traced = traced("head")
    for island in ISLANDS:
        counts = [list(islands(m).values()).count(island.name) for m in (simplified, traced)]
        assert counts[0] == counts[1] or island.name == "embedding", island.name
    half = to_half(simplified)
    onnx.checker.check_model(half, full_check=True)
    feed = {"features": np.ones((1, 3, 4, 16), np.float32), "lengths": np.array([3], np.int32)}
    found, expected = (run(model, feed)[0] for model in (half, simplified))
    np.testing.assert_allclose(found, expected, atol=0.02)


def test_every_island_has_a_reason_and_operators_of_its_own():
    operators = [operator for island in ISLANDS for operator in island.operators]
    assert len(operators) == len(set(operators))
    assert all(len(island.reason) > 40 for island in ISLANDS)


def test_islands_of_the_whole_head(traced):
    model = traced("head")
    found = islands(model)
    assert set(found.values()) == {"gates", "sums", "ratios", "embedding"}
    assert found["embedding"] == "embedding"
    assert not set(found) & set(half_tensors(to_half(model))) - cast_to_half(model)


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
