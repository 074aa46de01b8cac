"""INT8 form of the trunk: the convolutions of `frames` between Q/DQ pairs, all else float32.

The types are int8, symmetric, zero point 0, one scale per tensor of activations and per output
channel of weights: what ONNX Runtime's CPU kernels and NVIDIA's strongly typed builder both take
from one file. Letters: m frames, c channels.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper, numpy_helper

from cstl_edge.arrays import Array, Floats
from cstl_edge.errors import ExportError, one_line

LEVELS = 127  # of an activation, on either side of zero
WEIGHT_LEVELS = 63
"""Of a weight. x86 without VNNI adds pairs of products in 16 bits: 255 · 127 · 2 does not fit."""
WHITE = 1.0  # the largest input of the first convolution: silhouettes are scaled to 0..1
ZERO = "int8.zero"


class Steps(NamedTuple):
    """Weights of a convolution as int8."""

    steps: npt.NDArray[np.int8]  # [c out, c in, 3, 3]
    scale: Floats  # [c out]: one step


def channel_scales(values: Floats) -> Floats:
    """Return the step of each output channel of weights [c out, c in, 3, 3]."""
    largest = np.abs(values).max(axis=(1, 2, 3))
    return np.where(largest > 0, largest, 1).astype(np.float32) / np.float32(WEIGHT_LEVELS)


def activations(model: onnx.ModelProto) -> list[str]:
    """Return the tensors to calibrate: each convolution's output behind its Leaky ReLU."""
    return [_activation(model.graph, conv) for conv in convolutions(model.graph)]


def quantise(
    model: onnx.ModelProto, limits: Mapping[str, float], weights: Mapping[str, Steps] | None = None
) -> onnx.ModelProto:
    """Return the float32 `frames` graph with its convolutions between Q/DQ pairs.

    A convolution's output gets the scale of what Leaky ReLU leaves of it: what is cut off below
    zero would be multiplied by 0.01 anyway, and above zero both pairs have the same steps.

    Args:
        model: the graph.
        limits: by tensor of `activations`, the size |x| that becomes 127; larger values are
            clipped.
        weights: by name; those of convolutions that are not in it are rounded to the nearest step.

    Raises:
        ExportError: a limit is no positive number.
    """
    quantised = copy.deepcopy(model)
    graph = quantised.graph
    scales = _scales(graph, limits)
    plain = {tensor.name: tensor for tensor in graph.initializer}
    chosen = weights or {}
    nodes: list[onnx.NodeProto] = []
    added: list[onnx.TensorProto] = [numpy_helper.from_array(np.array(0, np.int8), ZERO)]
    for node in graph.node:
        for place, name in enumerate(node.input):
            if name in scales:
                node.input[place] = f"{name}.int8"
        if node.op_type == "Conv":
            tensor = plain.pop(node.input[1])
            tensors, dequantise = _weights(tensor.name, chosen.get(tensor.name) or _nearest(tensor))
            added += tensors
            nodes.append(dequantise)
            node.input[1] = dequantise.output[0]
        nodes.append(node)
        for name in node.output:
            if name in scales:
                added.append(
                    numpy_helper.from_array(np.array(scales[name], np.float32), f"{name}.scale")
                )
                nodes += _pair(name)
    del graph.node[:], graph.initializer[:]
    graph.node.extend(nodes)
    graph.initializer.extend([*plain.values(), *added])
    onnx.checker.check_model(quantised)
    return quantised


def _scales(graph: onnx.GraphProto, limits: Mapping[str, float]) -> dict[str, float]:
    """Return the scale of every tensor that gets a pair of nodes."""
    producers = {name: node for node in graph.node for name in node.output}
    scales: dict[str, float] = {}
    for conv in convolutions(graph):
        activation = _activation(graph, conv)
        limit = limits[activation]
        if not np.isfinite(limit) or limit <= 0:
            raise ExportError(
                f"int8: {one_line(activation)} has the range {limit:g} on the silhouettes given; "
                "expected more than 0. Calibrate on silhouettes of people"
            )
        scales[conv.output[0]] = limit / LEVELS
        # The input: an earlier activation, pooled or not, or the silhouettes.
        source, producer = conv.input[0], producers.get(conv.input[0])
        pooled = producer is not None and producer.op_type == "MaxPool"
        origin = producer.input[0] if producer is not None and pooled else source
        scales[source] = limits.get(origin, WHITE) / LEVELS
        if pooled:
            scales[origin] = scales[source]
    return scales


def _pair(name: str) -> tuple[onnx.NodeProto, onnx.NodeProto]:
    """Return the nodes that round a tensor to int8 and back."""
    scale = f"{name}.scale"
    return (
        helper.make_node("QuantizeLinear", [name, scale, ZERO], [f"{name}.steps"]),
        helper.make_node("DequantizeLinear", [f"{name}.steps", scale, ZERO], [f"{name}.int8"]),
    )


def _nearest(tensor: onnx.TensorProto) -> Steps:
    """Return weights rounded to the nearest step."""
    values = numpy_helper.to_array(tensor)
    scale = channel_scales(values)
    return Steps(np.rint(values / scale[:, None, None, None]).astype(np.int8), scale)


def _weights(name: str, weights: Steps) -> tuple[list[onnx.TensorProto], onnx.NodeProto]:
    """Return a convolution's weights as int8 tensors, and the node that scales them."""
    tensors: dict[str, Array] = {
        f"{name}.steps": weights.steps,
        f"{name}.scale": weights.scale,
        f"{name}.zero": np.zeros(len(weights.scale), np.int8),
    }
    node = helper.make_node("DequantizeLinear", [*tensors], [f"{name}.int8"], axis=0)
    return [numpy_helper.from_array(array, key) for key, array in tensors.items()], node


def convolutions(graph: onnx.GraphProto) -> list[onnx.NodeProto]:
    """Return the convolutions in the order of computation."""
    return [node for node in graph.node if node.op_type == "Conv"]


def _activation(graph: onnx.GraphProto, conv: onnx.NodeProto) -> str:
    """Return the output of the Leaky ReLU behind a convolution."""
    readers = [node for node in graph.node if conv.output[0] in node.input]
    if [node.op_type for node in readers] != ["LeakyRelu"]:
        raise ExportError(
            f"int8: expected one LeakyRelu behind {one_line(conv.output[0])}; got "
            f"{one_line([node.op_type for node in readers])}. Export without simplification"
        )
    return str(readers[0].output[0])
