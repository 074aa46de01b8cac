"""The twin rounds where float16 does, and nowhere else."""

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from cstl_edge.errors import ExportError
from cstl_edge.export.graphs import GRAPHS, IR_VERSION, build_graph
from cstl_edge.export.quantization import fp16
from cstl_edge.export.quantization.fp16 import (
    half_tensors,
    islands,
    open_exact,
    rounding_twin,
    tensor_types,
    to_half,
)
from cstl_edge.export.quantization.tensor_ranges import run_exposed
from cstl_edge.runtime.graph_format import OPSET

FLOAT, HALF = TensorProto.FLOAT, TensorProto.FLOAT16
RNG = np.random.default_rng(0)
FEEDS = {
    "frames": {"silhouettes": RNG.integers(0, 256, (5, 16, 12), np.uint8)},
    "head": {
        "features": RNG.random((2, 9, 4, 16), np.float32),
        "lengths": np.array([9, 4], np.int32),
    },
}


def is_half(values):
    with np.errstate(over="ignore"):
        return np.array_equal(values.astype(np.float16).astype(np.float32), values, equal_nan=True)


@pytest.mark.parametrize("graph", GRAPHS)
def test_it_is_float32_throughout(traced, graph):
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


def test_it_is_a_plain_loop_in_numpy():
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
    found = session.run(None, {"x": x})[0]
    assert np.abs(found - expected).max() <= np.abs(expected).max() * 2**-11  # the last bit
    assert (found == expected).mean() > 0.9
    assert is_half(found)
    assert not np.array_equal(found, (weight @ x).astype(np.float32))


def test_what_reaches_70000_is_infinite_and_float32_does_not_notice(network):
    network = huge(network())
    feed = FEEDS["frames"]
    model = build_graph(network.fused(), "frames")
    (plain,) = run_exposed(model, ["features"], [feed])
    twin = open_exact("frames", rounding_twin(to_half(model)))
    assert np.isfinite(plain["features"]).all()
    with torch.no_grad():
        expected = network.frame_features(torch.tensor(feed["silhouettes"])).numpy()
    np.testing.assert_allclose(plain["features"], expected, rtol=1e-4)
    assert not np.isfinite(twin.run(None, feed)[0]).all()


def huge(network):
    """Let the output of the second convolution pass 70,000; the next two bring it back."""
    with torch.no_grad():
        for conv, power in zip(network.backbone.convs, (9, 10, -9, -10), strict=True):
            conv.weight *= 2.0**power
    return network


def test_a_runtime_that_leaves_the_casts_out_is_found(network, monkeypatch):
    def no_casts(name):
        return (helper.make_node("Identity", [f"{name}.exact"], [name]),)

    monkeypatch.setattr(fp16, "_rounding", no_casts)
    twin = onnx.ModelProto()
    with pytest.raises(ExportError, match="leaves out Casts to float16 and back"):
        open_exact("frames", twin)
