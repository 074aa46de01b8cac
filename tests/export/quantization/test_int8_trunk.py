"""INT8 trunk: Q/DQ form, and equality with a plain loop."""

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from onnx import TensorProto, numpy_helper

from cstl_edge.errors import ExportError
from cstl_edge.export.quantization import int8_trunk
from cstl_edge.export.quantization.fp16 import open_exact
from cstl_edge.export.quantization.int8_trunk import (
    LEVELS,
    WEIGHT_LEVELS,
    activations,
    quantise,
    refit_weights,
    round_weights,
)
from cstl_edge.export.quantization.tensor_ranges import measure_ranges, run_exposed
from cstl_edge.export.simplify import run

SILHOUETTES = np.random.default_rng(1).integers(0, 2, (6, 16, 12), np.uint8) * np.uint8(255)
FEED = {"silhouettes": SILHOUETTES}


@pytest.fixture
def plain(traced):
    return traced("frames", widths=(8, 16, 16, 16))


def limits_of(model, feeds):
    spans = measure_ranges(model, activations(model), feeds)
    return {name: span.largest for name, span in spans.items()}


@pytest.fixture
def limits(plain):
    return limits_of(plain, [FEED])


def test_quantisation_is_symmetric_int8_with_float32_scales(plain, limits):
    model = quantise(plain, limits)
    onnx.checker.check_model(model, full_check=True)
    tensors = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
    nodes = [n for n in model.graph.node if n.op_type in ("QuantizeLinear", "DequantizeLinear")]
    assert {n.op_type for n in nodes} == {"QuantizeLinear", "DequantizeLinear"}
    for node in nodes:
        _, scale, zero = node.input
        assert tensors[scale].dtype == np.float32
        assert tensors[zero].dtype == np.int8
        assert not tensors[zero].any()
    assert TensorProto.UINT8 not in {t.data_type for t in model.graph.initializer}


def test_every_convolution_stands_between_pairs_and_nothing_else(plain, limits):
    model = quantise(plain, limits)
    producers = {name: node for node in model.graph.node for name in node.output}
    convolutions = [n for n in model.graph.node if n.op_type == "Conv"]
    assert len(convolutions) == 4
    for conv in convolutions:
        assert [producers[x].op_type for x in conv.input] == ["DequantizeLinear"] * 2
        readers = [n.op_type for n in model.graph.node if conv.output[0] in n.input]
        assert readers == ["QuantizeLinear"]
    pools = [n for n in model.graph.node if n.op_type in ("AveragePool", "MaxPool")][-2:]
    assert {producers[pool.input[0]].op_type for pool in pools} == {"LeakyRelu"}
    scaling = next(n for n in model.graph.node if n.op_type == "Div")
    assert not [x for x in scaling.input if x.endswith(".int8")]  # 1/255 is no step of anything


def test_weights_have_a_scale_per_output_channel_and_seven_bits(plain, limits):
    before = {t.name: numpy_helper.to_array(t) for t in plain.graph.initializer}
    model = quantise(plain, limits)
    tensors = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
    name = "network.backbone.convs.1.weight"
    steps, scale = tensors[f"{name}.steps"], tensors[f"{name}.scale"]
    assert scale.shape == (16,)
    assert np.abs(steps.astype(int)).max(axis=(1, 2, 3)).tolist() == [WEIGHT_LEVELS] * 16
    error = np.abs(steps * scale[:, None, None, None] - before[name])
    assert (error <= scale[:, None, None, None] * 0.5001).all()


def test_the_kernels_compute_as_float32_between_the_pairs(plain, limits):
    """The optimised graph runs in integers; node by node it is float32 on rounded numbers."""
    model = quantise(plain, limits)
    fast = run(model, FEED)[0]
    simulated = open_exact("frames", model).run(None, FEED)[0]
    step = limits[activations(plain)[-1]] / LEVELS
    assert np.abs(fast - simulated).max() <= 3 * step  # a value in the middle goes either way
    assert np.abs(fast - simulated).mean() < 0.05 * step


def test_saturated_sums_would_show(plain):
    """All white and all weights at their largest: the case that 16-bit sums of pairs clip."""
    for tensor in plain.graph.initializer:
        if tensor.name.endswith("weight"):
            ones = np.ones(tensor.dims, np.float32) / np.prod(tensor.dims[1:])
            tensor.CopyFrom(numpy_helper.from_array(ones.astype(np.float32), tensor.name))
    feed = {"silhouettes": np.full((2, 16, 12), 255, np.uint8)}
    model = quantise(plain, limits_of(plain, [feed]))
    expected = run(plain, feed)[0]
    np.testing.assert_allclose(run(model, feed)[0], expected, rtol=0.03)


