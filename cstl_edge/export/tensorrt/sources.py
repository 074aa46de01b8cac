"""Graphs to build: which file of an exported model, its profiles, the memory it computes in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from cstl_edge.errors import ConfigError, ExportError
from cstl_edge.export.tensorrt.mask_graph import mask_graph
from cstl_edge.runtime.manifest import Manifest, Shape
from cstl_edge.runtime.masks.check import checked_mask
from cstl_edge.runtime.model_check import checked_graphs
from cstl_edge.runtime.tensorrt.record import TENSORRT, Profile, SizeRange

GRAPHS = ("frames", "head", "full", "mask")
TYPICAL_WALKERS = 8  # what the live profile is fastest for
MOST_WALKERS = 32
LONG_WALKERS = 4  # sequences beyond the window in one call: 32 of 240 frames need a gigabyte
LONG_WINDOWS = 4  # what the long profile is fastest for, in windows
MOST_CROPS = 16  # of a mask network in one call
TYPICAL_CROPS = 4
MASK_CHANNELS = 32  # numbers per pixel of a crop that a mask network holds at once: an estimate


@dataclass(frozen=True)
class Sizes:
    """Sizes of the calls that an engine has to take."""

    walkers: int = MOST_WALKERS  # in one call; more are cut into several
    window: int = 30  # frames of a live window
    frames: int = 240  # frames of the longest sequence

    def __post_init__(self) -> None:
        """Refuse sizes out of range (ConfigError)."""
        if not 1 <= self.walkers <= MOST_WALKERS:
            raise ConfigError(f"expected 1..{MOST_WALKERS} walkers; got {self.walkers}")
        if not 1 <= self.window <= self.frames:
            raise ConfigError(
                f"expected a window of 1..{self.frames} frames, the longest sequence; "
                f"got {self.window}"
            )


@dataclass(frozen=True)
class Source:
    """A graph to build."""

    graph: str  # one of `GRAPHS`
    file: str  # its name in the exported folder, or that of the mask network
    precision: str
    onnx: bytes
    profiles: list[Profile]
    activation_bytes: int  # about what the engine computes in at its largest profile
    model: str
    weights_sha256: str  # of the trained weights; of a mask network its file
    onnx_sha256: str
    rival: Source | None = None
    """The same graph in another precision, whose engine is kept where it is no slower."""


def model_sources(
    folder: Path, manifest: Manifest, graphs: Sequence[str], precision: str, sizes: Sizes
) -> list[Source]:
    """Return graphs of a model to build, all checked (ModelError).

    Args:
        folder: Exported model.
        manifest: Its manifest.
        graphs: Some of `GRAPHS`; `mask` is left out.
        precision: Precision of the graphs.
        sizes: Sizes of the calls.
    """
    files = graph_files(manifest, precision, [graph for graph in graphs if graph != "mask"])
    checked = checked_graphs(folder, manifest, files.values()) if files else {}
    sources = []
    for graph, file in files.items():
        kinds = profiles(graph, manifest.shape, sizes)
        bytes_ = activation_bytes(graph, precision, manifest.shape, kinds)
        of = (manifest.model, manifest.weights_sha256, manifest.files[file])
        sources.append(Source(graph, file, precision, checked[file], kinds, bytes_, *of))
    if precision == "int8":
        return [_with_rival(folder, manifest, source, sizes) for source in sources]
    return sources


def _with_rival(folder: Path, manifest: Manifest, source: Source, sizes: Sizes) -> Source:
    """Return int8 `frames` with fp16 as the rival: on a GPU int8 is not always faster.

    Args:
        folder: Exported model.
        manifest: Its manifest; ExportError where it has no fp16.
        source: Graph of the int8 model.
        sizes: Sizes of the calls.
    """
    if source.graph != "frames":
        return source
    if "fp16" not in manifest.precisions:
        raise ExportError(
            "int8 is kept only where it is faster than fp16 on this GPU, and the folder has no "
            "fp16 to compare it with",
            remedy="export with --precision fp16,int8; or build without --precision",
        )
    (rival,) = model_sources(folder, manifest, ("frames",), "fp16", sizes)
    return replace(source, rival=rival)


def mask_source(network: str | None, precision: str | None) -> Source:
    """Return a mask network as a graph to build: float16 unless float32 is asked for.

    Args:
        network: Manifest of the network; None for the shipped one.
        precision: Precision of the model's engines, if one was asked for.
    """
    mask, data = checked_mask(None if network is None else Path(network))
    precision = "float32" if precision == "float32" else "fp16"
    onnx = mask_graph(mask, data, precision)
    of = (mask.name, mask.sha256, mask.sha256)
    side, number = mask.input.side, 4 if precision == "float32" else 2
    bytes_ = MOST_CROPS * side * side * MASK_CHANNELS * number
    return Source("mask", mask.file, precision, onnx, mask_profiles(side), bytes_, *of)


def graph_files(manifest: Manifest, precision: str, graphs: Sequence[str]) -> dict[str, str]:
    """Return the file of each graph in a precision, as the manifest names it.

    Args:
        manifest: Manifest of the exported folder.
        precision: Precision, `float32`, `fp16` or `int8`.
        graphs: Some of `GRAPHS`.

    Raises:
        ModelError: the folder does not have this precision.
        ExportError: it does not have one of the graphs in it.
    """
    frames, head = manifest.graphs(precision, TENSORRT)
    fulls = (x.full for name, x in manifest.precisions.items() if name == precision)
    files = {"frames": frames, "head": head, "full": next(fulls, "full.onnx")}
    if precision == "int8" and "full" in graphs:
        raise ExportError("int8 is of frames and head, there is no full graph in it: leave it out")
    missing = [graph for graph in graphs if files[graph] not in manifest.files]
    if missing:
        raise ExportError(
            f"expected the graph {missing[0]} in {precision}; the folder has "
            f"{', '.join(sorted(manifest.files))}. Export it, or leave it out: --graphs"
        )
    return {graph: str(files[graph]) for graph in GRAPHS if graph in graphs}


def profiles(graph: str, shape: Shape, sizes: Sizes) -> list[Profile]:
    """Return the profiles of a graph.

    Args:
        graph: Name of the graph, `frames`, `head` or `full`.
        shape: Shape of the network.
        sizes: Sizes of the calls.
    """
    one, many = (1, 1, 1), (1, min(TYPICAL_WALKERS, sizes.walkers), sizes.walkers)
    few = (1, 1, min(LONG_WALKERS, sizes.walkers))
    live = (1, sizes.window, sizes.window)
    long = (1, min(LONG_WINDOWS * sizes.window, sizes.frames), sizes.frames)
    pixels, feature = _fixed(*shape.size), _fixed(shape.parts, shape.channels)
    if graph == "frames":
        return [{"silhouettes": _range(rows, *pixels)} for rows in _distinct(one, many)]
    name, rest = ("features", feature) if graph == "head" else ("silhouettes", pixels)
    kinds = [(many, live)] + ([(few, long)] if sizes.frames > sizes.window else [])
    return [{name: _range(rows, frames, *rest), "lengths": _range(rows)} for rows, frames in kinds]


def mask_profiles(side: int) -> list[Profile]:
    """Return the profiles of a mask network with crops of this side [pixels]."""
    crop = _fixed(side, side, 3)
    rows = (1, 1, 1), (1, TYPICAL_CROPS, MOST_CROPS)
    return [{"crops": _range(count, *crop)} for count in rows]


def activation_bytes(graph: str, precision: str, shape: Shape, kinds: list[Profile]) -> int:
    """Estimate the memory [bytes] that an engine computes in, at its largest profile.

    A head holds about twelve tensors of its features at once, a trunk four of its first layer's
    outputs: after what TensorRT-RTX reports of the paper's widths, never measured on a GPU.

    Args:
        graph: Name of the graph, `frames`, `head` or `full`.
        precision: Precision, `float32`, `fp16` or `int8`.
        shape: Shape of the network.
        kinds: Profiles of the engine.
    """
    number = 4 if precision == "float32" else 2
    h, w = shape.size
    most = 0
    for profile in kinds:
        rows = profile["features" if graph == "head" else "silhouettes"].max
        frames = rows[0] * (1 if graph == "frames" else rows[1])
        trunk = 0 if graph == "head" else 4 * frames * h * w * shape.widths[0]
        head = 0 if graph == "frames" else 12 * frames * shape.parts * shape.channels
        most = max(most, (trunk + head) * number)
    return most


def _distinct(*wanted: Any) -> list[Any]:
    """Drop duplicates: an engine for one walker has one profile."""
    return list(dict.fromkeys(wanted))


def _fixed(*sizes: int) -> list[tuple[int, int, int]]:
    return [(size, size, size) for size in sizes]


def _range(*axes: tuple[int, int, int]) -> SizeRange:
    """Return the range of an input from (min, opt, max) of its axes."""
    low, best, high = zip(*axes, strict=True)
    return SizeRange(min=low, opt=best, max=high)
