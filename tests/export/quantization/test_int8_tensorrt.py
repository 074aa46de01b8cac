"""INT8 trunk for TensorRT: one int8 kernel per convolution is possible, its numbers are float16."""

import importlib.util

import numpy as np
import onnx
import pytest

from cstl_edge.export.quantization import fp16
from cstl_edge.export.quantization.int8_tensorrt import for_tensorrt
from cstl_edge.export.quantization.int8_trunk import (
    activations,
    convolutions,
    quantise,
    refit_weights,
)
from cstl_edge.export.quantization.tensor_ranges import measure_ranges, open_graph
from cstl_edge.runtime.graph_format import QDQ_HALF_OPSET, check_graph

NAME = "frames.int8.tensorrt.onnx"


@pytest.fixture(scope="module")
def trunk(context):
    """The float32 trunk, its limits, weights and int8 form for TensorRT."""
    model, feeds = context.graphs["frames"], context.feeds("frames")
    ranges = measure_ranges(model, activations(model), feeds)
    limits = {name: measured.largest for name, measured in ranges.items()}
    weights = refit_weights(model, limits, feeds)
    return model, limits, weights, for_tensorrt(model, context.half("frames"), limits, feeds)


def test_between_a_convolution_and_its_relu_nothing_is_quantised(trunk):
    laid_out = trunk[3]
    producers = {name: node for node in laid_out.graph.node for name in node.output}
    relus = [node for node in laid_out.graph.node if node.op_type == "LeakyRelu"]
    assert len(relus) == len(convolutions(laid_out.graph)) == 4
    assert {producers[relu.input[0]].op_type for relu in relus} == {"Conv"}
    first, *later = convolutions(laid_out.graph)
    for conv in later:
        assert [producers[name].op_type for name in conv.input[:2]] == ["DequantizeLinear"] * 2
    assert first.input[1] not in producers  # weights of float16
    assert producers[first.input[0]].op_type != "DequantizeLinear"


def test_what_is_not_int8_is_float16(trunk):
    types = fp16.tensor_types(trunk[3])
    nodes = trunk[3].graph.node
    kinds = {"Conv", "LeakyRelu", "MaxPool", "DequantizeLinear"}
    computed = {types[node.output[0]] for node in nodes if node.op_type in kinds}
    assert computed == {onnx.TensorProto.FLOAT16}
    steps = {types[node.output[0]] for node in nodes if node.op_type == "QuantizeLinear"}
    assert steps == {onnx.TensorProto.INT8}
    assert trunk[3].opset_import[0].version == QDQ_HALF_OPSET


def test_its_features_are_as_near_to_float32_as_those_for_onnx_runtime(trunk, context):
    model, limits, weights, laid_out = trunk
    silhouettes = context.data.evaluation.silhouettes[0]
    expected = context.frames.run(None, {"silhouettes": silhouettes})[0]
    twin = fp16.open_exact(NAME, fp16.rounding_twin(laid_out))
    plain = open_graph("frames.int8.onnx", quantise(model, limits, weights))
    errors = [
        np.abs(session.run(None, {"silhouettes": silhouettes})[0] - expected).mean()
        for session in (twin, plain)
    ]
    assert errors[0] < 1.2 * errors[1] < 0.02 * np.abs(expected).mean()


def test_the_format_of_models_allows_its_opset_in_this_file_alone(trunk, context):
    from cstl_edge.errors import ModelError
    from cstl_edge.runtime.manifest import Shape

    shape, data = (
        Shape.model_validate(context.network.config.to_dict()),
        trunk[3].SerializeToString(),
    )
    check_graph(NAME, data, shape)
    with pytest.raises(ModelError, match="expected opset 17"):
        check_graph("frames.int8.onnx", data, shape)


@pytest.mark.skipif(
    importlib.util.find_spec("tensorrt_rtx") is None, reason="needs pip install tensorrt-rtx"
)
@pytest.mark.slow
@pytest.mark.timeout(600)
def test_nvidias_builder_makes_a_smaller_engine_of_it(trunk, context):
    """RTX cards get fp16; parser and types are those of TensorRT's family."""
    from cstl_edge.export.tensorrt.builder import RTX, PlanRequest, build_plan
    from cstl_edge.export.tensorrt.sources import Sizes, profiles
    from cstl_edge.runtime.manifest import Shape

    rtx = importlib.import_module(RTX)
    shape = Shape.model_validate(context.network.config.to_dict())
    request = PlanRequest(RTX, profiles("frames", shape, Sizes(8, 6, 12)), sm=89)
    plain = quantise(*trunk[:3])
    plans = [
        build_plan(rtx, model.SerializeToString(), request, lambda *_: True)
        for model in (trunk[3], plain)
    ]
    layers = plans[0].audit["network"]
    assert layers["CONVOLUTION"] == {"HALF": 4}
    assert layers["QUANTIZE"]["INT8"] < plans[1].audit["network"]["QUANTIZE"]["INT8"]
    assert len(plans[0].plan) < len(plans[1].plan)
