"""Who is measured: one small file per backend, found by being here.

A file has a function `contenders(context)`, which yields what this machine has as a `Backend`
and what it has not as `Unavailable`. Letters: n sequences, s frames, m frames of any sequences, h w
pixels, p parts, c channels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from cstl_edge.bench.context import Context
from cstl_edge.bench.record import Ran
from cstl_edge.measure.timing import Stages

BASELINE = "pytorch float32"
"""The usual way: eager PyTorch, the whole window anew for every answer, one sequence a call."""
BACKENDS = ("onnxruntime", "openvino", "pytorch", "pytorch_cuda", "tensorrt", "tensorrt_rtx")
GRAPHS = ("frames", "head", "full")

Arrays = Mapping[str, Any]
"""numpy arrays by the name of an input or output, as in `runtime.check.signature`."""
Run = Callable[[Arrays], Arrays]


def _nothing() -> None:
    """Give nothing back."""


@dataclass(frozen=True)
class Call:
    """A graph that is ready to run on inputs that were given."""

    ran: Ran
    """As the backend says it, once the graph was opened."""
    run: Callable[[], Stages | None]
    """Run once; return milliseconds by stage where the device itself timed them."""
    outputs: Callable[[], dict[str, Any]]
    """Return the float32 or int32 outputs of the last run."""
    close: Callable[[], None] = _nothing


@dataclass(frozen=True)
class Backend:
    """One way to run the graphs on this machine."""

    name: str
    """`<backend> <precision>[, option…]`: what joins the rows of all scenarios."""
    prepare: Callable[[str, Arrays], Call]
    """Open one of `graphs` for inputs of fixed shapes (ModelError)."""
    graphs: tuple[str, ...] = GRAPHS


@dataclass(frozen=True)
class Unavailable:
    """A contender that this machine has not."""

    name: str
    reason: str
    """In one line, with what to do."""


def backends(context: Context) -> Iterator[Backend | Unavailable]:
    """Yield those of every backend, the files by name."""
    for name in BACKENDS:
        yield from import_module(f"cstl_edge.bench.backends.{name}").contenders(context)


def whole(frames: Run, head: Run) -> Run:
    """Return `full` as the runtimes of this package compute it: `frames`, then `head`."""

    def run(feed: Arrays) -> Arrays:
        silhouettes = feed["silhouettes"]  # [n, s, h, w]
        n, s = silhouettes.shape[:2]
        flat = silhouettes.reshape(n * s, *silhouettes.shape[2:])  # [m, h, w]
        features = frames({"silhouettes": flat})["features"]
        windows = features.reshape(n, s, *features.shape[1:])  # [n, s, p, c]
        return head({"features": windows, "lengths": feed["lengths"]})

    return run


def call(ran: Ran, run: Run, feed: Arrays, close: Callable[[], None] = _nothing) -> Call:
    """Return a call of a backend that takes and gives arrays, and times no stages."""
    last: dict[str, Any] = {}

    def once() -> None:
        last.update(run(feed))

    return Call(ran, once, lambda: dict(last), close)
