"""An exported folder as an encoder, in any runtime that takes arrays and gives arrays.

What `ort` and `openvino` have in common: which graphs of the folder belong together, that they were
checked, and what goes in and comes out. Letters as in `base`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from cstl_edge.arrays import Floats, Indices, Ints, Silhouettes
from cstl_edge.errors import ModelError, one_line
from cstl_edge.measure.environment import processor
from cstl_edge.runtime.base import (
    Embedded,
    EncoderInfo,
    check_features,
    check_lengths,
    check_silhouettes,
    encode_in_parts,
)
from cstl_edge.runtime.manifest import SLIDING_GRAPHS, Manifest, read_manifest
from cstl_edge.runtime.model_check import checked_graphs
from cstl_edge.runtime.streaming.rings import check_rows, check_slots

log = logging.getLogger(__name__)

FAST_INT8 = ("amx_int8", "avx512_vnni", "avx_vnni", "i8mm", "asimddp")
"""Instructions that add four int8 products at once (x86, then aarch64). Without them ONNX Runtime
was 1.7 times as fast in int8 as in float32 at best, and slower on two busy cores of AVX2."""


def cpu_precision(manifest: Manifest, folder: Path) -> str:
    """Return the precision that the folder names for a CPU, or float32 where that is no faster."""
    named = manifest.cpu_default
    if named != "int8":
        return named
    _, flags = processor()
    fast = next((name for name in FAST_INT8 if name in flags), None)
    if fast is None:
        log.info(
            "precision: float32, though %s names int8 for a CPU: this one has none of %s",
            one_line(folder),
            ", ".join(FAST_INT8),
        )
        return "float32"
    log.info("precision: int8, which %s names for a CPU; this one has %s", one_line(folder), fast)
    return named


Run: TypeAlias = Callable[[Mapping[str, Any]], Sequence[Any]]
"""A graph that is ready to run: from arrays by input to the outputs, which are the caller's.

ModelError where the runtime fails: what goes in was checked."""


@dataclass(frozen=True)
class Folder:
    """The graphs of an exported folder that a CPU needs for one precision, all checked."""

    manifest: Manifest
    precision: str
    """One of `manifest.PRECISIONS`."""
    frames: str
    head: str
    """File names of the two graphs that there always are."""
    cuts: Sequence[str]
    """Those of `SLIDING_GRAPHS`, or none where windows do not slide."""
    graphs: Mapping[str, bytes]
    """By file name."""

    def info(self, backend: str, provider: str, threads: int) -> EncoderInfo:
        """Return what an encoder of these graphs is."""
        shape = self.manifest.shape
        return EncoderInfo(
            backend=backend,
            provider=provider,
            precision=self.precision,
            threads=threads,
            model_name=self.manifest.model,
            weights_sha256=self.manifest.weights_sha256,
            size=shape.size,
            parts=shape.parts,
            channels=shape.channels,
            embedding=shape.embedding,
            impostors=self.manifest.impostors,
            slides=bool(self.cuts),
        )


def read_folder(folder: Path, precision: str | None, int8_cuts: bool = False) -> Folder:
    """Read and check what a CPU runs of an exported folder (ModelError).

    precision: one of `manifest.PRECISIONS`; by default that of `cpu_precision`.
    int8_cuts: slide by int8 too, where the precision is int8 and the folder has them
    No runtime of a CPU has kernels of float16 for all of it: float16 graphs are computed in
    float32, with the weights and most tensors rounded.
    """
    manifest = read_manifest(folder)
    chosen = precision or cpu_precision(manifest, folder)
    frames, head = manifest.graphs(chosen, "onnxruntime")
    cuts = manifest.cuts(chosen, int8_cuts)
    graphs = checked_graphs(folder, manifest, (frames, head, *cuts))
    return Folder(manifest, chosen, frames, head, cuts, graphs)


class GraphEncoder:
    """Graphs that are open in some runtime, as a `SlidingEncoder`. Use `load`."""

    def __init__(self, folder: Folder, info: EncoderInfo, opened: Mapping[str, Run]) -> None:
        """Take the graphs of a folder, open by file name."""
        self._info = info
        self._salient = folder.manifest.shape.salient
        self._frames, self._head = folder.frames, folder.head
        self._taps, self._mix, self._slide = folder.cuts or SLIDING_GRAPHS
        self._opened = dict(opened)

    @property
    def info(self) -> EncoderInfo:
        """Return what this encoder is, as its runtime told it."""
        return self._info

    def frames(self, silhouettes: Silhouettes) -> Floats:
        """Return the part features [m, p, c] of silhouettes [m, h, w]."""
        check_silhouettes(silhouettes, self._info.size, ("m",))
        features: Floats = self._run(self._frames, {"silhouettes": silhouettes})[0]
        return features

    def head(self, features: Floats, lengths: Ints) -> Embedded:
        """Return the embeddings of windows [n, s, p, c], of which `lengths` [n] frames count."""
        check_features(features, self._info)
        check_lengths(lengths, *features.shape[:2])
        answers = self._run(self._head, {"features": features, "lengths": lengths})
        if self._salient:
            return Embedded(answers[0], answers[1])
        return Embedded(answers[0], np.full(answers[0].shape[:2], -1, np.int32))

    def taps(self, features: Floats) -> tuple[Floats, Floats]:
        """Return of frames [p, m, c] the shares [p, m, 7c] and gates [p, m, 2c]."""
        check_rows("features", features, self._info.parts, self._info.channels)
        shares, gates = self._run(self._taps, {"features": features})
        return shares, gates

    def mix(self, features: Floats, sums: Floats) -> tuple[Floats, Floats]:
        """Return of frames' T_f and T_f + T_s [p, m, c] the logits [p, m, 3c], judged [p, m, h]."""
        for name, rows in (("features", features), ("sums", sums)):
            check_rows(name, rows, self._info.parts, self._info.channels)
        logits, judged = self._run(self._mix, {"features": features, "sums": sums})
        return logits, judged

    def slide(self, kept: Mapping[str, Floats], slots: Indices) -> Embedded:
        """Return the embeddings of windows of what is kept of s frames, [n, p, s, ..] by name."""
        check_slots(slots, kept)
        return Embedded(*self._run(self._slide, {**kept, "slots": slots}))

    def encode(self, silhouettes: Silhouettes, lengths: Ints | None = None) -> Embedded:
        """Return the embeddings of sequences [n, s, h, w]."""
        return encode_in_parts(self, silhouettes, lengths)

    def close(self) -> None:
        """Let go of the graphs."""
        self._opened.clear()

    def _run(self, name: str, feed: Mapping[str, Any]) -> Sequence[Any]:
        if not self._opened:
            raise ModelError("this encoder is closed: load it again")
        if name not in self._opened:
            raise ModelError(
                "expected an encoder whose info says `slides`; the folder of this one has not all "
                f"of {', '.join(SLIDING_GRAPHS)}: export the model again"
            )
        return self._opened[name](feed)
