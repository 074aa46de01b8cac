"""Verbs `build` and `plugin build`: from an exported model to engines for one GPU."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from cstl_edge.cli.console import Progress, print_result, progress
from cstl_edge.cli.options import Graphs, Json, Overwrite
from cstl_edge.cli.outputs import claim
from cstl_edge.errors import ConfigError, one_line

if TYPE_CHECKING:
    from cstl_edge.runtime.tensorrt.record import EngineRecord

Workspace = Annotated[
    int | None,
    typer.Option(
        min=1, help="MiB that kernels may use (default: a quarter of the free, 1024 at most)."
    ),
]
Compatibility = Annotated[
    Literal["none", "same", "ampere"],
    typer.Option(
        help="Where engines may run: none, on this model of GPU; same, on its compute capability; "
        "ampere, on capability 8.0 and newer."
    ),
]
Folder = Annotated[
    Path | None,
    typer.Argument(help="Exported model, written by cstl-edge export (default: the shipped one)."),
]
Output = Annotated[
    Path | None,
    typer.Option(
        "-o",
        "--output",
        help="Copy the model to this folder and build there; the shipped model needs it.",
    ),
]
Precision = Annotated[
    Literal["float32", "fp16", "int8"] | None,
    typer.Option(help="Precision of the engines (default: fp16 where the folder has it)."),
]
Target = Annotated[
    str,
    typer.Option(
        "--for",
        help="For what: tensorrt, this GPU; or, ahead of time, an RTX card such as rtx-sm89.",
    ),
]
Plugin = Annotated[
    Literal["auto", "on", "off"],
    typer.Option(help="Whether our CUDA kernel gathers the parts (auto: where it is built)."),
]
MaskNetwork = Annotated[
    Path | None,
    typer.Option(help="Manifest (.json) of the network that masks people (default: the shipped)."),
]
plugins = typer.Typer(
    help="Build the CUDA kernel and the TensorRT plugin of the part gather.", no_args_is_help=True
)


def build(
    folder: Folder = None,
    output: Output = None,
    precision: Precision = None,
    target: Target = "tensorrt",
    plugin: Plugin = "auto",
    graphs: Graphs = "frames,head,mask",
    mask_network: MaskNetwork = None,
    walkers: Annotated[int, typer.Option(min=1, max=32, help="Most walkers in one call.")] = 32,
    window: Annotated[int, typer.Option(min=1, help="Frames of a live window.")] = 30,
    frames: Annotated[int, typer.Option(min=1, help="Frames of the longest sequence.")] = 240,
    workspace: Workspace = None,
    level: Annotated[
        int, typer.Option(min=0, max=5, help="How long to look for faster kernels.")
    ] = 3,
    compatibility: Compatibility = "none",
    overwrite: Overwrite = False,
    json: Json = False,
) -> None:
    """Build TensorRT engines of an exported model and compare them with ONNX Runtime."""
    from cstl_edge.export.tensorrt.build import BuildOptions, build_engines
    from cstl_edge.export.tensorrt.sources import Sizes
    from cstl_edge.runtime.tensorrt.record import ENGINES

    options = BuildOptions(
        precision=precision,
        graphs=tuple(graphs.split(",")),
        target=target,
        plugin=plugin,
        sizes=Sizes(walkers, window, frames),
        workspace_mib=workspace,
        level=level,
        compatibility=compatibility,
        mask_network=None if mask_network is None else str(mask_network),
    )
    with _place(folder, output, overwrite) as model, progress("building engines") as bars:
        records = build_engines(model, options, partial(_draw, bars))
    place = model / ENGINES / target
    result = {"folder": str(place), "engines": {g: r.model_dump() for g, r in records.items()}}
    print_result(result, [f"wrote {place}", *map(_sentence, records.values())], json)


@contextmanager
def _place(folder: Path | None, output: Path | None, overwrite: bool) -> Iterator[Path]:
    """Give the folder of the model to build in: a copy where one is wanted, gone after a failure.

    Raises ConfigError for the shipped model's own folder, which is replaced with the package.
    """
    from cstl_edge.output import storing
    from cstl_edge.runtime.base import is_shipped, model_folder
    from cstl_edge.runtime.manifest import read_manifest

    model = model_folder(folder)
    if output is None:
        if is_shipped(model):
            raise ConfigError(
                f"{one_line(model)} belongs to the package and is replaced with it",
                remedy="say -o FOLDER: the model is copied there, and the engines are built there",
            )
        yield model
        return
    claim([model], output, "-o", overwrite, is_folder=True)
    read_manifest(model)
    is_new = not output.exists()
    with storing(output):
        shutil.copytree(model, output, dirs_exist_ok=True)
    try:
        yield output
    except Exception:
        if is_new:
            shutil.rmtree(output, ignore_errors=True)
        raise


def _draw(bars: Progress, graph: str, phase: str, share: float) -> None:
    """Draw a bar of the builder's latest phase, graph by graph."""
    bars.bar(graph, f"{graph}: {phase[:40]}", share, 1.0)


def _sentence(engine: EngineRecord) -> str:
    """Return the description of one engine."""
    gpu = f"sm_{engine.sm}" + (f" ({engine.gpu})" if engine.gpu else "")
    words = f"  {engine.graph}: {engine.precision} for {gpu}, {engine.library} {engine.version}, "
    if engine.graph != "mask":
        words += f"part gather: {engine.audit['part_gather']}, "
    times_ms = engine.audit.get("part_gather_ms") or engine.audit.get("precision_ms", {})
    if times_ms:
        words += f"timed: {', '.join(f'{name} {ms:.3f} ms' for name, ms in times_ms.items())}, "
    words += f"{engine.build_s:.0f} s"
    if engine.parity is not None and "iou" in engine.parity:
        words += f", masks agree to {engine.parity['iou']:.4f} with {engine.parity['against']}"
    elif engine.parity is not None:
        words += f", least cosine {engine.parity['min_cosine']:.6f} beside ONNX Runtime"
    return words


@plugins.command("build")
def build_plugin(
    tensorrt_root: Annotated[
        Path | None,
        typer.Option(help="Folder whose include/ has TensorRT's headers (default: the system's)."),
    ] = None,
    kernel_only: Annotated[
        bool,
        typer.Option(
            "--kernel-only", help="Build the kernel without the plugin, which needs no TensorRT."
        ),
    ] = False,
    architectures: Annotated[
        str,
        typer.Option(
            help="Compute capabilities, by commas, such as 87 (default: all that nvcc knows)."
        ),
    ] = "",
    json: Json = False,
) -> None:
    """Compile the part gather with nvcc, test it, and keep it in your cache."""
    from cstl_edge.runtime.tensorrt import plugin

    with progress("building the plugin", steps=3) as bar:
        libraries = plugin.build(
            kernel_only=kernel_only,
            architectures=architectures.split(",") if architectures else (),
            tensorrt_root=tensorrt_root,
            progress=bar,
        )
    lines = []
    for library in libraries:
        headers = f"plugin, TensorRT {library.tensorrt} headers"
        kind = "kernel" if library.tensorrt is None else headers
        lines.append(f"{library.path}: {kind}, CUDA {library.cuda}, {library.architectures}")
        lines.append(f"  {library.checked}")
    print_result([asdict(library) for library in libraries], lines, json)
