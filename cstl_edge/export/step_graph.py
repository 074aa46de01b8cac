"""Join the trunk and the incremental head into `step`: one more frame of one walker, one answer.

It computes what `frames`, `taps`, `runtime.streaming.rings.SlidingRing`, `mix` and `slide` do in
turn for a full window, in one call of the runtime; arithmetic and weights are theirs. The state of
the walker comes in and goes out: each output may be bound to the memory of its input, so that rows
are written where they lie. That is safe because every read of an old state that is written at the
same place comes before the write by the graph's own edges.

Letters: s frames of the window, p parts, c channels.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from cstl_edge.arrays import Array
from cstl_edge.export.graphs import IR_VERSION
from cstl_edge.runtime.graph_format import OPSET, Signature, signature
from cstl_edge.runtime.manifest import Shape
from cstl_edge.runtime.streaming.rings import KEPT, TAPS

CHANGED = 5
"""Frames whose sums change as a window slides by one: its first two and its last three."""


def step_graph(graphs: Mapping[str, onnx.ModelProto], shape: Shape) -> onnx.ModelProto:
    """Return `step` of the graphs `frames`, `taps`, `mix` and `slide`, in any precision.

    Args:
        graphs: Graphs by name; the file of each may hold weights in any form.
        shape: Sizes of the network.
    """
    joined = _Joined(shape)
    joined.slots()
    joined.insert("frames", graphs["frames"], {"silhouettes": "silhouettes"})
    joined.node("Reshape", ["frames/features", "one_row"], "new")  # [p, 1, c]
    joined.insert("taps", graphs["taps"], {"features": "new"})
    joined.sums()
    joined.features()
    joined.insert("mix", graphs["mix"], {"features": "rows", "sums": "changed"})
    joined.store()
    state = {name: f"{name}_after" for name in KEPT}
    joined.insert("slide", graphs["slide"], {**state, "slots": "slots"})
    return joined.model()


class _Joined:
    """A graph under construction: nodes and weights of others, and what lies between them."""

    def __init__(self, shape: Shape) -> None:
        self.shape, self.nodes = shape, list[onnx.NodeProto]()
        self.weights: dict[str, onnx.TensorProto] = {}
        p, c = shape.parts, shape.channels
        rows = np.zeros((p, CHANGED, 3), np.int64)
        rows[:, :, 1] = np.arange(p)[:, None]
        border = np.zeros((2, p, 1, 3), np.int64)
        border[..., 0], border[..., 1] = np.arange(2)[:, None, None], np.arange(p)[:, None]
        self.constants: dict[str, Array] = {
            "one_row": np.array([p, 1, c]),
            "row_places": rows,  # of [1, p, s, ..], the slot left out
            "border_places": border,  # of [2, p, s, c]
            "last_axis": np.array([0, 0, 1]),
            "column": np.array([1, CHANGED, 1]),
            "rows_before": np.array([p, CHANGED - 1, c]),
        }

    def node(self, kind: str, inputs: list[str], *outputs: str, **attributes: Any) -> None:
        """Add a node."""
        self.nodes.append(helper.make_node(kind, inputs, [*outputs], **attributes))

    def cut(self, source: str, output: str, axis: int, begin: int, end: int) -> None:
        """Add a slice of one axis."""
        names = [f"{output}.{what}" for what in ("begin", "end", "axis")]
        numbers = (np.array([number]) for number in (begin, end, axis))
        self.constants |= dict(zip(names, numbers, strict=True))
        self.node("Slice", [source, *names], output)

    def insert(self, graph: str, model: onnx.ModelProto, inputs: Mapping[str, str]) -> None:
        """Add a graph; its tensors, outputs too, are named `graph/tensor`.

        Args:
            graph: Name of the graph.
            model: Model that holds it.
            inputs: Tensors of this graph by the name of an input of the model.
        """

        def named(tensor: str) -> str:
            return inputs.get(tensor) or (tensor and f"{graph}/{tensor}")

        for old in model.graph.node:
            node = onnx.NodeProto()
            node.CopyFrom(old)
            node.name = f"{graph}/{old.name}" if old.name else ""
            node.input[:], node.output[:] = map(named, old.input), map(named, old.output)
            self.nodes.append(node)
        for tensor in model.graph.initializer:
            weight = onnx.TensorProto()
            weight.CopyFrom(tensor)
            weight.name = named(tensor.name)
            self.weights[weight.name] = weight

    def slots(self) -> None:
        """Add the slots of the changed frames, and where their rows lie in the state."""
        self.cut("slots", "first_slots", 1, 0, 2)  # [1, 2]
        self.cut("slots", "last_slots", 1, -3, 2**31)
        self.node("Concat", ["first_slots", "last_slots"], "changed_slots", axis=1)
        self.node("Reshape", ["changed_slots", "column"], "slot_column")  # [1, 5, 1]
        self.node("Mul", ["slot_column", "last_axis"], "slot_places")
        self.node("Add", ["row_places", "slot_places"], "places")  # [p, 5, 3]
        self.cut("places", "new_place", 1, CHANGED - 1, CHANGED)  # [p, 1, 3]
        self.cut("slot_places", "border_slot", 1, 2, 3)  # [1, 1, 3]: of two frames before
        self.node("Add", ["border_places", "border_slot"], "border_rows")  # [2, p, 1, 3]

    def sums(self) -> None:
        """Add the T_f + T_s of the changed frames, as `SlidingRing.add_frames` has them."""
        self.node("Split", ["taps/taps"], *TAPS, axis=2)  # [p, 1, c] each
        self.node("Concat", ["right2", "right1"], "right", axis=1)  # [p, 2, c]
        self.node("Add", ["partial", "right"], "last_two")  # [3, p, 2, c]
        self.node("Split", ["last_two"], "third_last", "second_last", axis=2)  # [3, p, 1, c] each
        self.node("Split", ["later"], "later_third_last", "later_second_last", axis=2)
        self.cut("later_second_last", "left1_before", 0, 1, 2)  # [1, p, 1, c]
        self.cut("later_third_last", "left2_before", 0, 0, 1)
        self.constants["axis0"] = np.array([0])
        for name in ("first", "left2", "left1"):
            self.node("Unsqueeze", [name, "axis0"], f"{name}_row")
        self.node("Add", ["whole", "left1_before"], "as_second")
        self.node("Add", ["as_second", "left2_before"], "as_other")  # [1, p, 1, c]
        self.node("Concat", ["first_row", "as_second", "as_other"], "last", axis=0)
        self.node("Concat", ["second_last", "last"], "partial_after", axis=2)
        self.node("Concat", ["left2_row", "left1_row"], "later_last", axis=0)
        self.node("Concat", ["later_second_last", "later_last"], "later_after", axis=2)
        self._changed()

    def _changed(self) -> None:
        """Add the sums of the changed frames [p, 5, c], and write those of a window's first two."""
        self.node("Gather", ["borders", "first_slots"], "at_borders", axis=2)  # [2, p, 1, 2, c]
        self.cut("third_last", "border_sums", 0, 0, 2)  # [2, p, 1, c]
        self.node("ScatterND", ["borders", "border_rows", "border_sums"], "borders_after")
        p, c = self.shape.parts, self.shape.channels
        self.constants["two_rows"] = np.array([2, p, 2, c])
        self.node("Reshape", ["at_borders", "two_rows"], "border_pairs")
        self.node("Split", ["border_pairs"], "border_oldest", "border_second", axis=2)
        self.cut("border_oldest", "oldest_first", 0, 0, 1)  # [1, p, 1, c]
        self.cut("border_second", "second_second", 0, 1, 2)
        self.cut("last_two", "inner", 0, 2, 3)  # [1, p, 2, c]
        self.node("Sub", ["as_other", "end"], "newest")
        rows = ["oldest_first", "second_second", "inner", "newest"]
        self.node("Concat", rows, "changed_rows", axis=2)  # [1, p, 5, c]
        self.node("Squeeze", ["changed_rows", "axis0"], "changed")

    def features(self) -> None:
        """Add the part features of the changed frames [p, 5, c]."""
        self.cut("changed_slots", "old_slots", 1, 0, CHANGED - 1)
        self.node("Gather", [KEPT[0], "old_slots"], "old_values", axis=2)  # [1, p, 1, 4, 3c]
        self.cut("old_values", "old_features", 4, 0, self.shape.channels)
        self.node("Reshape", ["old_features", "rows_before"], "old_rows")
        self.node("Concat", ["old_rows", "new"], "rows", axis=1)

    def store(self) -> None:
        """Write the rows of the changed frames into the state."""
        self.node("Concat", ["rows", "changed", "changed"], "new_values", axis=2)  # [p, 5, 3c]
        values, logits, judged, gates = KEPT
        rows = {values: "new_values", logits: "mix/logits", judged: "mix/judged"}
        for name, updates in rows.items():
            self.node("ScatterND", [name, "places", updates], f"{name}_after")
        self.node("ScatterND", [gates, "new_place", "taps/gates"], f"{gates}_after")

    def model(self) -> onnx.ModelProto:
        """Return the graph with the inputs and outputs of its format."""
        inputs, outputs = map(_declared, signature("step.onnx", self.shape))
        for name in ("embedding", "salient_frames"):
            self.node("Identity", [f"slide/{name}"], name)
        constants = [numpy_helper.from_array(np.asarray(v), k) for k, v in self.constants.items()]
        weights = [*self.weights.values(), *constants]
        graph = helper.make_graph(self.nodes, "step", inputs, outputs, initializer=weights)
        opsets = [helper.make_opsetid("", OPSET)]
        model = helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION)
        onnx.checker.check_model(model)
        return model


def _declared(values: Signature) -> list[onnx.ValueInfoProto]:
    """Return inputs or outputs with their names, types and sizes."""
    return [
        helper.make_tensor_value_info(
            name,
            TensorProto.DataType.Value(kind),
            ["s" if size is None else size for size in sizes],
        )
        for name, (kind, sizes) in values.items()
    ]
