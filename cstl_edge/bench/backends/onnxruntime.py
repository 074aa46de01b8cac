"""ONNX Runtime on the CPU, opened as the runtime of this package opens it."""

from __future__ import annotations

from collections.abc import Iterator

from cstl_edge.bench.backends.base import (
    COMPUTED_IN,
    Backend,
    GraphUnderTest,
    Unavailable,
    backend_of_folder,
    under_test,
)
from cstl_edge.bench.context import Context
from cstl_edge.bench.model_under_test import PRECISION_NAMES, onnx_files, read_export
from cstl_edge.runtime.graph import Arrays


def backends(context: Context) -> Iterator[Backend | Unavailable]:
    """Yield one per precision of the exported model."""
    for precision in PRECISION_NAMES:
        yield backend_of_folder(context, "onnxruntime", precision, _open_graph)


def _open_graph(context: Context, precision: str, graph: str, feed: Arrays) -> GraphUnderTest:
    import onnxruntime

    from cstl_edge.runtime.backends.onnxruntime import OnnxruntimeGraph

    manifest, data = read_export(context.folder)
    files = onnx_files(manifest, precision, graph)
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
