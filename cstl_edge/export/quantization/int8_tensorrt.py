"""INT8 form of the trunk for TensorRT: what its compiler fuses into one kernel per convolution.

The file for ONNX Runtime has a Q/DQ pair between each convolution and its Leaky ReLU, float32
around them, and an int8 first convolution of one channel. Here a convolution goes with its Leaky
ReLU up to the next Q, numbers that are not int8 are float16, and so is the first convolution. Q/DQ
of float16 are in ONNX since opset 19. Steps and scales are those of `int8_trunk`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper, version_converter

from cstl_edge.arrays import Array
from cstl_edge.errors import ExportError, one_line
from cstl_edge.export.quantization.fp16 import TO_HALF
from cstl_edge.export.quantization.int8_trunk import (
    ZERO,
    Steps,
    convolutions,
    nearest,
    refit_weights,
    tensor_scales,
)
from cstl_edge.runtime.graph_format import MAX_IR_VERSION, QDQ_HALF_OPSET


def for_tensorrt(
    model: onnx.ModelProto,
    half: onnx.ModelProto,
    limits: Mapping[str, float],
    feeds: Sequence[dict[str, Any]],
) -> onnx.ModelProto:
    """Return the int8 form of a `frames` graph for TensorRT, its weights fitted to this form.

    Args:
        model: Graph in float32.
        half: The same in fp16, by `fp16.to_half`.
        limits: Largest activations by tensor, as for `int8_trunk.quantise`.
        feeds: Calibration silhouettes as inputs of the graph.
    """

    def form(weights: Mapping[str, Steps]) -> onnx.ModelProto:
        return tensorrt_layout(model, half, limits, weights)

    return form(refit_weights(model, limits, feeds, form))


def tensorrt_layout(
    model: onnx.ModelProto,
    half: onnx.ModelProto,
    limits: Mapping[str, float],
    weights: Mapping[str, Steps],
) -> onnx.ModelProto:
    """Return the int8 form of a `frames` graph for TensorRT.

    Args:
        model: Graph in float32.
        half: The same in fp16, by `fp16.to_half`.
        limits: Largest activations by tensor, as for `int8_trunk.quantise`.
        weights: Rounded weights by name; those of other convolutions go to the nearest step, and
            those of the first are not used. ExportError for a step that float16 cannot hold.
    """
    first, *later = convolutions(model.graph)
    before_relu = {conv.output[0] for conv in convolutions(model.graph)}
    scales = {
        name: scale
        for name, scale in tensor_scales(model.graph, limits).items()
        if name not in before_relu and name != first.input[0]
    }
    plain = {tensor.name: tensor for tensor in model.graph.initializer}
    rounded = {
        f"{conv.input[1]}{TO_HALF}": weights.get(conv.input[1]) or nearest(plain[conv.input[1]])
        for conv in later
    }
    typed = version_converter.convert_version(half, QDQ_HALF_OPSET)
    graph = typed.graph
    kept = [tensor for tensor in graph.initializer if tensor.name not in rounded]
    nodes, added = _dequantised_weights(rounded)
    for node in graph.node:
        for place, name in enumerate(node.input):
            if name in scales or name in rounded:
                node.input[place] = f"{name}.int8"
        nodes.append(node)
        for name in node.output:
            if name in scales:
                scale = _half_scale(name, np.array(scales[name]))
                added.append(numpy_helper.from_array(scale, f"{name}.scale"))
                pair = [f"{name}.scale", ZERO]
                nodes += [
                    helper.make_node("QuantizeLinear", [name, *pair], [f"{name}.steps"]),
                    helper.make_node(
                        "DequantizeLinear", [f"{name}.steps", *pair], [f"{name}.int8"]
                    ),
                ]
    return _finished(typed, nodes, [*kept, *added])


def _dequantised_weights(
    rounded: Mapping[str, Steps],
) -> tuple[list[onnx.NodeProto], list[onnx.TensorProto]]:
    """Return the nodes that scale weights, by name, to float16, and the tensors that they read."""
    nodes, added = [], [numpy_helper.from_array(np.array(0, np.int8), ZERO)]
    for name, steps in rounded.items():
        scale = _half_scale(name, steps.scale)
        tensors = {f"{name}.steps": steps.steps, f"{name}.scale": scale}
        tensors[f"{name}.zero"] = np.zeros(len(scale), np.int8)
        added += [numpy_helper.from_array(array, key) for key, array in tensors.items()]
        nodes.append(helper.make_node("DequantizeLinear", [*tensors], [f"{name}.int8"], axis=0))
    return nodes, added


def _finished(
    typed: onnx.ModelProto, nodes: list[onnx.NodeProto], tensors: list[onnx.TensorProto]
) -> onnx.ModelProto:
    """Return a model with other nodes and tensors, which may be its own."""
    graph = typed.graph
    copies = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
    own = [onnx.TensorProto.FromString(tensor.SerializeToString()) for tensor in tensors]
    del graph.node[:], graph.initializer[:], graph.value_info[:]
    graph.node.extend(copies)
    graph.initializer.extend(own)
    typed.ir_version = MAX_IR_VERSION
    onnx.checker.check_model(typed)
    return typed


def _half_scale(name: str, scale: Array) -> Array:
    """Return steps as float16 (ExportError where one becomes 0 or infinite)."""
    with np.errstate(over="ignore", under="ignore"):
        half = scale.astype(np.float16)
    if not (np.isfinite(half) & (half > 0)).all():
        raise ExportError(
            f"int8 for tensorrt: a step of {one_line(name)} is {float(np.min(scale)):g}, which "
            "float16 cannot hold"
        )
    return np.asarray(half)
