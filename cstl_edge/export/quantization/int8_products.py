"""Matrix products with int8 weights: a quarter of the bytes, with inputs of 14 bits or in float32.

One more frame of a walker reads every weight of the head for a few rows, 28 MB in float32 at the
paper's widths: the time is that of memory, and int8 lies in a cache. Rounding the weights costs
little; rounding what they multiply to 8 bits moved one salient frame in sixty. So an input is
written as two integers of 7 bits, the second being what the first left over:

    x = S (a - 64) + s (b - 64),  S = 127 s,  x w = s (127 a w + b w - 8192 w)

Scales come from calibration and never from the batch: an output must not depend on who else walks
by. Weights are int8, symmetric, one scale per part and output channel, and rounded so that the
errors of a product make good for each other (to the nearest, they were off four times as far).
With 7 bits on one side they may have 127 levels: x86 without VNNI adds pairs of products in 16
bits, and 128 · 127 · 2 fits.

ONNX Runtime multiplies a single row by such weights as they lie, in a quarter of float32's time;
many rows it multiplies faster in float32, so there is a form with the same weights for these too.

Letters: p parts, m rows, k inputs and o outputs of a product.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from cstl_edge.arrays import Array, Doubles, Floats
from cstl_edge.errors import ExportError, one_line
from cstl_edge.export.quantization.int8_trunk import PULL, channel_scales, round_weights
from cstl_edge.export.quantization.tensor_ranges import InputStatistics

ZERO = 64  # the integer that stands for zero, in either of the two
COARSE = 63  # steps of the first on either side of zero
FINE = 127  # steps of the second to one of the first
HEADROOM = 2.0
"""What is not clipped, in the largest value seen while calibrating: a bit of the 14 is given away
so that people who are larger than those are not."""
LEVELS = 127  # of a weight, on either side of zero
MIN_WEIGHTS = 16_000
"""Of one part. Smaller products stay: a dozen nodes in place of one cost what they save there."""
PAIR = -3  # axis of the two integers
ZERO_NAME, AXIS_NAME = "product.zero", "product.axis"


class RoundedWeights(NamedTuple):
    """Weights of a product as int8."""

    steps: npt.NDArray[np.int8]  # [p, k, o]
    scale: Floats  # [p, 1, o]: one step


def products(model: onnx.ModelProto) -> list[onnx.NodeProto]:
    """Return the products with constant weights [p, k, o] that gain by int8."""
    weights = [tensor for tensor in model.graph.initializer if len(tensor.dims) == 3]
    large = {tensor.name for tensor in weights if tensor.dims[1] * tensor.dims[2] >= MIN_WEIGHTS}
    return [n for n in model.graph.node if n.op_type == "MatMul" and n.input[1] in large]


def round_products(
    model: onnx.ModelProto, statistics: Mapping[str, InputStatistics]
) -> dict[str, RoundedWeights]:
    """Return the weights of the `products` of a graph, rounded, by name.

    statistics: by input of a product
    """
    plain = {tensor.name: tensor for tensor in model.graph.initializer}
    return {
        weight: weight_steps(numpy_helper.to_array(plain[weight]), np.asarray(statistics[x].gram))
        for x, weight in (node.input for node in products(model))
    }


def quantise_products(
    model: onnx.ModelProto,
    rounded: Mapping[str, RoundedWeights],
    statistics: Mapping[str, InputStatistics] | None,
) -> onnx.ModelProto:
    """Return a float32 graph with rounded weights, in integers or in float32.

    Args:
        model: Graph in float32.
        rounded: Weights of its `products`, of `round_products`.
        statistics: By input of a product, for products in integers: inputs beyond `HEADROOM` times
            their range are clipped, and an empty range is an ExportError. None for products in
            float32.
    """
    quantised = copy.deepcopy(model)
    graph = quantised.graph
    written: dict[str, Array] = {}
    nodes: list[onnx.NodeProto] = []
    for node in graph.node:
        if node.op_type != "MatMul" or node.input[1] not in rounded:
            nodes.append(node)
            continue
        name, weight = node.input
        if statistics is None:
            arrays, added = _in_float32(node, rounded[weight])
        else:
            arrays, added = {}, []
            if f"{name}.fine" not in written:  # two may read one input
                arrays, added = _input(name, statistics[name])
            product = _product(node, rounded[weight], {**written, **arrays}[f"{name}.fine"])
            arrays, added = arrays | product[0], added + product[1]
        written |= arrays
        nodes += added
    if statistics is not None and written:
        written |= {ZERO_NAME: np.array(ZERO, np.uint8), AXIS_NAME: np.array([PAIR])}
    read = {name for node in nodes for name in node.input}
    tensors = [tensor for tensor in graph.initializer if tensor.name in read]
    tensors += [numpy_helper.from_array(array, name) for name, array in written.items()]
    del graph.node[:], graph.initializer[:]
    graph.node.extend(nodes)
    graph.initializer.extend(tensors)
    onnx.checker.check_model(quantised)
    return quantised


def weight_steps(weight: Floats, gram: Doubles) -> RoundedWeights:
    """Return weights [p, k, o] as int8, and the step of each part's output channel [p, 1, o].

    gram: [p, k, k] as in `InputStatistics`. Weights are rounded so that the outputs of such
    inputs change least (`round_weights`).
    """
    scales = channel_scales(weight, (1,), LEVELS)
    in_steps = (weight.astype(np.float64) / scales).swapaxes(1, 2)  # [p, o, k]
    mean = np.trace(gram, axis1=1, axis2=2) / gram.shape[1]
    pull = np.where(mean > 0, PULL * mean, 1)[:, None, None] * np.eye(gram.shape[1])
    parts = zip(in_steps, gram + pull, strict=True)
    steps = np.stack([round_weights(*part, levels=LEVELS) for part in parts])
    return RoundedWeights(np.ascontiguousarray(steps.swapaxes(1, 2)), scales)


def _input(name: str, statistics: InputStatistics) -> tuple[dict[str, Array], list[onnx.NodeProto]]:
    """Return the steps of an input [.., p, m, k], and nodes that write `name.pair`.

    That is uint8 [.., p, 2, m, k], the two integers of each number.
    """
    largest = max(-statistics.smallest, statistics.largest)
    if not np.isfinite(largest) or largest <= 0:
        raise ExportError(
            f"int8: {one_line(name)} spans {statistics.smallest:g} to {statistics.largest:g} on "
            "the silhouettes given; expected more than one value. Calibrate on silhouettes of "
            "people"
        )
    limit = np.float32(HEADROOM * largest)
    coarse = np.float32(limit / COARSE)
    constants = {"lowest": -limit, "highest": limit, "coarse": coarse, "fine": coarse / FINE}
    lowest, highest, coarse_name, fine = (f"{name}.{what}" for what in constants)
    tensors = ("apart", "within", "first", "back", "rest", "second", "pair")
    apart, within, first, back, rest, second, pair = (f"{name}.{what}" for what in tensors)
    make = helper.make_node
    nodes = [
        make("Unsqueeze", [name, AXIS_NAME], [apart]),
        make("Clip", [apart, lowest, highest], [within]),
        make("QuantizeLinear", [within, coarse_name, ZERO_NAME], [first]),
        make("DequantizeLinear", [first, coarse_name, ZERO_NAME], [back]),
        make("Sub", [within, back], [rest]),
        make("QuantizeLinear", [rest, fine, ZERO_NAME], [second]),
        make("Concat", [first, second], [pair], axis=PAIR),
    ]
    return {f"{name}.{k}": np.asarray(v, np.float32) for k, v in constants.items()}, nodes


def _product(
    node: onnx.NodeProto, weight: RoundedWeights, fine: Array
) -> tuple[dict[str, Array], list[onnx.NodeProto]]:
    """Return a product [.., p, m, k] x [p, k, o] in integers, and what it reads.

    Each of the two integers has a product of its own, one after the other, so that a single row
    stays single, and the second finds the weights in the cache.

    Args:
        node: Product in float32.
        weight: Its weights.
        fine: Step of the second integer [].
    """
    (name, source), output = node.input, node.output[0]
    scale = weight.scale.astype(np.float64) * fine  # [p, 1, o]
    zero = -ZERO * (FINE + 1) * scale * weight.steps.sum(1, keepdims=True, dtype=np.int64)
    arrays: dict[str, Array] = {
        f"{source}.steps": weight.steps[:, None],
        f"{output}.scale": np.stack((FINE * scale, scale), 1).astype(np.float32),  # [p, 2, 1, o]
        f"{output}.zero": zero.astype(np.float32),
    }
    tensors = ("sums", "float", "scaled", "both")
    sums, as_float, scaled, both = (f"{output}.{what}" for what in tensors)
    make = helper.make_node
    nodes = [
        make("MatMulInteger", [f"{name}.pair", f"{source}.steps"], [sums]),
        make("Cast", [sums], [as_float], to=TensorProto.FLOAT),
        make("Mul", [as_float, f"{output}.scale"], [scaled]),
        make("ReduceSum", [scaled, AXIS_NAME], [both], keepdims=0),
        make("Add", [both, f"{output}.zero"], [output]),
    ]
    return arrays, nodes


def _in_float32(
    node: onnx.NodeProto, weight: RoundedWeights
) -> tuple[dict[str, Array], list[onnx.NodeProto]]:
    """Return a product in float32 with rounded weights, which a runtime scales as it opens them."""
    (name, source), make = node.input, helper.make_node
    steps, scale, as_float, scaled = (
        f"{source}.{what}" for what in ("steps", "scale", "float", "scaled")
    )
    nodes = [
        make("Cast", [steps], [as_float], to=TensorProto.FLOAT),
        make("Mul", [as_float, scale], [scaled]),
        make("MatMul", [name, scaled], list(node.output)),
    ]
    return {steps: weight.steps, scale: weight.scale}, nodes
