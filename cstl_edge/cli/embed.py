"""Verb `embed`: embeddings of whole archives, on all cores or a Ray cluster, with resume."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from cstl_edge.cli.console import notify, print_result, progress
from cstl_edge.cli.options import Backend, Json, Model, Segmenter
from cstl_edge.errors import ConfigError, DataError, one_line
from cstl_edge.live.segmentation.open import DEFAULT_SEGMENTER
from cstl_edge.output import sweep_folder

if TYPE_CHECKING:
    from cstl_edge.live.archive.embed import ArchiveOptions, ItemResult
    from cstl_edge.live.archive.items import Item

SHOWN_FAILURES = 5

Archive = Annotated[
    list[Path],
    typer.Argument(
        help="Recordings, silhouettes of one walk (a folder of pictures, or .npy), or folders of "
        "these."
    ),
]
Output = Annotated[Path, typer.Option("-o", "--output", help="Folder of the results.")]
Precision = Annotated[
    Literal["float32", "fp16", "int8", "bfloat16"] | None,
    typer.Option(help="Precision of an exported folder (default: the one that it names)."),
]
Processes = Annotated[
    int | None,
    typer.Option(min=1, help="Processes, of one core each (default: all cores)."),
]
Ray = Annotated[
    str | None,
    typer.Option(
        metavar="ADDRESS",
        help="Ray cluster that embeds, such as ray://HOST:10001; auto: this machine's.",
    ),
]


def embed(
    archive: Archive,
    output: Output,
    model: Model = None,
    backend: Backend = "auto",
    precision: Precision = None,
    segmenter: Segmenter = DEFAULT_SEGMENTER,
    workers: Processes = None,
    ray: Ray = None,
    json: Json = False,
) -> None:
    """Embed an archive: an .npz and a record for each recording or walk; what is done is kept."""
    from cstl_edge.live.archive.embed import ArchiveOptions, is_done, open_encoder
    from cstl_edge.live.archive.items import find_items

    if ray is not None and workers is not None:
        raise ConfigError("expected --workers or --ray: a cluster knows its own cores")
    if output.exists() and not output.is_dir():
        raise ConfigError(f"-o: expected a folder; {one_line(output)} is a file")
    path = None if model is None else str(model)
    options = ArchiveOptions(str(output), path, backend, precision, segmenter)
    items = find_items(archive)
    with closing(open_encoder(options)) as encoder:  # refused here, not in every process
        info = encoder.info
        weights = info.weights_sha256
    sweep_folder(output)  # parts of an earlier run that was killed
    todo = [item for item in items if not is_done(item, options, weights)]
    results: list[ItemResult] = []
    with progress("embedding") as bar:
        for result in _embedded(todo, options, workers, ray):
            results.append(result)
            bar.bar("archive", one_line(Path(result.source).name, 40), len(results), len(todo))
    failed = [result for result in results if result.error is not None]
    summary: dict[str, Any] = {"output": str(output), "items": len(items)}
    summary["computed_by"] = f"{info.backend} {info.precision}"
    summary |= {"embedded": len(results) - len(failed), "kept": len(items) - len(todo)}
    summary |= {"windows": sum(result.windows for result in results)}
    summary["failed"] = [{"source": result.source, "error": result.error} for result in failed]
    print_result(summary, _lines(summary), json)
    if failed:
        notify(f"{len(failed)} of {len(items)} could not be embedded; the same command tries again")
        raise typer.Exit(DataError.exit_code)


def _embedded(
    items: list[Item], options: ArchiveOptions, workers: int | None, ray: str | None
) -> Iterator[ItemResult]:
    """Yield results by processes, or by a cluster."""
    if not items:
        return iter(())
    if ray is not None:
        from cstl_edge.live.archive.ray_cluster import embed_by_ray

        return embed_by_ray(items, options, ray)
    from cstl_edge.live.archive.processes import embed_by_processes

    return embed_by_processes(items, options, workers or os.cpu_count() or 1)


def _lines(summary: dict[str, Any]) -> list[str]:
    """Return what was done, in words."""
    lines = [
        f"{summary['output']}: {summary['embedded']} embedded by {summary['computed_by']} "
        f"({summary['windows']} windows), {summary['kept']} were there already"
    ]
    failed = summary["failed"]
    lines += [f"  {entry['source']}: {entry['error']}" for entry in failed[:SHOWN_FAILURES]]
    if len(failed) > SHOWN_FAILURES:
        lines.append(f"  and {len(failed) - SHOWN_FAILURES} more, with --json")
    return lines
