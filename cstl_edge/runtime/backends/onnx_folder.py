"""Choose, check and open the graphs of an exported folder for a CPU, in any of its runtimes."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from pathlib import Path

from cstl_edge.errors import ConfigError, one_line
from cstl_edge.measure.environment import processor
from cstl_edge.runtime.base import model_folder
from cstl_edge.runtime.graph import OpenGraph
from cstl_edge.runtime.graph_encoder import GraphEncoder
from cstl_edge.runtime.manifest import INCREMENTAL_FILES, Manifest, read_manifest
from cstl_edge.runtime.matching_file import read_distance
from cstl_edge.runtime.model_check import checked_graphs
from cstl_edge.runtime.streaming.steps import StepGraph

log = logging.getLogger(__name__)

BFLOAT16 = "bfloat16"
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


def open_folder(
    backend: str,
    path: Path | None,
    precision: str | None,
    open_graph: Callable[[str, str, bytes], OpenGraph],
    int8_incremental: bool = False,
    open_step: Callable[[str, bytes], StepGraph] | None = None,
) -> GraphEncoder:
    """Check what a CPU runs of an exported folder and open it (ModelError).

    No runtime of a CPU has kernels of float16 for all of it: float16 graphs are computed in
    float32, with the weights and most tensors rounded.

    Args:
        backend: Name of the runtime.
        path: Exported model; None for the shipped one.
        precision: One of `manifest.PRECISIONS`; by default that of `cpu_precision`.
        open_graph: Function that opens a graph by its name (`frames`, `head`; `taps`, `mix` and
            `slide` where windows slide), the name of its file and the bytes.
        int8_incremental: True for the INT8 incremental head, where an int8 model has one.
        open_step: Function that opens the graph `step` by the name of its file and the bytes, in a
            runtime that gains by it.
    """
    folder = model_folder(path)
    manifest = read_manifest(folder)
    chosen = precision or cpu_precision(manifest, folder)
    if chosen == BFLOAT16 and backend != "openvino":
        raise ConfigError(
            f"precision {BFLOAT16} is OpenVINO's alone; got backend {backend!r}",
            remedy="--backend openvino, or another precision",
        )
    frames, head = manifest.graphs(chosen, backend if chosen == BFLOAT16 else "onnxruntime")
    incremental = manifest.incremental_files(chosen, int8_incremental)
    files = {"frames": frames, "head": head}
    files |= dict(zip(INCREMENTAL_GRAPHS, incremental, strict=False))
    data = checked_graphs(folder, manifest, files.values())
    graphs = {graph: open_graph(graph, name, data[name]) for graph, name in files.items()}
    running = (graphs["head"].provider, chosen, graphs["head"].threads)
    distance = read_distance(folder, manifest)
    slides = "slide" in graphs
    step = manifest.step_file(chosen) if slides else None
    steps = step is not None and open_step is not None
    info = manifest.encoder_info(backend, *running, distance=distance, slides=slides, steps=steps)
    checked_step = None
    if step is not None and open_step is not None:
        checked_step = partial(_open_step, folder, manifest, step, open_step)
    return GraphEncoder(info, graphs, NO_INCREMENTAL_HEAD, checked_step)


def _open_step(
    folder: Path, manifest: Manifest, file: str, open_step: Callable[[str, bytes], StepGraph]
) -> StepGraph:
    """Check the graph `step` of a folder and open it (ModelError).

    Args:
        folder: Exported model.
        manifest: Its manifest.
        file: Name of the graph's file.
        open_step: Function that opens it.
    """
    return open_step(file, checked_graphs(folder, manifest, [file])[file])
