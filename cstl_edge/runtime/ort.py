"""ONNX Runtime on the CPU: the embedded default. A session per graph."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
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
from cstl_edge.runtime.manifest import FLOAT32_GRAPHS, SLIDING_GRAPHS, Manifest, read_manifest
from cstl_edge.runtime.processor import cpu_precision
from cstl_edge.runtime.sliding import Slots, check_rows, check_slots

if TYPE_CHECKING:
    import onnxruntime as ort

log = logging.getLogger(__name__)

PROVIDER = "CPUExecutionProvider"


class OrtEncoder:
    """An exported folder in ONNX Runtime. Use `load`, or `load_folder`."""

    def __init__(
        self,
        frames: Any,
        head: Any,
        manifest: Manifest,
        precision: str = "float32",
        cuts: Sequence[Any] = (),
    ) -> None:
        """Take open sessions and the manifest that their graphs were checked against.

        cuts: `SLIDING_GRAPHS`; without them it is no `SlidingEncoder`
        """
        self._frames, self._head = frames, head
        self._cuts = cuts
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
            slides=bool(cuts),
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

    def taps(self, features: Floats) -> tuple[Floats, Floats]:
        """Return of frames [p, m, c] the shares [p, m, 7c] and gates [p, m, 2c]."""
        check_rows("features", features, self._info.parts, self._info.channels)
        shares, gates = _run(self._cut(0), {"features": features})
        return shares, gates

    def mix(self, features: Floats, sums: Floats) -> tuple[Floats, Floats]:
        """Return of frames' T_f and T_f + T_s [p, m, c] the logits [p, m, 3c], judged [p, m, h]."""
        for name, rows in (("features", features), ("sums", sums)):
            check_rows(name, rows, self._info.parts, self._info.channels)
        logits, judged = _run(self._cut(1), {"features": features, "sums": sums})
        return logits, judged

    def slide(self, kept: Mapping[str, Floats], slots: Slots) -> Embedded:
        """Return the embeddings of windows of what is kept of s frames, [n, p, s, ..] by name."""
        check_slots(slots, kept)
        return Embedded(*_run(self._cut(2), {**kept, "slots": slots}))

    def encode(self, silhouettes: Silhouettes, lengths: Ints | None = None) -> Embedded:
        """Return the embeddings of sequences [n, s, h, w]."""
        return encode_in_parts(self, silhouettes, lengths)

    def close(self) -> None:
        """Let go of the sessions."""
        self._frames = self._head = None
        self._cuts = ()

    def _cut(self, index: int) -> Any:
        if not self._cuts:
            raise ModelError(
                "expected an open encoder whose info says `slides`; this one is closed, or its "
                f"folder has not all of {', '.join(SLIDING_GRAPHS)}: export the model again"
            )
        return self._cuts[index]


def load_folder(folder: Path, threads: int, precision: str | None = None) -> OrtEncoder:
    """Check an exported folder and open it (ModelError, BackendUnavailable).

    precision: one of `manifest.PRECISIONS`; by default that of `cpu_precision`.
    float16 graphs are computed in float32 here, with the weights and most tensors rounded.
    """
    manifest = read_manifest(folder)
    chosen = precision or cpu_precision(manifest, folder)
    names = manifest.graphs(chosen, "onnxruntime")
    # The cuts are those of the float32 head, which int8 frames have too.
    slides = names[1] == FLOAT32_GRAPHS[1] and set(SLIDING_GRAPHS) <= set(manifest.files)
    cuts = SLIDING_GRAPHS if slides else ()
    graphs = checked_graphs(folder, manifest, (*names, *cuts))
    frames, head = (open_session(name, graphs[name], threads) for name in names)
    # What slides is too small for more threads than one: 0.42 ms for the gates of one window at the
    # paper's widths on one, 0.47 ms on two, which have to be woken for every node.
    return OrtEncoder(
        frames, head, manifest, chosen, [open_session(name, graphs[name], 1) for name in cuts]
    )


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
