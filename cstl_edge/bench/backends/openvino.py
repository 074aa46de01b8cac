"""OpenVINO on the CPU, from the same ONNX files, at its setting for latency and fixed shapes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from cstl_edge.bench.backends.base import Arrays, Backend, Call, Unavailable, call, whole
from cstl_edge.bench.backends.onnxruntime import no_graphs, of
from cstl_edge.bench.context import Context
from cstl_edge.bench.model_under_test import PRECISION_NAMES, graph_files, read_export
from cstl_edge.bench.record import Ran
from cstl_edge.errors import BackendUnavailable, ModelError, one_line
from cstl_edge.runtime.backends.openvino import compiled, core
from cstl_edge.runtime.model_check import signature

HINTS = {"float32": "f32", "bfloat16": "bf16", "int8": "f32"}
"""What OpenVINO is told to compute in; int8 stands in the graph."""
FILES = {"float32": "float32", "bfloat16": "float32", "int8": "int8"}
"""Precisions of the files, as a manifest names them."""
TYPES = {"f32": "float32", "bf16": "bfloat16", "f16": "float16", "u8": "int8", "i8": "int8"}
PRODUCTS = ("Convolution", "FullyConnected", "MatMul", "BrgConvolution")


def contenders(context: Context) -> Iterator[Backend | Unavailable]:
    """Yield float32, bfloat16 where the processor has it, and int8 where the model has it."""
    names = [f"openvino {precision}" for precision in HINTS]
    try:
        can = core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    except (BackendUnavailable, RuntimeError) as err:
        reason = f'OpenVINO is not here ({one_line(err, 80)}): pip install "cstl-edge[bench]"'
        yield from (Unavailable(name, reason) for name in names)
        return
    manifest, _ = read_export(context.folder)
    for precision, name in zip(HINTS, names, strict=True):
        if precision == "bfloat16" and "BF16" not in can:
            yield Unavailable(name, "this processor has no bfloat16 instructions")
        elif precision == "int8" and "int8" not in manifest.precisions:
            yield Unavailable(name, no_graphs("int8"))
        else:
            yield Backend(
                name,
                lambda graph, feed, p=precision: _prepare(context, p, graph, feed),  # type: ignore[misc]
                graphs=of(precision),
            )


def _prepare(context: Context, precision: str, graph: str, feed: Arrays) -> Call:
    import openvino

    manifest, data = read_export(context.folder)
    names = graph_files(manifest, FILES[precision], graph)
    opened = [
        _Graph(name, data[name], precision, context.threads, [*signature(name, manifest.shape)[1]])
        for name in names
    ]
    run = opened[0] if len(opened) == 1 else whole(*opened)
    run(feed)  # compiles for the shapes of the feed
    models = [one.compiled for one in opened]
    ran = Ran(
        backend="openvino",
        provider=" ".join(models[0].get_property("EXECUTION_DEVICES")),
        precision=PRECISION_NAMES[FILES[precision]] if precision != "bfloat16" else precision,
        computed_in=computed_in(models),
        version=openvino.__version__.split("-")[0],
        threads=int(models[0].get_property("INFERENCE_NUM_THREADS")),
        options={"hint": "latency", "shapes": "fixed", "files": ", ".join(names)},
    )
    return call(ran, run, feed)


def computed_in(models: Sequence[Any]) -> str:
    """Return what convolutions and matrix products of compiled models run in, as they tell it."""
    found = set()
    for model in models:
        for node in model.get_runtime_model().get_ops():
            told = node.get_rt_info()
            if str(told["layerType"].astype(str)) in PRODUCTS:
                kind = str(told["runtimePrecision"].astype(str))
                found.add(TYPES.get(kind, kind))
    return " and ".join(sorted(found)) or "unknown"


class _Graph:
    """A graph that is compiled when its first feed has told the shapes."""

    def __init__(
        self, name: str, data: bytes, precision: str, threads: int, outputs: Sequence[str]
    ) -> None:
        self._name, self._data, self._precision, self._threads = name, data, precision, threads
        self._outputs = outputs
        self.compiled: Any = None

    def __call__(self, feed: Arrays) -> Arrays:
        if self.compiled is None:
            self._compile(feed)
        try:
            answers = self._request.infer(dict(feed), share_inputs=True, share_outputs=True)
        except RuntimeError as err:
            raise ModelError(f"OpenVINO failed: {one_line(err)}") from err
        return {output: answers[output] for output in self._outputs}

    def _compile(self, feed: Arrays) -> None:
        shapes = {name: list(array.shape) for name, array in feed.items()}
        self.compiled = compiled(
            self._name, self._data, self._threads, HINTS[self._precision], shapes
        )
        self._request = self.compiled.create_infer_request()
