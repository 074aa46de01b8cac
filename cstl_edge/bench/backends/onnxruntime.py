"""ONNX Runtime on the CPU, opened as the runtime of this package opens it."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from cstl_edge.bench.backends.base import (
    COMPUTED_IN,
    Backend,
    GraphUnderTest,
    StreamingBackend,
    Unavailable,
    graphs_of,
    no_precision,
    under_test,
)
from cstl_edge.bench.context import Context
from cstl_edge.bench.model_under_test import PRECISION_NAMES, graph_files, read_export
from cstl_edge.runtime import load
from cstl_edge.runtime.graph import Arrays
from cstl_edge.runtime.manifest import read_manifest


def backends(context: Context) -> Iterator[Backend | Unavailable]:
    """Yield one per precision of the exported model."""
    manifest = read_manifest(context.folder)
    for precision, name in PRECISION_NAMES.items():
        if precision != "float32" and precision not in manifest.precisions:
            yield Unavailable(f"onnxruntime {name}", no_precision(precision), streams=True)
            continue
        yield StreamingBackend(
            f"onnxruntime {name}",
            partial(_open_graph, context, precision),
            graphs_of(precision),
            open_encoder=partial(load, context.folder, "onnxruntime", context.threads, precision),
        )


def _open_graph(context: Context, precision: str, graph: str, feed: Arrays) -> GraphUnderTest:
    import onnxruntime

    from cstl_edge.runtime.backends.onnxruntime import OnnxruntimeGraph

    manifest, data = read_export(context.folder)
    files = graph_files(manifest, precision, graph)
    graphs = [OnnxruntimeGraph(name, data[name], context.threads) for name in files]
    name = PRECISION_NAMES[precision]
    return under_test(
        graphs,
        feed,
        backend="onnxruntime",
        precision=name,
        computed_in=COMPUTED_IN.get(precision, name),
        version=onnxruntime.__version__,
        options={"files": ", ".join(files)},
    )
