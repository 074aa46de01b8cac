"""Inputs shared by FP16 and INT8 export: float32 graphs, data, cached sessions.

Letters: n sequences, s frames, h w pixels, p parts, c channels.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import onnx

from cstl_edge.arrays import Floats, Ints, Silhouettes
from cstl_edge.distance import EUCLIDEAN, Distance
from cstl_edge.errors import ExportError, one_line
from cstl_edge.export.checks import accuracy_gate
from cstl_edge.export.checks.accuracy_gate import GateLimits, GateResult, HeadOutputs
from cstl_edge.export.graphs import INCREMENTAL
from cstl_edge.export.quantization import fp16
from cstl_edge.export.quantization.calibration_data import CalibrationData
from cstl_edge.export.quantization.tensor_ranges import measure_ranges, open_graph
from cstl_edge.export.weight_storage import store_as_half
from cstl_edge.model import Cstl
from cstl_edge.runtime.graph_format import OPERATOR


@dataclass
class QuantizationContext:
    """The float32 graphs of a network, with data to calibrate and evaluate; the rest is cached."""

    network: Cstl  # its norms folded
    graphs: Mapping[str, onnx.ModelProto]
    """`frames`, `head`, perhaps `full`, and `taps`, `mix` and `slide` where the network has an
    incremental head."""
    data: CalibrationData
    distance: Distance = EUCLIDEAN  # the model's
    _halves: dict[str, onnx.ModelProto] = field(default_factory=dict)
    _twins: dict[str, Any] = field(default_factory=dict)

    @property
    def incremental(self) -> dict[str, onnx.ModelProto]:
        """Return the graphs of the incremental head, none where the network has no such head."""
        return {name: self.graphs[name] for name in INCREMENTAL if name in self.graphs}

    @cached_property
    def frames(self) -> Any:
        """Return a session of the float32 trunk."""
        return open_graph("frames.onnx", self.graphs["frames"])

    @cached_property
    def head(self) -> Any:
        """Return a session of the float32 head."""
        return open_graph("head.onnx", self.graphs["head"])

    @cached_property
    def features(self) -> list[Floats]:
        """Return the float32 trunk's features of the sequences to evaluate on, [s, p, c] each."""
        return accuracy_gate.run_frames(self.frames, self.data.evaluation.silhouettes)

    @cached_property
    def reference(self) -> HeadOutputs:
        """Return float32's outputs, with the scores behind its salient frames."""
        return self.run_head(self.features)

    def run_head(self, windows: list[Floats]) -> HeadOutputs:
        """Run the float32 head on windows [s, p, c]; its scores come too, where it has SSFL."""
        gathers = [node for node in self.graphs["head"].graph.node if node.op_type == OPERATOR]
        if not gathers:
            return accuracy_gate.run_head(self.head, windows)
        scores = str(gathers[0].input[1])
        exposed = open_graph("head.onnx", self.graphs["head"], [scores])
        return accuracy_gate.run_head(exposed, windows, scores)

    def pass_gate(
        self, label: str, head: Any, features: list[Floats], limits: GateLimits
    ) -> GateResult:
        """Compare a precision with float32 on all sequences (ExportError for a closed gate).

        Args:
            label: Name of the precision in messages.
            head: Session of the head that belongs to the precision.
            features: Features of its trunk for the sequences, [s, p, c] each.
            limits: Largest costs allowed.
        """
        outputs = accuracy_gate.run_head(head, features)
        gate = self.compare(outputs, limits)
        gate.check(label)
        return gate

    def compare(self, outputs: HeadOutputs, limits: GateLimits) -> GateResult:
        """Compare the outputs of a precision with float32's on all sequences."""
        labels = self.data.evaluation
        return accuracy_gate.evaluate(self.reference, outputs, labels, limits, self.distance)

    def half(self, graph: str) -> onnx.ModelProto:
        """Return the fp16 form of a graph, the weights of its islands stored as in float32's."""
        if graph not in self._halves:
            self._halves[graph] = fp16.to_half(self.graphs[graph])
            store_as_half(self._halves[graph], [])
        return self._halves[graph]

    def twin(self, graph: str) -> Any:
        """Return a session of the rounding twin of a graph's fp16 form."""
        if graph not in self._twins:
            twin = fp16.rounding_twin(self.half(graph))
            self._twins[graph] = fp16.open_exact(f"{graph}.fp16.onnx", twin)
        return self._twins[graph]

    def run_twins(self, silhouettes: Silhouettes, lengths: Ints) -> list[Any]:
        """Run the twins of `frames` and `head` on [n, s, h, w]: embedding, salient frames."""
        n, s = silhouettes.shape[:2]
        flat = silhouettes.reshape(-1, *silhouettes.shape[2:])  # [n*s, h, w]
        (features,) = self.twin("frames").run(None, {"silhouettes": flat})
        windows = features.reshape(n, s, *features.shape[1:])  # [n, s, p, c]
        feed = {"features": windows, "lengths": lengths}
        return list(self.twin("head").run(None, feed))

    def run_full_twin(self, silhouettes: Silhouettes, lengths: Ints) -> list[Any]:
        """Run the twin of `full` on [n, s, h, w]: embedding, salient frames."""
        feed = {"silhouettes": silhouettes, "lengths": lengths}
        return list(self.twin("full").run(None, feed))

    def feeds(self, graph: str) -> list[dict[str, Any]]:
        """Return the calibration silhouettes as inputs of `frames` or `head`."""
        sequences = self.data.calibration
        if graph == "frames":
            return [{"silhouettes": sequence} for sequence in sequences]
        return [
            {"features": window[None], "lengths": np.array([len(window)], np.int32)}
            for window in accuracy_gate.run_frames(self.frames, sequences)
        ]

    def islands(self, graph: str) -> list[dict[str, Any]]:
        """Measure what the float32 islands of `frames` or `head` span, for the manifest.

        Raises ExportError when a number that would be float16 is beyond it.
        """
        model = self.graphs[graph]
        home = fp16.islands(model)
        inputs = {value.name for value in model.graph.input}
        halves = [x for x in fp16.half_tensors(self.half(graph)) if x not in inputs]
        ranges = measure_ranges(model, list(dict.fromkeys([*halves, *home])), self.feeds(graph))
        for name in halves:
            if ranges[name].largest > fp16.LARGEST_HALF:
                raise ExportError(
                    f"fp16: {one_line(name)} of {graph} reaches {ranges[name].largest:g} on the "
                    f"silhouettes given; float16 ends at {fp16.LARGEST_HALF:g}. Nothing was "
                    "exported; export in float32"
                )
        reports = []
        for island in fp16.ISLANDS:
            spans = [ranges[name] for name, place in home.items() if place == island.name]
            if spans:
                smallest, largest = min(x.smallest for x in spans), max(x.largest for x in spans)
                reports.append(
                    {"graph": graph, "island": island.name, "reason": island.reason}
                    | {"tensors": len(spans), "smallest": smallest, "largest": largest}
                )
        return reports
