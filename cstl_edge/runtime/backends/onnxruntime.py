"""ONNX Runtime on the CPU: the embedded default. A session per graph."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cstl_edge.errors import BackendUnavailable, ModelError, one_line
from cstl_edge.runtime.backends.onnx_folder import GraphEncoder, read_folder

if TYPE_CHECKING:
    import onnxruntime as ort


PROVIDER = "CPUExecutionProvider"
HEAVY = 2_000_000
"""Bytes of a cut of the head from which its weights are worth more threads than one, which have to
be woken for every node. One frame of one walker (hop 1) at the paper's widths took 8.1 ms with one,
6.5 with two; at the shipped widths, all of whose cuts are lighter, 1.8 and 1.9 ms."""


def load_folder(folder: Path, threads: int, precision: str | None = None) -> GraphEncoder:
    """Check an exported folder and open it (ModelError, BackendUnavailable).

    precision: as in `graphs.read_folder`
    """
    read = read_folder(folder, precision, int8_cuts=True)
    sessions = {
        name: open_session(name, graph, 1 if name in read.cuts and len(graph) < HEAVY else threads)
        for name, graph in read.graphs.items()
    }
    head = sessions[read.head]
    info = read.info(
        "onnxruntime", head.get_providers()[0], head.get_session_options().intra_op_num_threads
    )
    return GraphEncoder(read, info, {name: partial(_run, one) for name, one in sessions.items()})


def open_session(name: str, graph: bytes, threads: int) -> ort.InferenceSession:
    """Open a graph that was checked (ModelError, BackendUnavailable)."""
    try:
        import onnxruntime as ort
    except ImportError as err:
        raise BackendUnavailable(
            "backend 'onnxruntime' is not on this machine: pip install onnxruntime"
        ) from err
    try:
        return ort.InferenceSession(
            graph, sess_options=session_options(threads), providers=[PROVIDER]
        )
    except Exception as err:  # its exceptions have no public base
        raise ModelError(f"{name}: ONNX Runtime refuses it: {one_line(err)}") from err


def session_options(threads: int) -> ort.SessionOptions:
    """Return the options of every session of ours: `threads` within a node, nodes in turn."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3  # errors
    # Threads that spin while they wait take the cores from everyone else and, once they share them,
    # from each other: one frame and one head took 48 ms so on two busy cores, 11 ms without.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return options


def _run(session: Any, feed: Mapping[str, Any]) -> list[Any]:
    """Run a session; what it complains of is the model's fault, the input was checked."""
    try:
        outputs: list[Any] = session.run(None, feed)
    except Exception as err:
        raise ModelError(f"ONNX Runtime failed: {one_line(err)}") from err
    return outputs
