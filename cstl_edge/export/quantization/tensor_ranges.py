"""Observe a graph's tensors while it runs: their values, their ranges, their statistics."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from onnx import helper

from cstl_edge.arrays import Doubles, Floats
from cstl_edge.runtime.backends.ort_session import open_session
from cstl_edge.runtime.base import usable_cores


@dataclass
class TensorRange:
    """The range of the sizes |x| of a tensor's finite values; -inf, a mask's value, is no value."""

    smallest: float = math.inf  # above zero
    largest: float = 0.0

    def add(self, values: Floats) -> None:
        """Take in one batch."""
        sizes = np.abs(values[np.isfinite(values)])
        if sizes.size:
            self.largest = max(self.largest, float(sizes.max()))
            self.smallest = min(self.smallest, float(sizes.min(initial=math.inf, where=sizes > 0)))


def run_exposed(
    model: onnx.ModelProto, names: Sequence[str], feeds: Iterable[dict[str, Any]]
) -> Iterator[dict[str, Any]]:
    """Run a graph and yield the values of the named tensors, for each feed.

    Args:
        model: Graph.
        names: Tensors that it computes, outputs or others.
        feeds: Inputs by name.
    """
    outputs = {value.name for value in model.graph.output}
    session = open_graph("the graph shown", model, [name for name in names if name not in outputs])
    for feed in feeds:
        yield dict(zip(names, session.run(list(names), feed), strict=True))


def measure_ranges(
    model: onnx.ModelProto, names: Sequence[str], feeds: Iterable[dict[str, Any]]
) -> dict[str, TensorRange]:
    """Return the ranges of the named tensors over all feeds.

    Args:
        model: Graph to run.
        names: Tensors that it computes, outputs or others.
        feeds: Inputs by name.
    """
    ranges = {name: TensorRange() for name in names}
    for tensors in run_exposed(model, names, feeds):
        for name, values in tensors.items():
            ranges[name].add(values)
    return ranges


@dataclass
class InputStatistics:
    """Statistics of a product's input on the calibration silhouettes."""

    smallest: float = 0.0
    largest: float = 0.0  # both with zero between them, which has a step of its own
    gram: Doubles | float = 0.0
    """Sums of products of inputs [p, k, k]: which errors of weights make good for each other."""

    def add(self, values: Floats) -> None:
        """Take in inputs [p, m, k] or [n, p, m, k]."""
        self.smallest = min(self.smallest, float(values.min()))
        self.largest = max(self.largest, float(values.max()))
        rows = values.astype(np.float64).reshape(-1, *values.shape[-3:])  # [n, p, m, k]
        self.gram = self.gram + np.matmul(rows.swapaxes(2, 3), rows).sum(0)


class StatisticsSession:
    """A graph as a session that collects, while it runs, statistics of its products' inputs."""

    def __init__(self, name: str, model: onnx.ModelProto, inputs: Sequence[str]) -> None:
        """Open a graph (ModelError where ONNX Runtime refuses it).

        Args:
            name: Name of the graph in messages.
            model: Graph.
            inputs: Tensors to collect, [p, m, k] or [n, p, m, k] each.
        """
        fed = {value.name for value in model.graph.input}
        outputs = [value.name for value in model.graph.output]
        inner = [tensor for tensor in dict.fromkeys(inputs) if tensor not in fed]
        self._session = open_graph(name, model, inner)
        self._outputs, self._fetched = len(outputs), [*outputs, *inner]
        self.statistics = {tensor: InputStatistics() for tensor in inputs}

    def run(self, _: None, feed: dict[str, Any]) -> list[Any]:
        """Return the outputs of the graph."""
        fetched = self._session.run(self._fetched, feed)
        for name, values in {**feed, **dict(zip(self._fetched, fetched, strict=True))}.items():
            if name in self.statistics:
                self.statistics[name].add(values)
        return list(fetched[: self._outputs])


def open_graph(name: str, model: onnx.ModelProto, inner: Iterable[str] = ()) -> Any:
    """Open a graph in ONNX Runtime as the runtime would.

    Args:
        name: Name of the graph in messages.
        model: Graph to open.
        inner: Tensors to add to its outputs.
    """
    exposed = copy.deepcopy(model)
    exposed.graph.output.extend(map(helper.make_empty_tensor_value_info, inner))
    return open_session(name, exposed.SerializeToString(), usable_cores())
