"""Backend under test: the graphs and the encoder that it opens, and what it reports of itself.

A module of this package has a function `backends(context)`, which yields what this machine has as
a `Backend` and what it lacks as an `Unavailable`; `open` holds the table of these functions.
Letters: n sequences, s frames, m frames of any sequences, h w pixels, p parts, c channels.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from cstl_edge.bench.context import Context
from cstl_edge.bench.model_under_test import PRECISION_NAMES
from cstl_edge.bench.record import Ran
from cstl_edge.errors import ModelError
from cstl_edge.measure.environment import package_version
from cstl_edge.runtime import load
from cstl_edge.runtime.base import Encoder, EncoderInfo
from cstl_edge.runtime.graph import Arrays, BoundGraph, OpenGraph, Run, bind
from cstl_edge.runtime.manifest import read_manifest

BASELINE = "pytorch float32"
"""Eager PyTorch, the whole window anew for every answer, one sequence a call."""
GRAPHS = ("frames", "head", "full")
ON_CPU = ("onnxruntime", "openvino")
COMPUTED_IN = {"fp16": "float32"}
"""Runtimes of a CPU have no kernels of float16: they cast, compute, and round again."""


@dataclass(frozen=True, kw_only=True)
class GraphUnderTest(BoundGraph):
    """An open graph with its inputs, and how it really runs."""

    ran: Ran  # as the backend reports it, once the graph was opened


def no_graph(graph: str, feed: Arrays) -> GraphUnderTest:
    """Refuse to open a graph, for a backend that is measured as an encoder alone."""
    raise ModelError(f"expected a backend of graphs to open {graph}; this one is an encoder")


@dataclass(frozen=True)
class Backend:
    """One way to run the graphs on this machine."""

    name: str
    """`<backend> <precision>[, option…]`, by which the rows of all scenarios are joined."""
    open_graph: Callable[[str, Arrays], GraphUnderTest] = no_graph
    """Open one of `graphs` for inputs of fixed shapes (ModelError)."""
    graphs: tuple[str, ...] = GRAPHS


@dataclass(frozen=True, kw_only=True)
class StreamingBackend(Backend):
    """A backend that `runtime` opens as an encoder too, so that it streams."""

    open_encoder: Callable[[], Encoder]  # ModelError where it does not open


@dataclass(frozen=True)
class Unavailable:
    """A backend that this machine lacks."""

    name: str
    reason: str  # in one line, with the remedy
    streams: bool = False  # whether it would be a `StreamingBackend`


def under_test(
    graphs: Sequence[OpenGraph],
    feed: Arrays,
    close: Callable[[], None] | None = None,
    **reported: Any,
) -> GraphUnderTest:
    """Bind one graph, or `frames` and `head` in the place of `full`, to inputs.

    Args:
        graphs: The graph, or `frames` and `head`.
        feed: Inputs by name, which are copied.
        close: Function that releases the graph.
        reported: Fields of `Ran` beside the provider and threads of the graphs.
    """
    ran = Ran(provider=graphs[0].provider, threads=graphs[0].threads, **reported)
    bound = bind(graphs[0] if len(graphs) == 1 else in_two_graphs(*graphs), feed)
    return GraphUnderTest(ran=ran, **vars(bound) | ({"close": close} if close else {}))


def in_two_graphs(frames: Run, head: Run) -> Run:
    """Return `full` as the encoders of this package compute it: `frames`, then `head`."""

    def run(feed: Arrays) -> Arrays:
        silhouettes = feed["silhouettes"]  # [n, s, h, w]
        n, s = silhouettes.shape[:2]
        flat = silhouettes.reshape(n * s, *silhouettes.shape[2:])  # [m, h, w]
        features = frames({"silhouettes": flat})["features"]
        windows = features.reshape(n, s, *features.shape[1:])  # [n, s, p, c]
        return head({"features": windows, "lengths": feed["lengths"]})

    return run


def backend_of_folder(
    context: Context, runtime: str, precision: str, open_graph: Callable[..., GraphUnderTest]
) -> StreamingBackend | Unavailable:
    """Return a CPU runtime on the exported model, unavailable where that lacks the precision.

    Args:
        context: Context of the call.
        runtime: Name of the backend in `runtime.load`.
        precision: Precision of the files, as a manifest names it.
        open_graph: Function of the context, the precision, a graph and its inputs.
    """
    folder, name = context.folder, f"{runtime} {PRECISION_NAMES[precision]}"
    if precision != "float32" and precision not in read_manifest(folder).precisions:
        reason = (
            f"no {precision} graphs in the exported model, or its gates refused them: cstl-edge "
            f"export WEIGHTS -o FOLDER --precision {precision}"
        )
        return Unavailable(name, reason, streams=True)
    # With int8 frames goes the head of float32.
    graphs = tuple(graph for graph in GRAPHS if (precision, graph) != ("int8", "head"))
    opener = partial(load, folder, runtime, context.threads, precision)
    run = partial(open_graph, context, precision)
    return StreamingBackend(name, run, graphs, open_encoder=opener)


def ran_of(info: EncoderInfo) -> Ran:
    """Return how an encoder runs, as it reports it."""
    package = {"pytorch": "torch"}.get(info.backend, info.backend)
    precision = PRECISION_NAMES.get(info.precision, info.precision)
    cast = COMPUTED_IN.get(info.precision) if info.backend in ON_CPU else None
    return Ran(
        backend=info.backend,
        provider=info.provider,
        precision=precision,
        computed_in=cast or precision,
        version=package_version(package) or "unknown",
        threads=info.threads or None,
    )


def cores_of(ran: Ran) -> int | None:
    """Return how many cores were used; None where a GPU computed, or no backend reports it."""
    return ran.threads if ran.provider.lower().startswith("cpu") else None
