"""ONNX graphs: operators, axes, and the part gather's node."""

import itertools

import numpy as np
import pytest
import torch
from onnx import helper
from plain_part_gather import onnx_function

from cstl_edge.export.graphs import GRAPHS, INCREMENTAL, IR_VERSION, build_graph
from cstl_edge.export.simplify import run
from cstl_edge.model import CstlConfig, part_gather
from cstl_edge.runtime.graph_format import OPERATOR, OPSET

STANDARD = {"", "cstl_edge"}


def shapes(values):
    return {
        v.name: [d.dim_param or d.dim_value for d in v.type.tensor_type.shape.dim] for v in values
    }


@pytest.mark.parametrize("graph", GRAPHS + INCREMENTAL)
def test_versions_are_pinned(traced, graph):
    model = traced(graph)
    assert model.ir_version == IR_VERSION == 9
    opsets = {entry.domain: entry.version for entry in model.opset_import}
    assert opsets.pop("") == OPSET == 17
    assert opsets in ({}, {"cstl_edge": 1})
    assert {node.domain for node in model.graph.node} <= STANDARD


def test_inputs_and_outputs_have_named_axes(network):
    fused = network().fused()
    frames, head, full = (build_graph(fused, graph).graph for graph in GRAPHS)
    assert shapes(frames.input) == {"silhouettes": ["m", 16, 12]}
    assert shapes(frames.output) == {"features": ["m", 4, 16]}
    assert shapes(head.input) == {"features": ["n", "s", 4, 16], "lengths": ["n"]}
    assert shapes(head.output) == {"embedding": ["n", 4, 8], "salient_frames": ["n", 4]}
    assert shapes(full.input) == {"silhouettes": ["n", "s", 16, 12], "lengths": ["n"]}
    assert shapes(full.output) == shapes(head.output)


def test_the_cuts_of_the_head_fit_each_other(traced):
    taps, mix, slide = (traced(graph).graph for graph in INCREMENTAL)
    assert shapes(taps.input) == {"features": [4, "m", 16]}
    assert shapes(taps.output) == {"taps": [4, "m", 7 * 16], "gates": [4, "m", 2 * 16]}
    assert shapes(mix.input) == {"features": [4, "m", 16], "sums": [4, "m", 16]}
    assert shapes(mix.output) == {"logits": [4, "m", 3 * 16], "judged": [4, "m", 3]}
    kept = {"values": 3 * 16, "logits": 3 * 16, "judged": 3, "gates": 2 * 16}
    windows = {f"kept_{name}": ["n", 4, "s", width] for name, width in kept.items()}
    assert shapes(slide.input) == {**windows, "slots": ["n", "s"]}
    assert shapes(slide.output) == {"embedding": ["n", 4, 8], "salient_frames": ["n", 4]}


@pytest.mark.parametrize("graph", ["head", "full"])
def test_the_gather_is_a_node_and_a_function(traced, graph):
    model = traced(graph)
    (node,) = [n for n in model.graph.node if n.op_type == OPERATOR]
    attributes = {a.name: helper.get_attribute_value(a) for a in node.attribute}
    assert node.domain == "cstl_edge"
    assert attributes == {"plugin_version": b"2", "plugin_namespace": b"cstl_edge"}
    (body,) = model.functions
    assert (body.domain, body.name) == ("cstl_edge", OPERATOR)
    assert [entry.version for entry in body.opset_import] == [OPSET]


@pytest.mark.parametrize("graph", GRAPHS + INCREMENTAL)
def test_no_norm_no_branch_and_no_arithmetic_in_uint8(traced, graph):
    model = traced(graph)
    kinds = {node.op_type for node in model.graph.node}
    assert not kinds & {"BatchNormalization", "If", "Loop", "Scan"}
    readers = {n.op_type for n in model.graph.node if "silhouettes" in n.input}
    assert readers <= {"Cast"}  # TensorRT refuses uint8 to any other node


ABLATIONS = [
    {"scales": scales, "aggregation": aggregation, "salient": salient}
    for scales in (("frame",), ("frame", "short"), ("long",), ("frame", "short", "long"))
    for aggregation, salient in itertools.product(("adaptive", "max", "mean"), (True, False))
]


@pytest.mark.parametrize("changes", ABLATIONS, ids=lambda c: "-".join(map(str, c.values())))
def test_every_configuration_is_exported(network, changes):
    network = network(**changes)
    head = build_graph(network.fused(), "head")
    features, lengths = torch.rand(3, 6, 4, 16), torch.tensor([6, 1, 4], dtype=torch.int32)
    actual = run(head, {"features": features.numpy(), "lengths": lengths.numpy()})
    with torch.no_grad():
        expected = [t.numpy() for t in network.head(features, lengths) if t is not None]
    assert len(actual) == len(expected) == (2 if changes["salient"] else 1)
    np.testing.assert_allclose(actual[0], expected[0], atol=1e-5)


@pytest.mark.parametrize(
    "changes",
    [
        {"size": (32, 22), "parts": 16},
        {"size": (16, 12), "parts": 1},
        {"size": (16, 12), "parts": 8},
    ],
)
def test_other_sizes_and_parts(network, changes):
    network = network(**changes)
    full = build_graph(network.fused(), "full")
    silhouettes = torch.randint(0, 256, (3, 4, *network.config.size), dtype=torch.uint8)
    lengths = torch.tensor([2, 4, 3], dtype=torch.int32)
    actual = run(full, {"silhouettes": silhouettes.numpy(), "lengths": lengths.numpy()})
    with torch.no_grad():
        expected = network(silhouettes, lengths)
    np.testing.assert_allclose(actual[0], expected[0].numpy(), atol=1e-5)


@pytest.mark.parametrize("kind", ["random", "tied", "nan", "all nan", "huge", "minus infinity"])
@pytest.mark.parametrize("shape", [(1, 1, 1, 1), (3, 7, 4, 5), (2, 40, 8, 16)])
@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_the_function_is_the_operator(dtype, kind, shape):
    rng = np.random.default_rng(7)
    n, s, p, _ = shape
    features = rng.normal(size=shape).astype(dtype)
    scores = rng.normal(size=(n, p, s)).astype(dtype)
    if kind == "tied":
        scores = rng.integers(0, 2, scores.shape).astype(dtype)
    elif kind == "nan":
        scores[rng.random(scores.shape) < 0.5] = np.nan
    elif kind == "all nan":
        scores[:] = np.nan
    elif kind == "huge":
        scores[:] = np.where(rng.random(scores.shape) < 0.5, np.inf, np.finfo(dtype).max)
    elif kind == "minus infinity":
        scores[:] = -np.inf
    lengths = rng.integers(1, s + 1, n).astype(np.int32)
    tensors = [torch.from_numpy(array) for array in (features, scores, lengths)]
    salient, frames = onnx_function(*tensors)
    torch.testing.assert_close((salient, frames), part_gather(*tensors), rtol=0, atol=0)
    assert frames.shape == (n, p)


def test_the_exporter_is_left_as_it_was(traced):
    from torch.onnx._internal.torchscript_exporter.registration import registry

    traced("head")  # the first export fills the registry
    ours = registry.get_function_group("aten::squeeze")
    before = ours.get(OPSET)
    traced("head")
    assert registry.get_function_group("aten::squeeze").get(OPSET) is before


def test_the_default_network_is_the_papers(network):
    assert CstlConfig().widths == (32, 64, 128, 128)
