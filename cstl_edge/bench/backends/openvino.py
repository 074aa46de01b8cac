"""OpenVINO on the CPU, from the same ONNX files, compiled for latency and for fixed shapes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

from cstl_edge.bench.backends.base import (
    Backend,
    GraphUnderTest,
    Unavailable,
    backend_of_folder,
    under_test,
)
from cstl_edge.bench.context import Context
from cstl_edge.bench.model_under_test import PRECISION_NAMES, onnx_files, read_export
from cstl_edge.errors import BackendUnavailable, one_line
from cstl_edge.extras import install_command
from cstl_edge.runtime.backends.openvino import OpenvinoGraph, core, import_openvino
from cstl_edge.runtime.graph import Arrays
from cstl_edge.runtime.manifest import Shape

HINTS = {"float32": "f32", "bfloat16": "bf16", "int8": "f32"}
"""Type that OpenVINO must compute in; int8 stands in the graph."""
FILES = {"float32": "float32", "bfloat16": "float32", "int8": "int8"}
"""Precisions of the files, as a manifest names them."""
TYPES = {"f32": "float32", "bf16": "bfloat16", "f16": "float16", "u8": "int8", "i8": "int8"}
PRODUCTS = ("Convolution", "FullyConnected", "MatMul", "BrgConvolution")


def backends(context: Context) -> Iterator[Backend | Unavailable]:
    """Yield float32, bfloat16 where the processor has it, and int8 where the model has it."""
    try:
        capabilities = core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    except (BackendUnavailable, RuntimeError) as err:
        reason = f"OpenVINO is not here ({one_line(err, 80)}): {install_command('bench')}"
        for precision in HINTS:
            yield Unavailable(f"openvino {precision}", reason, streams=precision != "bfloat16")
        return
    for precision in HINTS:
        if precision != "bfloat16":
            yield backend_of_folder(context, "openvino", precision, _open_graph)
        elif "BF16" in capabilities:  # has no encoder: `runtime` computes in float32
            yield Backend("openvino bfloat16", partial(_open_graph, context, precision))
        else:
            reason = "this processor has no bfloat16 instructions"
            yield Unavailable("openvino bfloat16", reason)


def _open_graph(context: Context, precision: str, graph: str, feed: Arrays) -> GraphUnderTest:
    openvino = import_openvino()
    manifest, data = read_export(context.folder)
    files, hint = onnx_files(manifest, FILES[precision], graph), HINTS[precision]
    shapes = _shapes(feed, manifest.shape, len(files))
    graphs = [
        OpenvinoGraph(name, data[name], context.threads, hint, fixed)
        for name, fixed in zip(files, shapes, strict=True)
    ]
    return under_test(
        graphs,
        feed,
        backend="openvino",
        precision=PRECISION_NAMES[FILES[precision]] if precision != "bfloat16" else precision,
        computed_in=computed_in([opened.model for opened in graphs]),
        version=openvino.__version__.split("-")[0],
        options={"hint": "latency", "shapes": "fixed", "files": ", ".join(files)},
    )


def _shapes(feed: Arrays, shape: Shape, files: int) -> list[dict[str, tuple[int, ...]]]:
    """Return the shapes of the inputs of one file, or of `frames` and `head` in its place."""
    if files == 1:
        return [{name: array.shape for name, array in feed.items()}]
    n, s = feed["silhouettes"].shape[:2]
    head = {"features": (n, s, shape.parts, shape.channels), "lengths": (n,)}
    return [{"silhouettes": (n * s, *shape.size)}, head]


def computed_in(models: Sequence[Any]) -> str:
    """Return the types in which convolutions and matrix products of compiled models run."""
    types = set()
    for model in models:
        for node in model.get_runtime_model().get_ops():
            info = node.get_rt_info()
            if str(info["layerType"].astype(str)) in PRODUCTS:
                kind = str(info["runtimePrecision"].astype(str))
                types.add(TYPES.get(kind, kind))
    return " and ".join(sorted(types)) or "unknown"
