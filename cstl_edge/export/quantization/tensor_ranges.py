"""Look into a graph while it runs: what its tensors hold, and what their values span."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from onnx import helper

from cstl_edge.arrays import Doubles, Floats
from cstl_edge.runtime.backends.onnxruntime import open_session
from cstl_edge.runtime.base import usable_cores


@dataclass
class Range:
    """What the sizes |x| of a tensor's finite values span; -inf, a mask's value, is no value."""

    smallest: float = math.inf
    """Above zero."""
    largest: float = 0.0

    def add(self, values: Floats) -> None:
        """Take in one batch."""
        sizes = np.abs(values[np.isfinite(values)])
        if sizes.size:
            self.largest = max(self.largest, float(sizes.max()))
            self.smallest = min(self.smallest, float(sizes.min(initial=math.inf, where=sizes > 0)))


def observed(
    model: onnx.ModelProto, names: Sequence[str], feeds: Iterable[dict[str, Any]]
) -> Iterator[dict[str, Any]]:
    """Run a graph and yield, for each feed, the named tensors of it, computed ones or outputs."""
    opened = onnx.ModelProto()
    opened.CopyFrom(model)
    told = {value.name for value in opened.graph.output}
    inner = [name for name in names if name not in told]
    opened.graph.output.extend(helper.make_empty_tensor_value_info(name) for name in inner)
    session = open_session("the graph shown", opened.SerializeToString(), usable_cores())
    for feed in feeds:
        yield dict(zip(names, session.run(list(names), feed), strict=True))


def ranges(
    model: onnx.ModelProto, names: Sequence[str], feeds: Iterable[dict[str, Any]]
) -> dict[str, Range]:
    """Return what the named tensors span over all feeds."""
    found = {name: Range() for name in names}
    for tensors in observed(model, names, feeds):
        for name, values in tensors.items():
            found[name].add(values)
    return found


@dataclass
class Seen:
    """The values of a product's input on the silhouettes of the calibration."""

    smallest: float = 0.0
    largest: float = 0.0
    """Both with zero between them, which has a step of its own."""
    square: Doubles | float = 0.0
    """Sums of products of inputs [p, k, k]: which errors of weights make good for each other."""

    def add(self, values: Floats) -> None:
        """Take in inputs [p, m, k] or [n, p, m, k]."""
        self.smallest = min(self.smallest, float(values.min()))
        self.largest = max(self.largest, float(values.max()))
        rows = values.astype(np.float64).reshape(-1, *values.shape[-3:])  # [n, p, m, k]
        self.square = self.square + np.matmul(rows.swapaxes(2, 3), rows).sum(0)


class Watched:
    """A graph as a session that notes, while it runs, the inputs of its products."""

    def __init__(self, name: str, model: onnx.ModelProto, read: Sequence[str]) -> None:
        """Open a graph (ModelError); read: the inputs to note, [p, m, k] or [n, p, m, k] each."""
        inputs = {value.name for value in model.graph.input}
        outputs = [value.name for value in model.graph.output]
        inner = [one for one in dict.fromkeys(read) if one not in inputs]
        shown = onnx.ModelProto()
        shown.CopyFrom(model)
        shown.graph.output.extend(map(helper.make_empty_tensor_value_info, inner))
        self._session = open_session(name, shown.SerializeToString(), usable_cores())
        self._outputs, self._wanted = len(outputs), [*outputs, *inner]
        self.seen = {name: Seen() for name in read}

    def run(self, _: None, feed: dict[str, Any]) -> list[Any]:
        """Return the outputs of the graph."""
        found = self._session.run(self._wanted, feed)
        for name, values in {**feed, **dict(zip(self._wanted, found, strict=True))}.items():
            if name in self.seen:
                self.seen[name].add(values)
        return list(found[: self._outputs])
