"""Choose and check the graphs of an exported folder for a CPU, whatever runtime opens them."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from cstl_edge.errors import one_line
from cstl_edge.measure.environment import processor
from cstl_edge.runtime.graph import OpenGraph
from cstl_edge.runtime.graph_encoder import GraphEncoder
from cstl_edge.runtime.manifest import INCREMENTAL_FILES, Manifest, read_manifest
from cstl_edge.runtime.model_check import checked_graphs

log = logging.getLogger(__name__)

INCREMENTAL_GRAPHS = ("taps", "mix", "slide")  # in the order of `INCREMENTAL_FILES`
NO_INCREMENTAL_HEAD = (
    "expected an encoder whose info says `slides`; the folder of this one has not all of "
    f"{', '.join(INCREMENTAL_FILES)}: export the model again"
)

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


@dataclass(frozen=True)
class CheckedFolder:
    """The graphs of an exported folder that a CPU needs for one precision, all checked."""

    manifest: Manifest
    precision: str  # one of `manifest.PRECISIONS`
    files: Mapping[str, str]
    """File names by graph: `frames`, `head`; `taps`, `mix` and `slide` where windows slide."""
    data: Mapping[str, bytes]  # by file name

    def encoder(self, backend: str, graphs: Mapping[str, OpenGraph]) -> GraphEncoder:
        """Return the encoder of these graphs, open in a backend, by graph."""
        head = graphs["head"]
        info = self.manifest.encoder_info(
            backend, head.provider, self.precision, head.threads, "slide" in graphs
        )
        return GraphEncoder(info, graphs, NO_INCREMENTAL_HEAD)


def read_folder(
    folder: Path, precision: str | None, int8_incremental: bool = False
) -> CheckedFolder:
    """Read and check what a CPU runs of an exported folder (ModelError).

    No runtime of a CPU has kernels of float16 for all of it: float16 graphs are computed in
    float32, with the weights and most tensors rounded.

    Args:
        folder: an exported model
        precision: one of `manifest.PRECISIONS`; by default that of `cpu_precision`
        int8_incremental: use the INT8 incremental head, where the precision is int8 and the
            folder has one
    """
    manifest = read_manifest(folder)
    chosen = precision or cpu_precision(manifest, folder)
    frames, head = manifest.graphs(chosen, "onnxruntime")
    incremental = manifest.incremental_files(chosen, int8_incremental)
    files = {"frames": frames, "head": head}
    files |= dict(zip(INCREMENTAL_GRAPHS, incremental, strict=False))
    data = checked_graphs(folder, manifest, files.values())
    return CheckedFolder(manifest, chosen, files, data)