def test_onnx_runtime_computes_the_convolutions_in_int8(plain, limits, tmp_path):
    options = ort.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "optimised.onnx")
    graph = quantise(plain, limits).SerializeToString()
    ort.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    optimised = onnx.load(tmp_path / "optimised.onnx")
    kinds = [node.op_type for node in optimised.graph.node]
    assert kinds.count("QLinearConv") == 4
    assert "Conv" not in kinds
    assert "FusedConv" not in kinds


def test_int8_trunk_is_near_float32(plain, limits):
    expected = run(plain, FEED)[0]
    actual = run(quantise(plain, limits), FEED)[0]
    lengths = np.linalg.norm(expected, axis=2) * np.linalg.norm(actual, axis=2)
    assert ((expected * actual).sum(2) / lengths).min() > 0.99
    assert (actual != expected).any()


def test_limit_clips_larger_values(plain, limits):
    small = {name: limit / 4 for name, limit in limits.items()}
    model = quantise(plain, small)
    (tensors,) = run_exposed(model, [f"{activations(plain)[0]}.int8"], [FEED])
    (values,) = tensors.values()
    assert values.max() == pytest.approx(small[activations(plain)[0]])


def test_silhouettes_that_show_nothing_cannot_calibrate(plain):
    with pytest.raises(ExportError, match=r"LeakyRelu.* has the range 0 .*silhouettes of people"):
        quantise(plain, dict.fromkeys(activations(plain), 0.0))


def test_a_convolution_without_its_activation_is_refused(plain):
    for node in plain.graph.node:
        if node.op_type == "LeakyRelu":
            node.op_type = "Relu"
    with pytest.raises(ExportError, match=r"expected one LeakyRelu behind .*; got \['Relu'\]"):
        activations(plain)


# Choice of the weights


def blocks(seed, count):
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 2, (count, 4, 3), np.uint8) * np.uint8(255)
    return {"silhouettes": coarse.repeat(4, 1).repeat(4, 2)}  # [m, 16, 12]


@pytest.fixture(scope="module")
def feeds():
    return [blocks(seed, 12) for seed in range(4)]


def test_outputs_come_nearer_on_other_silhouettes(plain, feeds):
    limits = limits_of(plain, feeds)
    other = blocks(99, 40)
    expected = run(plain, other)[0]
    rounded = quantise(plain, limits)
    chosen = quantise(plain, limits, refit_weights(plain, limits, feeds))
    before, after = (
        np.square(run(model, other)[0] - expected).mean() for model in (rounded, chosen)
    )
    assert after < 0.6 * before


def test_one_set_of_weights_per_export(plain, feeds):
    limits = limits_of(plain, feeds)
    first, second = (refit_weights(plain, limits, feeds) for _ in range(2))
    assert len(first) == 4
    for name, (steps, scale) in first.items():
        assert steps.dtype == np.int8
        assert np.abs(steps.astype(int)).max() <= WEIGHT_LEVELS
        np.testing.assert_array_equal(steps, second[name].steps)
        np.testing.assert_array_equal(scale, second[name].scale)


def test_independent_inputs_leave_the_weights_alone():
    weights = np.random.default_rng(0).uniform(-60, 60, (5, 9))
    np.testing.assert_array_equal(round_weights(weights, np.eye(9)), np.rint(weights))


def test_correlated_inputs_compensate_rounding_errors():
    rng = np.random.default_rng(1)
    common = rng.normal(size=(400, 1))
    inputs = common + 0.1 * rng.normal(size=(400, 18))  # all nearly the same
    weights = rng.uniform(-40, 40, (6, 18))
    gram = inputs.T @ inputs + 0.01 * np.eye(18)
    off = [
        inputs @ (steps - weights).T for steps in (np.rint(weights), round_weights(weights, gram))
    ]
    assert np.square(off[1]).mean() < 0.2 * np.square(off[0]).mean()


def test_patches_are_the_inputs_of_a_convolution():
    rng = np.random.default_rng(2)
    maps = rng.normal(size=(3, 4, 5, 6)).astype(np.float32)
    weight = rng.normal(size=(7, 4, 3, 3)).astype(np.float32)
    where = (np.array([0, 2, 1]), np.array([0, 4, 2]), np.array([5, 0, 3]))  # corners too
    expected = torch.nn.functional.conv2d(
        torch.tensor(maps), torch.tensor(weight), padding=1
    ).numpy()
    actual = int8_trunk._patches(maps, where) @ weight.reshape(7, -1).T  # [i, o]
    np.testing.assert_allclose(actual, expected[where[0], :, where[1], where[2]], rtol=1e-4)
