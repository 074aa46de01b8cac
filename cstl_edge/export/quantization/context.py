"""What is judged when a precision is: a model's float32 graphs, their fp16 forms, their answers.

Letters: n sequences, s frames, h w pixels, p parts, c channels.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import onnx
from onnx import helper

from cstl_edge.arrays import Floats
from cstl_edge.errors import ExportError, one_line
from cstl_edge.export.checks import accuracy_gate
from cstl_edge.export.quantization import fp16
from cstl_edge.export.quantization.calibration_data import Evidence
from cstl_edge.export.quantization.fp16 import open_exact, rounding_twin
from cstl_edge.export.quantization.tensor_ranges import Range, ranges
from cstl_edge.export.weight_storage import store_as_half
from cstl_edge.model import Cstl
from cstl_edge.runtime.backends.onnxruntime import open_session
from cstl_edge.runtime.base import usable_cores
from cstl_edge.runtime.model_check import OPERATOR


@dataclass
class Subject:
    """The float32 graphs of a network with the silhouettes to judge by; all else is made once."""

    network: Cstl
    """With its norms folded."""
    graphs: Mapping[str, onnx.ModelProto]
    """`frames`, `head`, and perhaps `full`."""
    evidence: Evidence
    cuts: Mapping[str, onnx.ModelProto] = field(default_factory=dict)
    """`taps`, `mix` and `slide`, where windows slide."""
    _halves: dict[str, onnx.ModelProto] = field(default_factory=dict)
    _twins: dict[str, Any] = field(default_factory=dict)

    @cached_property
    def frames(self) -> Any:
        """Return a session of the float32 trunk."""
        return session("frames.onnx", self.graphs["frames"])

    @cached_property
    def head(self) -> Any:
        """Return a session of the float32 head."""
        return session("head.onnx", self.graphs["head"])

    @cached_property
    def features(self) -> list[Floats]:
        """Return what the float32 trunk says of the walks to judge on, [s, p, c] each."""
        return accuracy_gate.features(self.frames, self.evidence.walks.silhouettes)

    @cached_property
    def reference(self) -> accuracy_gate.Answers:
        """Return what float32 answers, with the scores behind its salient frames."""
        return self.answers(self.features)

    def answers(self, windows: list[Floats]) -> accuracy_gate.Answers:
        """Return what the float32 head says of windows [s, p, c], with the scores behind it."""
        gathers = [node for node in self.graphs["head"].graph.node if node.op_type == OPERATOR]
        if not gathers:
            return accuracy_gate.answers(self.head, windows)
        scores = str(gathers[0].input[1])
        shown = onnx.ModelProto()
        shown.CopyFrom(self.graphs["head"])
        shown.graph.output.append(helper.make_empty_tensor_value_info(scores))
        return accuracy_gate.answers(session("head.onnx", shown), windows, scores)

    def half(self, graph: str) -> onnx.ModelProto:
        """Return the fp16 form of a graph, the weights of its islands stored as in float32's."""
        if graph not in self._halves:
            self._halves[graph] = fp16.to_half(self.graphs[graph])
            store_as_half(self._halves[graph], [])
        return self._halves[graph]

    def twin(self, graph: str) -> Any:
        """Return a session of the rounding twin of a graph's fp16 form."""
        if graph not in self._twins:
            self._twins[graph] = open_exact(f"{graph}.fp16.onnx", rounding_twin(self.half(graph)))
        return self._twins[graph]

    def twins_in_parts(self, silhouettes: Any, lengths: Any) -> tuple[Any, Any]:
        """Run the twins of `frames` and `head` on uint8 [n, s, h, w]: embedding, salient frames."""
        n, s = silhouettes.shape[:2]
        flat = silhouettes.reshape(-1, *silhouettes.shape[2:])  # [n*s, h, w]
        (features,) = self.twin("frames").run(None, {"silhouettes": flat})
        windows = features.reshape(n, s, *features.shape[1:])  # [n, s, p, c]
        return _pair(self.twin("head").run(None, {"features": windows, "lengths": lengths}))

    def twin_of_full(self, silhouettes: Any, lengths: Any) -> tuple[Any, Any]:
        """Run the twin of `full` on uint8 [n, s, h, w]: embedding, salient frames."""
        feed = {"silhouettes": silhouettes, "lengths": lengths}
        return _pair(self.twin("full").run(None, feed))

    def feeds(self, graph: str) -> list[dict[str, Any]]:
        """Return the calibration silhouettes as inputs of `frames` or `head`."""
        walks = self.evidence.calibration
        if graph == "frames":
            return [{"silhouettes": walk} for walk in walks]
        return [
            {"features": window[None], "lengths": np.array([len(window)], np.int32)}
            for window in accuracy_gate.features(self.frames, walks)
        ]

    def islands(self, graph: str) -> list[dict[str, Any]]:
        """Return what the float32 islands of `frames` or `head` span, for the manifest.

        Raises ExportError when a number that would be float16 is beyond it.
        """
        model = self.graphs[graph]
        home = fp16.islands(model)
        inputs = {value.name for value in model.graph.input}
        halves = [x for x in fp16.half_tensors(self.half(graph)) if x not in inputs]
        found = ranges(model, list(dict.fromkeys([*halves, *home])), self.feeds(graph))
        for name in halves:
            if found[name].largest > fp16.LARGEST_HALF:
                raise ExportError(
                    f"fp16: {one_line(name)} of {graph} reaches {found[name].largest:g} on the "
                    f"silhouettes given; float16 ends at {fp16.LARGEST_HALF:g}. Nothing was "
                    "exported; export in float32"
                )
        by_island = {
            island: [found[name] for name, place in home.items() if place == island.name]
            for island in fp16.ISLANDS
        }
        return [_row(graph, island, spans) for island, spans in by_island.items() if spans]


def session(name: str, model: onnx.ModelProto) -> Any:
    """Open a graph in ONNX Runtime as the runtime would."""
    return open_session(name, model.SerializeToString(), usable_cores())


def _row(graph: str, island: fp16.Island, spans: list[Range]) -> dict[str, Any]:
    return {
        "graph": graph,
        "island": island.name,
        "reason": island.reason,
        "tensors": len(spans),
        "smallest": min(span.smallest for span in spans),
        "largest": max(span.largest for span in spans),
    }


def _pair(outputs: list[Any]) -> tuple[Any, Any]:
    return outputs[0], outputs[1] if len(outputs) > 1 else None
