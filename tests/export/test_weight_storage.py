"""Weights stored as float16: half the bytes, the same outputs."""

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from onnx import TensorProto

from cstl_edge.export.graphs import build_graph
from cstl_edge.export.simplify import run
from cstl_edge.export.weight_storage import MIN_ELEMENTS, folded_factors, store_as_half


def rounded(network):
    with torch.no_grad():
        for tensor in network.state_dict().values():
            tensor.copy_(tensor.half().float())
    return network


def weight_bytes(model):
    return sum(len(tensor.raw_data) for tensor in model.graph.initializer)


@pytest.fixture
def feed():
    rng = np.random.default_rng(0)
    return {
        "features": rng.random((2, 9, 4, 16), dtype=np.float32),
        "lengths": np.array([9, 5], np.int32),
    }


def test_outputs_are_equal_to_the_bit(network, feed):
    network = rounded(network())
    model = build_graph(network.fused(), "head")
    plain, size = run(model, feed), weight_bytes(model)
    assert store_as_half(model, folded_factors(network)) > 0
    onnx.checker.check_model(model, full_check=True)
    for before, after in zip(plain, run(model, feed), strict=True):
        np.testing.assert_array_equal(before, after)
    assert weight_bytes(model) < 0.65 * size


def test_every_large_weight_is_half(network):
    network = rounded(network())
    model = build_graph(network.fused(), "head")
    store_as_half(model, folded_factors(network))
    for tensor in model.graph.initializer:
        if np.prod(tensor.dims) >= MIN_ELEMENTS:
            assert tensor.data_type == TensorProto.FLOAT16, tensor.name


def test_the_runtime_unfolds_them_once(network, feed, tmp_path):
    network = rounded(network())
    model = build_graph(network.fused(), "head")

    def kinds(model):
        options = ort.SessionOptions()
        options.optimized_model_filepath = str(tmp_path / "optimised.onnx")
        ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        optimised = onnx.load(options.optimized_model_filepath)
        return sorted(node.op_type for node in optimised.graph.node)

    plain = kinds(model)
    store_as_half(model, folded_factors(network))
    assert kinds(model) == plain  # no Cast and no Mul more than before


def test_weights_that_would_lose_by_it_stay(network, feed):
    network = network()  # trained in float32
    model = build_graph(network.fused(), "head")
    plain = run(model, feed)
    assert store_as_half(model, folded_factors(network)) == 0
    np.testing.assert_array_equal(plain[0], run(model, feed)[0])


def test_too_large_for_half_is_not_infinite(network):
    network = rounded(network())
    with torch.no_grad():
        network.embed.weight[:] = 2.0**17
    model = build_graph(network.fused(), "head")
    store_as_half(model, folded_factors(network))
    product = [n for n in model.graph.node if n.op_type == "MatMul"][-1]  # the embedding
    kinds = {t.name: t.data_type for t in model.graph.initializer}
    assert kinds[product.input[1]] == TensorProto.FLOAT
