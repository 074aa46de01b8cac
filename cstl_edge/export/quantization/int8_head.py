"""INT8 form of the incremental head: the weights of its large products in int8 (`int8_products`).

The head is calibrated and evaluated as it is used, in windows that slide over a sequence.

Letters: s frames, p parts, c channels of a feature.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import onnx

from cstl_edge.arrays import Floats, Indices
from cstl_edge.export.checks import accuracy_gate
from cstl_edge.export.checks.accuracy_gate import GateResult, HeadOutputs
from cstl_edge.export.quantization.context import QuantizationContext
from cstl_edge.export.quantization.int8_products import (
    products,
    quantise_products,
    round_products,
)
from cstl_edge.export.quantization.tensor_ranges import StatisticsSession, open_graph
from cstl_edge.runtime.base import Embedded
from cstl_edge.runtime.streaming.rings import SlidingRing, embed_slid

WINDOW = 30  # frames at most
SLID = 5
"""Frames by which a window slides before it is evaluated again: by then every frame near its ends
has had other neighbours than at first."""
STATES = ("full", "slid")


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


@dataclass(frozen=True)
class QuantisedHead:
    """Graphs of the incremental head with int8 weights, by name; others stay as they are."""

    single: dict[str, onnx.ModelProto]  # for one frame of one walker; what the gate judges
    batch: dict[str, onnx.ModelProto]
    """The same weights for frames of many walkers; `slide` takes each window by itself."""


def quantise_head(context: QuantizationContext, frames: Any) -> QuantisedHead:
    """Return the graphs that gain by int8, calibrated behind the trunk that they will run behind.

    frames: a session of the int8 trunk
    Raises ExportError for silhouettes of which nothing can be learned.
    """
    calibrated = {
        name: StatisticsSession(f"{name}.onnx", model, [node.input[0] for node in products(model)])
        for name, model in context.incremental.items()
    }
    head = QuantisedHead({}, {})
    if not any(map(products, context.incremental.values())):
        return head
    for features in accuracy_gate.run_frames(frames, context.data.calibration):
        for _ in slide_over(HeadSessions(calibrated), features):
            pass
    for name, model in context.incremental.items():
        statistics = calibrated[name].statistics
        rounded = round_products(model, statistics)
        if rounded:
            single = quantise_products(model, rounded, statistics)
            in_batch = name != "slide"
            head.single[name] = single
            head.batch[name] = quantise_products(model, rounded, None) if in_batch else single
    return head


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
