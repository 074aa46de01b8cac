"""ONNX Runtime on the CPU: the default backend at the edge. One session per graph."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from cstl_edge.arrays import Array
from cstl_edge.errors import ModelError, one_line
from cstl_edge.runtime.backends.onnx_folder import INCREMENTAL_GRAPHS, open_folder
from cstl_edge.runtime.backends.ort_session import open_session
from cstl_edge.runtime.base import usable_cores
from cstl_edge.runtime.graph import Arrays
from cstl_edge.runtime.graph_encoder import GraphEncoder

HEAVY = 2_000_000
"""Bytes of a graph of the incremental head from which its weights are worth several threads, which
have to be woken for every node. One frame of one walker (hop 1) at the paper's widths took 8.1 ms
with one, 6.5 with two; at the shipped widths, all of whose graphs are lighter, 1.8 and 1.9 ms."""
HEAVY_STEP = 6_000_000
"""Bytes of `step` from which it is worth several threads; the shipped one has 3 million."""


def load_folder(
    path: Path | None, threads: int | None = None, precision: str | None = None
) -> GraphEncoder:
    """Check an exported folder and open it.

    Args:
        path: Exported folder (ModelError where it is refused); None for the shipped model.
        threads: Number of threads of one run; by default `usable_cores`.
        precision: Precision as in `onnx_folder.open_folder`.

    Raises BackendUnavailable where ONNX Runtime is not installed.
    """
    cores = usable_cores() if threads is None else threads

    def open_graph(graph: str, name: str, data: bytes) -> OnnxruntimeGraph:
        light = graph in INCREMENTAL_GRAPHS and len(data) < HEAVY
        return OnnxruntimeGraph(name, data, 1 if light else cores)

    def open_step(name: str, data: bytes) -> OnnxruntimeStep:
        return OnnxruntimeStep(name, data, cores)

    return open_folder(
        "onnxruntime", path, precision, open_graph, int8_incremental=True, open_step=open_step
    )


class OnnxruntimeGraph:
    """One graph in a session of its own, as an `OpenGraph`."""

    def __init__(self, name: str, data: bytes, threads: int) -> None:
        """Open a graph that was checked (ModelError, BackendUnavailable).

        Args:
            name: File name of the graph, for messages.
            data: Bytes of the ONNX file.
            threads: Number of threads within one node.
        """
        self._session = open_session(name, data, threads)
        self._outputs = [output.name for output in self._session.get_outputs()]
        self.provider: str = self._session.get_providers()[0]
        self.threads: int = self._session.get_session_options().intra_op_num_threads

    def __call__(self, inputs: Arrays) -> Arrays:
        """Run it (ModelError)."""
        try:
            outputs = self._session.run(None, dict(inputs))
        except Exception as err:  # its exceptions have no public base
            raise ModelError(f"ONNX Runtime failed: {one_line(err)}") from err
        return dict(zip(self._outputs, outputs, strict=True))


class OnnxruntimeStep:
    """The graph `step` in a session of its own, as a `StepGraph`."""

    def __init__(self, name: str, data: bytes, threads: int) -> None:
        """Open a graph that was checked (ModelError, BackendUnavailable).

        Args:
            name: File name of the graph, for messages.
            data: Bytes of the ONNX file.
            threads: Number of threads within one node, where it has many weights; else one.
        """
        self.light = len(data) < HEAVY_STEP
        self._session = open_session(name, data, 1 if self.light else threads)

    def bind(self, inputs: Mapping[str, Array], outputs: Mapping[str, Array]) -> Callable[[], None]:
        """Return what runs it from arrays to arrays, where they lie."""
        session, binding = self._session, self._session.io_binding()
        for arrays, bind in ((inputs, binding.bind_input), (outputs, binding.bind_output)):
            for name, array in arrays.items():
                if not array.flags.c_contiguous:
                    raise ValueError(f"{name}: expected an array whose elements lie in order")
                bind(name, "cpu", 0, array.dtype.type, array.shape, array.ctypes.data)

        def run() -> None:
            try:
                session.run_with_iobinding(binding)
            except Exception as err:  # its exceptions have no public base
                raise ModelError(f"ONNX Runtime failed: {one_line(err)}") from err

        return run
