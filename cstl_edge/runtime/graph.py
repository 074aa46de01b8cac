"""One graph of the model, open in a runtime: what encoders and the benchmark suite run."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TypeAlias

import numpy as np

from cstl_edge.arrays import Array

if TYPE_CHECKING:
    from cstl_edge.measure.timing import Stages

Arrays: TypeAlias = Mapping[str, Array]
"""Arrays by the name of an input or output, as in `graph_format.signature`."""
Run: TypeAlias = Callable[[Arrays], Arrays]
"""From the inputs of a graph to its outputs, which belong to the caller (ModelError)."""


class OpenGraph(Protocol):
    """A graph of `frames`, `head`, `full`, `taps`, `mix` or `slide` that is ready to run."""

    provider: str  # device or execution provider that computes, as the runtime reports it
    threads: int  # that one run may use, as the runtime reports them

    def __call__(self, inputs: Arrays) -> Arrays:
        """Run it on inputs that were checked (ModelError)."""


@dataclass(frozen=True, kw_only=True)
class BoundGraph:
    """A graph with inputs of fixed shapes."""

    inputs: Arrays  # read at every run: write over their elements to run on other values
    run: Callable[[], Stages | None]
    """Run once; return milliseconds by stage where the device itself timed them."""
    outputs: Callable[[], dict[str, Array]]
    """Return the float32 or int32 outputs of the last run, which the next run may overwrite."""
    close: Callable[[], None] = lambda: None


def bind(run: Run, inputs: Arrays) -> BoundGraph:
    """Bind a function of arrays to copies of inputs; its stages are not timed."""
    own = {name: np.array(array) for name, array in inputs.items()}
    last: dict[str, Array] = {}

    def once() -> None:
        last.update(run(own))

    return BoundGraph(inputs=own, run=once, outputs=lambda: dict(last))
