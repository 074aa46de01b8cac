"""INT8 form of the trunk: the convolutions of `frames` between Q/DQ pairs, all else float32.

The types are int8, symmetric, zero point 0, one scale per tensor of activations and per output
channel of weights: what ONNX Runtime's CPU kernels and NVIDIA's strongly typed builder both take
from one file.

Weights are chosen by their outputs: refitted to quantised inputs, rounded one after the other.
Rounding activations is no mere noise: what is beyond a limit is cut off, and the hundredth that
Leaky ReLU leaves below zero is less than a step. So `refit_weights` gives every convolution in turn
the weights whose outputs, from the outputs of the quantised layers before it, are nearest to
float32's: least squares over the calibration silhouettes. `round_weights` then rounds one weight
after the other, and the weights of the same output that are not yet rounded make good for each
error (GPTQ, Frantar et al. 2022).

Letters: m frames, c channels, o outputs, k = 9 c weights of an output, i pixels.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper, numpy_helper

from cstl_edge.arrays import Array, Doubles, Floats
from cstl_edge.errors import ExportError, one_line
from cstl_edge.export.quantization.tensor_ranges import run_exposed

LEVELS = 127  # of an activation, on either side of zero
WEIGHT_LEVELS = 63
"""Of a weight. x86 without VNNI adds pairs of products in 16 bits: 255 · 127 · 2 does not fit."""
WHITE = 1.0  # the largest input of the first convolution: silhouettes are scaled to 0..1
ZERO = "int8.zero"
PIXELS = 500  # looked at in each walk: they are many, and alike
PULL = 0.01  # towards the float32 weights, as a share of the mean square of an input
SEED = 20217


class Steps(NamedTuple):
    """Weights of a convolution as int8."""

    steps: npt.NDArray[np.int8]  # [c out, c in, 3, 3]
    scale: Floats  # [c out]: one step


def channel_scales(
    values: Floats, inputs: tuple[int, ...] = (1, 2, 3), levels: int = WEIGHT_LEVELS
) -> Floats:
    """Return the step of each output channel of weights, whose `inputs` axes become 1.

    Args:
        values: Weights.
        inputs: Axes of their inputs.
        levels: Number of steps on either side of zero.
    """
    largest = np.abs(values).max(axis=inputs, keepdims=True)
    return np.where(largest > 0, largest, 1).astype(np.float32) / np.float32(levels)


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
        model: Graph.
        limits: Size |x| that becomes 127, by tensor of `activations`; larger values are
            clipped; no positive number is an ExportError.
        weights: Rounded weights by name; those of other convolutions go to the nearest step.
    """
    quantised = copy.deepcopy(model)
    graph = quantised.graph
    scales = tensor_scales(graph, limits)
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
            tensors, dequantise = _weights(tensor.name, chosen.get(tensor.name) or nearest(tensor))
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


def tensor_scales(graph: onnx.GraphProto, limits: Mapping[str, float]) -> dict[str, float]:
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


def nearest(tensor: onnx.TensorProto) -> Steps:
    """Return weights rounded to the nearest step."""
    values = numpy_helper.to_array(tensor)
    scale = channel_scales(values)
    return Steps(np.rint(values / scale).astype(np.int8), scale.ravel())


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


# Choice of the weights


def refit_weights(
    model: onnx.ModelProto,
    limits: Mapping[str, float],
    feeds: Sequence[dict[str, Any]],
    form: Callable[[Mapping[str, Steps]], onnx.ModelProto] | None = None,
) -> dict[str, Steps]:
    """Return the weights of all convolutions of a float32 `frames` graph as int8, by name.

    Args:
        model: Graph.
        limits: Largest activations by tensor, as for `int8_trunk.quantise`.
        feeds: Calibration silhouettes as inputs of the graph.
        form: Function from weights to the int8 form whose inputs they shall fit; by default
            `quantise`.
    """
    quantised_by = form or (lambda weights: quantise(model, limits, weights))
    tensors = {tensor.name: tensor for tensor in model.graph.initializer}
    chosen: dict[str, Steps] = {}
    for place, conv in enumerate(convolutions(model.graph)):
        quantised = quantised_by(chosen)  # final up to this convolution
        inputs = conv.input[0], convolutions(quantised.graph)[place].input[0]
        gram, cross = _moments(model, quantised, inputs, feeds)
        values = numpy_helper.to_array(tensors[conv.input[1]])  # [o, c, 3, 3]
        flat = values.reshape(len(values), -1).astype(np.float64)  # [o, k]
        pull = PULL * np.trace(gram) / len(gram) * np.eye(len(gram))
        refitted = np.linalg.solve(gram + pull, (cross + pull) @ flat.T).T  # [o, k]
        shaped = refitted.reshape(values.shape).astype(np.float32)
        scale = channel_scales(shaped).ravel()
        steps = round_weights(refitted / scale[:, None], gram + pull)
        chosen[conv.input[1]] = Steps(steps.reshape(values.shape), scale)
    return chosen


def _moments(
    model: onnx.ModelProto,
    quantised: onnx.ModelProto,
    inputs: tuple[str, str],
    feeds: Sequence[dict[str, Any]],
) -> tuple[Doubles, Doubles]:
    """Return Z'Z and Z'F [k, k] of a convolution's patches, quantised Z and float32 F [i, k].

    inputs: the convolution's input tensor in `model`, and in `quantised`
    """
    rng = np.random.default_rng(SEED)
    plain, rounded = inputs
    gram: Doubles | float = 0.0
    cross: Doubles | float = 0.0
    runs = zip(
        run_exposed(model, [plain], feeds), run_exposed(quantised, [rounded], feeds), strict=True
    )
    for before, after in runs:
        m, _, h, w = before[plain].shape
        where = tuple(rng.integers(0, size, PIXELS) for size in (m, h, w))
        f, z = _patches(before[plain], where), _patches(after[rounded], where)
        gram, cross = gram + z.T @ z, cross + z.T @ f
    return np.asarray(gram), np.asarray(cross)


def _patches(maps: Floats, where: tuple[npt.NDArray[np.int64], ...]) -> Doubles:
    """Return a 3x3 convolution's inputs (padding 1) at pixels of maps [m, c, h, w]: [i, k]."""
    padded = np.pad(maps, ((0, 0), (0, 0), (1, 1), (1, 1)))
    frames, rows, columns = where
    taps = [padded[frames, :, rows + y, columns + x] for y in range(3) for x in range(3)]
    return np.stack(taps, axis=2).reshape(len(frames), -1).astype(np.float64)  # [i, c, 9] as [i, k]


def round_weights(
    weights: Doubles, gram: Doubles, levels: int = WEIGHT_LEVELS
) -> npt.NDArray[np.int8]:
    """Round weights [o, k], in steps, so that their outputs change least.

    Weights of the largest inputs come first, while most others can still compensate their errors.

    Args:
        weights: Weights in steps.
        gram: Sums of products of inputs [k, k].
        levels: Number of steps on either side of zero.
    """
    order = np.argsort(-np.diag(gram), kind="stable")
    remaining = weights[:, order].copy()
    upper = np.linalg.cholesky(np.linalg.inv(gram[np.ix_(order, order)])).T
    steps = np.zeros(weights.shape, np.int8)
    for k, column in enumerate(order):
        nearest = np.clip(np.rint(remaining[:, k]), -levels, levels)
        steps[:, column] = nearest
        error = (remaining[:, k] - nearest) / upper[k, k]
        remaining[:, k + 1 :] -= np.outer(error, upper[k, k + 1 :])
    return steps
