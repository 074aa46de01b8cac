"""Look into a graph while it runs: what its tensors hold, and what their values span."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper

from cstl_edge.runtime.base import usable_cores
from cstl_edge.runtime.ort import open_session

Floats = npt.NDArray[np.float32]


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
