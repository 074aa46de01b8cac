"""INT8 as types in the cuts for windows that slide: their large matrix products, all else float32.

One more frame of a walker reads every weight of the cuts for a few rows, 28 MB in float32 at the
paper's widths: the time is that of memory, and int8 lies in a cache. Activations are uint8 with one
scale per tensor, from calibration and never from the batch: an answer must not depend on who else
walks by. Weights are int8, symmetric, one scale per part and output channel, and rounded so that
the errors of a product make good for each other (to the nearest, they were off four times as far).
Letters: p parts, k inputs and o outputs of a product.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from cstl_edge.errors import ExportError, one_line
from cstl_edge.export.quantise import WEIGHT_LEVELS
from cstl_edge.export.ranges import Seen
from cstl_edge.export.refit import PULL, Matrix, rounded

Floats = npt.NDArray[np.float32]

STEPS = 255  # of an activation, from its smallest to its largest value
MIN_WEIGHTS = 2048
"""Of one part. Smaller products stay: four nodes in place of one cost what they save there. With
1 frame, 128 to 8 units take 37 us for 34 in float32, 24 to 384 take 63 us for 132."""


def products(model: onnx.ModelProto) -> list[onnx.NodeProto]:
    """Return the products with constant weights [p, k, o] that gain by int8."""
    weights = [tensor for tensor in model.graph.initializer if len(tensor.dims) == 3]
    large = {tensor.name for tensor in weights if tensor.dims[1] * tensor.dims[2] >= MIN_WEIGHTS}
    return [n for n in model.graph.node if n.op_type == "MatMul" and n.input[1] in large]


def quantise_products(model: onnx.ModelProto, seen: Mapping[str, Seen]) -> onnx.ModelProto:
    """Return a float32 cut with its `products` in integers (ExportError for an empty range).

    seen: by input of a product; its span becomes 0..255, values beyond are clipped
    """
    quantised = onnx.ModelProto()
    quantised.CopyFrom(model)
    graph = quantised.graph
    chosen = {node.output[0] for node in products(model)}
    plain = {tensor.name: tensor for tensor in graph.initializer}
    made: dict[str, onnx.TensorProto] = {}
    nodes: list[onnx.NodeProto] = []
    for node in graph.node:
        if node.output[0] not in chosen:
            nodes.append(node)
            continue
        name, weight = node.input
        tensors, added = _product(node, numpy_helper.to_array(plain[weight]), seen[name])
        nodes += added[1:] if f"{name}.zero" in made else added  # two may read one activation
        made |= tensors
    read = {name for node in nodes for name in node.input}
    kept = [tensor for tensor in plain.values() if tensor.name in read]
    del graph.node[:], graph.initializer[:]
    graph.node.extend(nodes)
    graph.initializer.extend([*kept, *made.values()])
    onnx.checker.check_model(quantised)
    return quantised


def _product(
    node: onnx.NodeProto, weight: Floats, seen: Seen
) -> tuple[dict[str, onnx.TensorProto], list[onnx.NodeProto]]:
    """Return a product [.., k] x [p, k, o] in integers, and what it reads."""
    (name, source), output = node.input, node.output[0]
    scale, zero = _activation(name, seen)
    steps, scales = weight_steps(weight, np.asarray(seen.square))
    arrays: dict[str, npt.NDArray[Any]] = {
        f"{name}.scale": scale,
        f"{name}.zero": zero,
        f"{source}.steps": steps,
        f"{output}.scale": scales * scale,  # [p, 1, o]: one factor for both
    }
    nodes = [
        helper.make_node(
            "QuantizeLinear", [name, f"{name}.scale", f"{name}.zero"], [f"{name}.steps"]
        ),
        helper.make_node(
            "MatMulInteger",
            [f"{name}.steps", f"{source}.steps", f"{name}.zero"],
            [f"{output}.sum"],
        ),
        helper.make_node("Cast", [f"{output}.sum"], [f"{output}.float"], to=TensorProto.FLOAT),
        helper.make_node("Mul", [f"{output}.float", f"{output}.scale"], [output]),
    ]
    return {key: numpy_helper.from_array(array, key) for key, array in arrays.items()}, nodes


def weight_steps(weight: Floats, square: Matrix) -> tuple[npt.NDArray[np.int8], Floats]:
    """Return weights [p, k, o] as int8, and the step of each part's output channel [p, 1, o].

    square: [p, k, k] as in `Seen`. Weights are rounded so that what they say of such inputs changes
    least (`refit.rounded`).
    """
    largest = np.abs(weight).max(axis=1, keepdims=True)
    scales = np.where(largest > 0, largest, 1).astype(np.float32) / np.float32(WEIGHT_LEVELS)
    wanted = (weight.astype(np.float64) / scales).swapaxes(1, 2)  # [p, o, k]
    mean = np.trace(square, axis1=1, axis2=2) / square.shape[1]
    pull = np.where(mean > 0, PULL * mean, 1)[:, None, None] * np.eye(square.shape[1])
    steps = [rounded(*part) for part in zip(wanted, square + pull, strict=True)]
    return np.stack(steps).swapaxes(1, 2), scales  # [p, k, o]


def _activation(name: str, seen: Seen) -> tuple[Floats, npt.NDArray[np.uint8]]:
    """Return the step of an activation and the uint8 that stands for zero."""
    width = seen.largest - seen.smallest
    if not np.isfinite(width) or width <= 0:
        raise ExportError(
            f"int8: {one_line(name)} spans {seen.smallest:g} to {seen.largest:g} on the "
            "silhouettes given; expected more than one value. Calibrate on silhouettes of people"
        )
    scale = np.array(width / STEPS, np.float32)
    return scale, np.array(np.rint(-seen.smallest / width * STEPS), np.uint8)
