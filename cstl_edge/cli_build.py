"""The verb `build`: engines of an exported folder for this machine's GPU, or ahead of time."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from cstl_edge.export.engine import Progress
    from cstl_edge.runtime.engine_record import Built


def build(
    folder: Annotated[Path, typer.Argument(help="an exported model, from cstl-edge export")],
    precision: Annotated[
        str | None,
        typer.Option(help="fp16, int8 or float32 (default: fp16 where the folder has it)"),
    ] = None,
    target: Annotated[
        str,
        typer.Option("--for", help="tensorrt: this GPU; or ahead of time an RTX card: rtx-sm89"),
    ] = "tensorrt",
    plugin: Annotated[
        str, typer.Option(help="part gather by our CUDA kernel: auto, on or off")
    ] = "auto",
    graphs: Annotated[str, typer.Option(help="which graphs, by commas")] = "frames,head",
    walkers: Annotated[int, typer.Option(help="most walkers in one call, 1..32")] = 32,
    window: Annotated[int, typer.Option(help="frames of a live window")] = 30,
    frames: Annotated[int, typer.Option(help="frames of the longest sequence")] = 240,
    workspace: Annotated[
        int | None,
        typer.Option(
            help="MiB that kernels may use (default: a quarter of the free, at most 1024)"
        ),
    ] = None,
    level: Annotated[int, typer.Option(help="0..5: how long to look for faster kernels")] = 3,
    compatibility: Annotated[
        str,
        typer.Option(help="none: this model of GPU; same: its compute capability; ampere: 8.0 on"),
    ] = "none",
    json: Annotated[bool, typer.Option("--json", help="print results as JSON")] = False,
) -> None:
    """Build TensorRT engines of an exported model, compare them with ONNX Runtime, keep them."""
    from cstl_edge.cli_show import show
    from cstl_edge.export.engine import Options, build_engines
    from cstl_edge.export.engine_profiles import Sizes
    from cstl_edge.runtime.provenance import ENGINES

    options = Options(
        precision=precision,
        graphs=tuple(graphs.split(",")),
        target=target,
        plugin=plugin,
        sizes=Sizes(walkers, window, frames),
        workspace_mib=workspace,
        level=level,
        compatibility=compatibility,
    )
    with _bars() as progress:
        built = build_engines(folder, options, progress)
    place = folder / ENGINES / target
    told = {"folder": str(place), "engines": {g: r.model_dump() for g, r in built.items()}}
    show(told, "\n".join([f"wrote {place}", *map(_sentence, built.values())]), json)


def _sentence(built: Built) -> str:
    """Say of one engine what it is."""
    gpu = f"sm_{built.sm}" + (f" ({built.gpu})" if built.gpu else "")
    words = f"  {built.graph}: {built.precision} for {gpu}, {built.library} {built.version}, "
    words += f"part gather: {built.audit['part_gather']}, {built.build_s:.0f} s"
    if built.parity is not None:
        words += f", least cosine {built.parity['min_cosine']:.6f} beside ONNX Runtime"
    return words


@contextmanager
def _bars() -> Iterator[Progress | None]:
    """Show on a terminal a bar of the builder's latest phase, graph by graph."""
    from rich.console import Console
    from rich.progress import Progress as Bars

    console = Console(stderr=True)
    if not console.is_terminal:
        yield None
        return
    with Bars(console=console, transient=True) as bars:
        tasks: dict[str, Any] = {}

        def tell(graph: str, phase: str, share: float) -> None:
            if graph not in tasks:
                tasks[graph] = bars.add_task(graph, total=1.0)
            bars.update(tasks[graph], description=f"{graph}: {phase[:40]}", completed=share)

        yield tell
