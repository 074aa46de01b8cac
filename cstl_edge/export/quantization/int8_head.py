"""INT8 form of the incremental head: its large matrix products in integers, all else float32.

One more frame of a walker reads every weight of `taps`, `mix` and `slide` for a few rows, 28 MB in
float32 at the paper's widths: the time is that of memory, and int8 lies in a cache. Activations are
uint8 with one scale per tensor, from calibration and never from the batch: an output must not
depend on who else walks by. Weights are int8, symmetric, one scale per part and output channel, and
rounded so that the errors of a product make good for each other (to the nearest, they were off four
times as far).

The head is calibrated and evaluated as it is used, in windows that slide over a sequence.

Letters: s frames, c channels of a feature; p parts, k inputs and o outputs of a product.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from cstl_edge.arrays import Array, Doubles, Floats, Indices
from cstl_edge.errors import ExportError, one_line
from cstl_edge.export.checks import accuracy_gate
from cstl_edge.export.checks.accuracy_gate import GateResult, HeadOutputs
from cstl_edge.export.quantization.context import QuantizationContext
from cstl_edge.export.quantization.int8_trunk import PULL, channel_scales, round_weights
from cstl_edge.export.quantization.tensor_ranges import (
    InputStatistics,
    StatisticsSession,
    open_graph,
)
from cstl_edge.runtime.base import Embedded
from cstl_edge.runtime.streaming.rings import SlidingRing, embed_slid

WINDOW = 30  # frames at most
SLID = 5
"""Frames by which a window slides before it is evaluated again: by then every frame near its ends
has had other neighbours than at first."""
STATES = ("full", "slid")

STEPS = 255  # of an activation, from its smallest to its largest value
MIN_WEIGHTS = 2048
"""Of one part. Smaller products stay: four nodes in place of one cost what they save there. With
1 frame, 128 to 8 units take 37 us for 34 in float32, 24 to 384 take 63 us for 132."""


@dataclass(frozen=True)
class HeadSessions:
    """`taps`, `mix` and `slide` as sessions, in the form that `runtime.streaming.rings` calls."""

    sessions: Mapping[str, Any]

    def taps(self, features: Floats) -> tuple[Floats, Floats]:
        """Return shares and gates of frames."""
        shares, gates = self.sessions["taps"].run(None, {"features": features})
        return shares, gates

    def mix(self, features: Floats, sums: Floats) -> tuple[Floats, Floats]:
        """Return logits and the hidden layer of the scores."""
        feed = {"features": features, "sums": sums}
        logits, hidden = self.sessions["mix"].run(None, feed)
        return logits, hidden

    def slide(self, kept: Mapping[str, Floats], slots: Indices) -> Embedded:
        """Return the embeddings of windows."""
        return Embedded(*self.sessions["slide"].run(None, {**kept, "slots": slots}))


def quantise_head(context: QuantizationContext, frames: Any) -> dict[str, onnx.ModelProto]:
    """Return the graphs that gain by int8, calibrated behind the trunk that they will run behind.

    frames: a session of the int8 trunk
    Raises ExportError for silhouettes of which nothing can be learned.
    """
    calibrated = {
        name: StatisticsSession(f"{name}.onnx", model, [node.input[0] for node in products(model)])
        for name, model in context.incremental.items()
    }
    if not calibrated:
        return {}
    for features in accuracy_gate.run_frames(frames, context.data.calibration):
        for _ in slide_over(HeadSessions(calibrated), features):
            pass
    return {
        name: quantise_products(model, calibrated[name].statistics)
        for name, model in context.incremental.items()
        if products(model)
    }


def evaluate_head(
    context: QuantizationContext, graphs: Mapping[str, onnx.ModelProto], features: Sequence[Floats]
) -> dict[str, GateResult]:
    """Compare windows that slide by int8 with whole windows in float32, in each of `STATES`.

    Args:
        context: Float32 graphs and the data.
        graphs: Int8 graphs by name; the others are float32.
        features: Features of the int8 trunk for the sequences to evaluate on, [s, p, c] each.
    """
    sessions = {
        name: open_graph(f"{name}.int8.onnx", graphs.get(name, plain))
        for name, plain in context.incremental.items()
    }
    window = window_length(features[0])
    slides = [list(slide_over(HeadSessions(sessions), sequence)) for sequence in features]
    gates = {}
    for state, at in zip(STATES, (0, -1), strict=True):
        end = window if state == "full" else len(features[0])
        whole = [sequence[end - window : end] for sequence in context.features]
        outputs = HeadOutputs(
            np.concatenate([slide[at].embedding for slide in slides]),
            np.concatenate([slide[at].salient_frames for slide in slides]),
        )
        gate = accuracy_gate.evaluate(
            context.run_head(whole),
            outputs,
            context.data.evaluation,
            accuracy_gate.INT8,
            context.distance,
        )
        gates[state] = replace(gate, report={**gate.report, "window_frames": window})
    return gates


def slide_over(head: HeadSessions, features: Floats) -> Iterator[Embedded]:
    """Yield the embeddings of a sequence [s, p, c] when its window is full and after each slide."""
    window = window_length(features)
    parts, channels = features.shape[1:]
    ring = SlidingRing(window, parts, channels, window)
    for feature in features:
        ring.push(feature)
        if ring.seen >= window:
            yield embed_slid(head, [ring])


def window_length(features: Floats) -> int:
    """Return how many frames of a sequence are its window, so that some are left to slide by."""
    return min(WINDOW, max(len(features) - SLID, (len(features) + 1) // 2))


def products(model: onnx.ModelProto) -> list[onnx.NodeProto]:
    """Return the products with constant weights [p, k, o] that gain by int8."""
    weights = [tensor for tensor in model.graph.initializer if len(tensor.dims) == 3]
    large = {tensor.name for tensor in weights if tensor.dims[1] * tensor.dims[2] >= MIN_WEIGHTS}
    return [n for n in model.graph.node if n.op_type == "MatMul" and n.input[1] in large]


def quantise_products(
    model: onnx.ModelProto, statistics: Mapping[str, InputStatistics]
) -> onnx.ModelProto:
    """Return a float32 graph with its `products` in integers (ExportError for an empty range).

    statistics: by input of a product; its range becomes 0..255, values beyond are clipped
    """
    quantised = copy.deepcopy(model)
    graph = quantised.graph
    chosen = {node.output[0] for node in products(model)}
    plain = {tensor.name: tensor for tensor in graph.initializer}
    written: dict[str, onnx.TensorProto] = {}
    nodes: list[onnx.NodeProto] = []
    for node in graph.node:
        if node.output[0] not in chosen:
            nodes.append(node)
            continue
        name, weight = node.input
        tensors, added = _product(node, numpy_helper.to_array(plain[weight]), statistics[name])
        nodes += added[1:] if f"{name}.zero" in written else added  # two may read one activation
        written |= tensors
    read = {name for node in nodes for name in node.input}
    kept = [tensor for tensor in plain.values() if tensor.name in read]
    del graph.node[:], graph.initializer[:]
    graph.node.extend(nodes)
    graph.initializer.extend([*kept, *written.values()])
    onnx.checker.check_model(quantised)
    return quantised


def _product(
    node: onnx.NodeProto, weight: Floats, statistics: InputStatistics
) -> tuple[dict[str, onnx.TensorProto], list[onnx.NodeProto]]:
    """Return a product [.., k] x [p, k, o] in integers, and what it reads."""
    (name, source), output = node.input, node.output[0]
    scale, zero = _activation(name, statistics)
    steps, scales = weight_steps(weight, np.asarray(statistics.gram))
    arrays: dict[str, Array] = {
        f"{name}.scale": scale,
        f"{name}.zero": zero,
        f"{source}.steps": steps,
        f"{output}.scale": scales * scale,  # [p, 1, o]: one factor for both
    }
    make = helper.make_node
    integers = [f"{name}.steps", f"{source}.steps", f"{name}.zero"]
    nodes = [
        make("QuantizeLinear", [name, f"{name}.scale", f"{name}.zero"], integers[:1]),
        make("MatMulInteger", integers, [f"{output}.sum"]),
        make("Cast", [f"{output}.sum"], [f"{output}.float"], to=TensorProto.FLOAT),
        make("Mul", [f"{output}.float", f"{output}.scale"], [output]),
    ]
    return {key: numpy_helper.from_array(array, key) for key, array in arrays.items()}, nodes


def weight_steps(weight: Floats, gram: Doubles) -> tuple[npt.NDArray[np.int8], Floats]:
    """Return weights [p, k, o] as int8, and the step of each part's output channel [p, 1, o].

    gram: [p, k, k] as in `InputStatistics`. Weights are rounded so that the outputs of such
    inputs change least (`round_weights`).
    """
    scales = channel_scales(weight, (1,))
    in_steps = (weight.astype(np.float64) / scales).swapaxes(1, 2)  # [p, o, k]
    mean = np.trace(gram, axis1=1, axis2=2) / gram.shape[1]
    pull = np.where(mean > 0, PULL * mean, 1)[:, None, None] * np.eye(gram.shape[1])
    steps = [round_weights(*part) for part in zip(in_steps, gram + pull, strict=True)]
    return np.stack(steps).swapaxes(1, 2), scales  # [p, k, o]


def _activation(name: str, statistics: InputStatistics) -> tuple[Floats, npt.NDArray[np.uint8]]:
    """Return the step of an activation and the uint8 that stands for zero."""
    width = statistics.largest - statistics.smallest
    if not np.isfinite(width) or width <= 0:
        raise ExportError(
            f"int8: {one_line(name)} spans {statistics.smallest:g} to {statistics.largest:g} on "
            "the silhouettes given; expected more than one value. Calibrate on silhouettes of "
            "people"
        )
    scale = np.array(width / STEPS, np.float32)
    return scale, np.array(np.rint(-statistics.smallest / width * STEPS), np.uint8)
