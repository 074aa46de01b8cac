"""ONNX Runtime on the CPU: the embedded default. Two sessions, `frames` and `head`."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cstl_edge.errors import BackendUnavailable, ModelError, one_line
from cstl_edge.runtime.base import (
    Embedded,
    EncoderInfo,
    Floats,
    Ints,
    Silhouettes,
    check_features,
    check_lengths,
    check_silhouettes,
    encode_in_parts,
)
from cstl_edge.runtime.check import checked_graphs
from cstl_edge.runtime.manifest import Manifest, read_manifest

if TYPE_CHECKING:
    import onnxruntime as ort

log = logging.getLogger(__name__)

PROVIDER = "CPUExecutionProvider"


class OrtEncoder:
    """An exported folder in ONNX Runtime. Use `load`, or `load_folder`."""

    def __init__(
        self, frames: Any, head: Any, manifest: Manifest, precision: str = "float32"
    ) -> None:
        """Take two open sessions and the manifest that their graphs were checked against."""
        self._frames, self._head = frames, head
        shape = manifest.shape
        self._salient = shape.salient
        self._info = EncoderInfo(
            backend="onnxruntime",
            provider=head.get_providers()[0],
            precision=precision,
            threads=head.get_session_options().intra_op_num_threads,
            model_name=manifest.model,
            weights_sha256=manifest.weights_sha256,
            size=shape.size,
            parts=shape.parts,
            channels=shape.channels,
            embedding=shape.embedding,
            impostors=manifest.impostors,
        )

    @property
    def info(self) -> EncoderInfo:
        """Return what this encoder is, the provider as the session tells it."""
        return self._info

    def frames(self, silhouettes: Silhouettes) -> Floats:
        """Return the part features [m, p, c] of silhouettes [m, h, w]."""
        check_silhouettes(silhouettes, self._info.size, ("m",))
        features: Floats = _run(self._frames, {"silhouettes": silhouettes})[0]
        return features

    def head(self, features: Floats, lengths: Ints) -> Embedded:
        """Return the embeddings of windows [n, s, p, c], of which `lengths` [n] frames count."""
        check_features(features, self._info)
        check_lengths(lengths, *features.shape[:2])
        answers = _run(self._head, {"features": features, "lengths": lengths})
        if self._salient:
            return Embedded(answers[0], answers[1])
        return Embedded(answers[0], np.full(answers[0].shape[:2], -1, np.int32))

    def encode(self, silhouettes: Silhouettes, lengths: Ints | None = None) -> Embedded:
        """Return the embeddings of sequences [n, s, h, w]."""
        return encode_in_parts(self, silhouettes, lengths)

    def close(self) -> None:
        """Let go of the sessions."""
        self._frames = self._head = None


def load_folder(folder: Path, threads: int, precision: str | None = None) -> OrtEncoder:
    """Check an exported folder and open it (ModelError, BackendUnavailable).

    precision: one of `manifest.PRECISIONS`; by default the one that the folder names for a CPU.
    float16 graphs are computed in float32 here, with the weights and most tensors rounded.
    """
    manifest = read_manifest(folder)
    chosen = precision or manifest.cpu_default
    if precision is None and chosen != "float32":
        log.info("precision: %s, the default that %s names for a CPU", chosen, one_line(folder))
    names = manifest.graphs(chosen, "onnxruntime")
    graphs = checked_graphs(folder, manifest, names)
    frames, head = (open_session(name, graphs[name], threads) for name in names)
    return OrtEncoder(frames, head, manifest, chosen)


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


def _run(session: Any, feed: dict[str, Any]) -> list[Any]:
    """Run a session; what it complains of is the model's fault, the input was checked."""
    if session is None:
        raise ModelError("this encoder is closed: load it again")
    try:
        outputs: list[Any] = session.run(None, feed)
    except Exception as err:
        raise ModelError(f"ONNX Runtime failed: {one_line(err)}") from err
    return outputs
