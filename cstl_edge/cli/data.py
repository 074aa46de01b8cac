"""Verbs `data prepare`, `data verify` and `data stats`."""

from __future__ import annotations

import re
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from cstl_edge.cli.console import boxed_table, notify, print_result, progress, text_console
from cstl_edge.cli.options import Json, names_of
from cstl_edge.data.importing.layouts.open import LAYOUTS
from cstl_edge.errors import ConfigError, DataError, one_line

if TYPE_CHECKING:
    from cstl_edge.data.dataset import DatasetIndex
    from cstl_edge.data.importing.report import Drop, ImportReport
    from cstl_edge.data.importing.settings import PrepareSettings


data = typer.Typer(
    help="Make a dataset of silhouettes ready to train and test on.", no_args_is_help=True
)

Dataset = typer.Option(
    metavar=f"<{'|'.join(LAYOUTS)}>",
    help="Layout of the source on disk.",
    autocompletion=names_of(LAYOUTS),
)
Size = Annotated[str, typer.Option(help="Size of a silhouette: 64x44 or 128x88.")]
MinFrames = Annotated[int, typer.Option(min=1, help="Frames below which a sequence is dropped.")]
MaxFrames = Annotated[int, typer.Option(min=1, help="Frames at which a longer sequence is cut.")]
Aligned = Annotated[
    bool | None,
    typer.Option(
        "--aligned/--raw",
        help="Whether the images are aligned silhouettes or raw masks (default: by their size).",
    ),
]
Gate = Annotated[
    Literal["auto", "live", "field"],
    typer.Option(help="Which masks are used: live, as a camera would; field, all, as in published "
                      "figures; auto, live for plain folders alone."),
]  # fmt: skip
Partial = Annotated[
    bool, typer.Option("--partial", help="Accept a dataset in which whole views are missing.")
]
Workers = Annotated[int | None, typer.Option(min=1, help="Processes (default: one per core).")]


@data.command()
def prepare(
    source: Annotated[
        Path, typer.Argument(help="Folder of the dataset as it was given out, unpacked.")
    ],
    dataset: Annotated[str, Dataset],
    out: Annotated[Path, typer.Option(help="Folder for shards and dataset.json.")],
    size: Size = "64x44",
    workers: Workers = None,
    max_bad: Annotated[
        str, typer.Option(help="Share of the files that may be bad, such as 1% or 0.01.")
    ] = "1%",
    min_frames: MinFrames = 1,
    max_frames: MaxFrames = 720,
    aligned: Aligned = None,
    gate: Gate = "auto",
    partial: Partial = False,
    json: Json = False,
) -> None:
    """Turn a dataset into memory-mapped shards; a stopped run goes on where it was."""
    from cstl_edge.data.importing import prepare as preparation
    from cstl_edge.data.importing.report import TooManyBad

    settings = _settings(dataset, size, (min_frames, max_frames), aligned, gate, partial)
    limit = _share(max_bad)
    try:
        with progress("preparing recordings") as bar:
            index = preparation.prepare(
                source,
                out,
                settings,
                workers=_processes(workers),
                max_bad=limit,
                progress=bar.count,
            )
    except TooManyBad as err:
        _print_report(err.report)
        raise
    _print_report(index.report)
    print_result(index.model_dump(mode="json"), f"wrote {out}: {_sentence(index)}", json)


@data.command()
def verify(
    path: Annotated[Path, typer.Argument(help="Prepared dataset, or with --dataset a source.")],
    dataset: Annotated[str | None, Dataset] = None,
    size: Size = "64x44",
    workers: Workers = None,
    min_frames: MinFrames = 1,
    max_frames: MaxFrames = 720,
    aligned: Aligned = None,
    gate: Gate = "auto",
    partial: Partial = False,
    json: Json = False,
) -> None:
    """Hash a prepared dataset again, or list the bad files of a source; nothing is written."""
    from cstl_edge.data.dataset import is_dataset, verify_dataset
    from cstl_edge.data.importing.prepare import check_source

    if dataset is None:
        if not is_dataset(path):
            raise ConfigError(
                f"found no dataset.json in {one_line(path)}; to look through a source say --dataset"
            )
        with progress("hashing shards") as bar:
            index = verify_dataset(path, bar.count)
        print_result(index.model_dump(mode="json"), f"{path} is whole: {_sentence(index)}", json)
        return
    settings = _settings(dataset, size, (min_frames, max_frames), aligned, gate, partial)
    with progress("looking through recordings") as bar:
        report, drops = check_source(
            path, settings, workers=_processes(workers), progress=bar.count
        )
    _print_report(report)
    error = _refusal(report)
    _show_drops(report, drops, error, json)
    if error is not None:
        notify(f"error: {error}")
        raise typer.Exit(error.exit_code)


