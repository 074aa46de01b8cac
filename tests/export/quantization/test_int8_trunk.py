"""INT8: the form that both runtimes take, and numbers that a plain loop gives too."""

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, numpy_helper

from cstl_edge.errors import ExportError
from cstl_edge.export.quantization.fp16 import open_exact
from cstl_edge.export.quantization.int8_trunk import LEVELS, WEIGHT_LEVELS, activations, quantise
from cstl_edge.export.quantization.tensor_ranges import measure_ranges, run_exposed

SILHOUETTES = np.random.default_rng(1).integers(0, 2, (6, 16, 12), np.uint8) * np.uint8(255)
FEED = {"silhouettes": SILHOUETTES}


@pytest.fixture
def plain(traced):
    return traced("frames", widths=(8, 16, 16, 16))


@pytest.fixture
def limits(plain):
    spans = measure_ranges(plain, activations(plain), [FEED])
    return {name: span.largest for name, span in spans.items()}


def session(model, path=None):
    options = ort.SessionOptions()
    if path:
        options.optimized_model_filepath = str(path)
    return ort.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )


def test_it_is_symmetric_int8_with_scales_in_float32(plain, limits):
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
    fast = session(model).run(None, FEED)[0]
    simulated = open_exact("frames", model).run(None, FEED)[0]
    step = limits[activations(plain)[-1]] / LEVELS
    assert np.abs(fast - simulated).max() <= 3 * step  # a value in the middle goes either way
    assert np.abs(fast - simulated).mean() < 0.05 * step


def test_saturated_sums_would_show(plain, limits):
    """All white and all weights at their largest: the case that 16-bit sums of pairs clip."""
    for tensor in plain.graph.initializer:
        if tensor.name.endswith("weight"):
            ones = np.ones(tensor.dims, np.float32) / np.prod(tensor.dims[1:])
            tensor.CopyFrom(numpy_helper.from_array(ones.astype(np.float32), tensor.name))
    feed = {"silhouettes": np.full((2, 16, 12), 255, np.uint8)}
    spans = measure_ranges(plain, activations(plain), [feed])
    model = quantise(plain, {name: span.largest for name, span in spans.items()})
    expected = session(plain).run(None, feed)[0]
    np.testing.assert_allclose(session(model).run(None, feed)[0], expected, rtol=0.03)


def test_onnx_runtime_computes_the_convolutions_in_int8(plain, limits, tmp_path):
    session(quantise(plain, limits), tmp_path / "optimised.onnx")
    optimised = onnx.load(tmp_path / "optimised.onnx")
    kinds = [node.op_type for node in optimised.graph.node]
    assert kinds.count("QLinearConv") == 4
    assert "Conv" not in kinds
    assert "FusedConv" not in kinds


def test_it_is_near_float32(plain, limits):
    expected = session(plain).run(None, FEED)[0]
    found = session(quantise(plain, limits)).run(None, FEED)[0]
    lengths = np.linalg.norm(expected, axis=2) * np.linalg.norm(found, axis=2)
    assert ((expected * found).sum(2) / lengths).min() > 0.99
    assert (found != expected).any()


def test_a_limit_cuts_what_is_beyond(plain, limits):
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
