"""Table of the backends under test by the runtime that they use, and those of this machine.

To add one, write a module with a function `backends(context: Context)` that yields `Backend` and
`Unavailable`, and add a line here.
"""

from __future__ import annotations

from collections.abc import Iterator

from cstl_edge.bench.backends.base import Backend, StreamingBackend, Unavailable
from cstl_edge.bench.context import Context
from cstl_edge.registry import Entry, Registry

SHORT_FORM = ("onnxruntime float32", "pytorch float32")
"""Backends that scenarios beyond one graph measure in the short form."""

BENCH_BACKENDS = Registry(
    "bench backend",
    {
        "onnxruntime": Entry("cstl_edge.bench.backends.onnxruntime:backends"),
        "openvino": Entry("cstl_edge.bench.backends.openvino:backends"),
        "pytorch": Entry("cstl_edge.bench.backends.pytorch:backends", "eager and compiled"),
        "pytorch_cuda": Entry("cstl_edge.bench.backends.pytorch_cuda:backends", "on a GPU"),
        "tensorrt": Entry("cstl_edge.bench.backends.tensorrt:backends"),
        "tensorrt_rtx": Entry("cstl_edge.bench.backends.tensorrt_rtx:backends"),
    },
)


def backends(context: Context) -> Iterator[Backend | Unavailable]:
    """Yield the backends of this machine, and those that it lacks with the reason."""
    for name in BENCH_BACKENDS:
        yield from BENCH_BACKENDS.load(name)(context)


def streaming_backends(context: Context) -> Iterator[StreamingBackend | Unavailable]:
    """Yield the backends that stream in this form of the suite, and those that cannot here."""
    for backend in backends(context):
        if not selected(context, backend.name):
            continue
        if isinstance(backend, StreamingBackend):
            yield backend
        if isinstance(backend, Unavailable) and backend.streams:
            yield backend


def selected(context: Context, name: str) -> bool:
    """Tell whether scenarios beyond one graph measure a backend in this form of the suite."""
    return not context.short or name in SHORT_FORM
