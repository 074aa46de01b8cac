"""ONNX Runtime on the CPU, with the session options of our own runtime."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from cstl_edge.bench.backends.base import (
    GRAPHS,
    Arrays,
    Backend,
    Call,
    Run,
    Unavailable,
    call,
    whole,
)
from cstl_edge.bench.context import Context
from cstl_edge.bench.model_under_test import PRECISION_NAMES, graph_files, read_export
from cstl_edge.bench.record import Ran
from cstl_edge.errors import ModelError, one_line

COMPUTED_IN = {"fp16": "float32"}
"""The CPU provider has no kernels of float16: it casts, computes, and rounds again."""


def contenders(context: Context) -> Iterator[Backend | Unavailable]:
    """Yield one per precision that the exported model holds."""
    manifest, _ = read_export(context.folder)
    for precision, name in PRECISION_NAMES.items():
        if precision != "float32" and precision not in manifest.precisions:
            yield Unavailable(f"onnxruntime {name}", no_graphs(precision))
            continue
        yield Backend(
            f"onnxruntime {name}",
            lambda graph, feed, p=precision: _prepare(context, p, graph, feed),  # type: ignore[misc]
            graphs=of(precision),
        )


def of(precision: str) -> tuple[str, ...]:
    """Return the graphs that a precision has: with int8 frames goes the head of float32."""
    return tuple(graph for graph in GRAPHS if (precision, graph) != ("int8", "head"))


def no_graphs(precision: str) -> str:
    """Say that an exported model lacks a precision, and what to do."""
    return (
        f"no {precision} graphs in the exported model, or its gates refused them: cstl-edge export "
        f"WEIGHTS -o FOLDER --precision {precision}"
    )


def _prepare(context: Context, precision: str, graph: str, feed: Arrays) -> Call:
    import onnxruntime

    from cstl_edge.runtime.backends.onnxruntime import open_session

    manifest, data = read_export(context.folder)
    names = graph_files(manifest, precision, graph)
    sessions = [open_session(name, data[name], context.threads) for name in names]
    ran = Ran(
        backend="onnxruntime",
        provider=sessions[0].get_providers()[0],
        precision=PRECISION_NAMES[precision],
        computed_in=COMPUTED_IN.get(precision, PRECISION_NAMES[precision]),
        version=onnxruntime.__version__,
        threads=sessions[0].get_session_options().intra_op_num_threads,
        options={"files": ", ".join(names)},
    )
    runs = [_runner(session) for session in sessions]
    return call(ran, runs[0] if len(runs) == 1 else whole(*runs), feed)


def _runner(session: Any) -> Run:
    names = [output.name for output in session.get_outputs()]

    def run(feed: Arrays) -> Arrays:
        try:
            answers = session.run(None, dict(feed))
        except Exception as err:  # its exceptions have no public base
            raise ModelError(f"ONNX Runtime failed: {one_line(err)}") from err
        return dict(zip(names, answers, strict=True))

    return run
