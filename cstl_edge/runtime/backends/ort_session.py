"""Open an ONNX Runtime session on the CPU, always with the same options."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cstl_edge.errors import BackendUnavailable, ModelError, one_line

if TYPE_CHECKING:
    import onnxruntime as ort

PROVIDER = "CPUExecutionProvider"


def open_session(name: str, graph: bytes, threads: int) -> ort.InferenceSession:
    """Open a graph that was checked (ModelError where ONNX Runtime refuses it).

    Args:
        name: File name of the graph, for messages.
        graph: Bytes of the ONNX file.
        threads: Number of threads within one node.

    Raises BackendUnavailable where ONNX Runtime is not installed.
    """
    try:
        import onnxruntime as ort
    except ImportError as err:
        raise BackendUnavailable(
            "backend 'onnxruntime' is not on this machine: pip install onnxruntime"
        ) from err
    try:
        return ort.InferenceSession(graph, session_options(threads), [PROVIDER])
    except Exception as err:  # its exceptions have no public base
        raise ModelError(f"{name}: ONNX Runtime refuses it: {one_line(err)}") from err


def session_options(threads: int) -> ort.SessionOptions:
    """Return the options of every session: `threads` within a node, one node at a time."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3  # errors
    # Threads that spin while they wait take the cores from all other work and, once they share
    # cores, from each other: one frame and one head took 48 ms so on two busy cores, 11 ms without.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return options