@data.command()
def stats(
    folder: Annotated[Path, typer.Argument(help="Prepared dataset, or a folder of shards.")],
    json: Json = False,
) -> None:
    """Count people, sequences, views and types, and tell how long the sequences are."""
    from cstl_edge.data.dataset import statistics

    counts = statistics(folder)
    h, w = counts["size"]
    lines = [
        f"{counts['kind'] or 'shards'}, {h}x{w}: {counts['people']:,} people, "
        f"{counts['sequences']:,} sequences, {counts['frames']:,} frames",
        _counts("views", counts["views_deg"]),
        _counts("types", counts["types"]),
        _counts("frames of a sequence, by per cent of sequences", counts["lengths_frames"]),
    ]
    print_result(counts, lines, json)


def _settings(
    dataset: str,
    size: str,
    frames: tuple[int, int],
    aligned: bool | None,
    gate: Gate,
    partial: bool,
) -> PrepareSettings:
    from cstl_edge.data.importing.settings import PrepareSettings
    from cstl_edge.silhouette import SIZES

    sizes = {f"{h}x{w}": (h, w) for h, w in SIZES}
    if size not in sizes:
        raise ConfigError(f"expected --size {' or '.join(sizes)}, got {one_line(size, 40)}")
    return PrepareSettings(
        dataset=LAYOUTS.canonical(dataset),
        size=sizes[size],
        min_frames=frames[0],
        max_frames=frames[1],
        form="auto" if aligned is None else "aligned" if aligned else "raw",
        gate=gate,
        partial=partial,
    )


def _processes(workers: int | None) -> int:
    """Return the number of processes: one per core that this process may use, by default."""
    from cstl_edge.measure.environment import process_cores  # late: every help text would wait

    return workers or process_cores()


def _share(text: str) -> float:
    """Return the share that `1%` or `0.01` means."""
    match = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)(%?)", text.strip())
    share = float(match[1]) / (100 if match[2] else 1) if match else -1.0
    if not 0 <= share <= 1:
        raise ConfigError(
            f"expected --max-bad such as 1% or 0.01, at most 100%, got {one_line(text, 40)}"
        )
    return share


def _print_report(report: ImportReport) -> None:
    """Print a table of dropped files by reason to stderr."""
    from cstl_edge.data.importing.report import BAD

    if report.reasons:
        title = f"Dropped; {report.bad:,} of {report.files:,} files are bad"
        firsts = {reason: one_line(files[0], 60) for reason, files in report.examples.items()}
        rows = [
            (reason, f"{count:,}", "yes" if reason in BAD else "no", firsts[reason])
            for reason, count in report.reasons.items()
        ]
        left = ("reason", "bad", "first")
        table = boxed_table(title, ("reason", "count", "bad", "first"), rows, left=left)
        text_console(stderr=True).print(table)
    for note in report.notes:
        notify(note)


def _refusal(report: ImportReport) -> DataError | None:
    """Return the error of a source with bad files, which is a part of the result."""
    try:
        report.check(0)
    except DataError as err:
        return err
    return None


def _show_drops(
    report: ImportReport, drops: list[Drop], error: DataError | None, as_json: bool
) -> None:
    from cstl_edge.data.importing.report import BAD

    bad = [drop for drop in drops if drop.reason in BAD]
    lines = [f"{d.path}: {d.reason}" + (f" ({d.detail})" if d.detail else "") for d in bad]
    result = report.model_dump(mode="json") | {"dropped": [asdict(drop) for drop in drops]}
    if error is not None:
        result["error"] = error.record()
    print_result(result, lines or f"none of {report.files:,} files is bad", as_json)


def _sentence(index: DatasetIndex) -> str:
    return (
        f"{len(index.people):,} people, {index.sequences:,} sequences, {index.frames:,} "
        f"silhouettes of {index.size[0]}x{index.size[1]} from {index.kind}"
    )


def _counts(title: str, counts: dict[str, int], most: int = 30) -> str:
    shown = [f"{one_line(name, 60)}: {count:,}" for name, count in list(counts.items())[:most]]
    more = f" and {len(counts) - most} more" if len(counts) > most else ""
    return f"{title}: {', '.join(shown)}{more}"
