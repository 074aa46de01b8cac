"""Verbs `reproduce` and `figure`: the paper's tables and pictures, from data to print."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cstl_edge.cli.console import (
    command_line,
    log_without_bar,
    needs_torch,
    notify,
    print_result,
    progress,
    table_text,
)
from cstl_edge.cli.options import Backend, Json, Markdown, Override, Overwrite, Workers
from cstl_edge.cli.outputs import claim, record_lines
from cstl_edge.errors import ConfigError

if TYPE_CHECKING:
    from cstl_edge.reproduce.report import TableReport
    from cstl_edge.reproduce.rows import TableRow
    from cstl_edge.training.presets import TablePlan

figure = typer.Typer(
    help="Draw the pictures of the paper's Figures 6 and 7 from a model.", no_args_is_help=True
)

Folder = Annotated[Path, typer.Option(help="Folder where rows and embeddings are kept.")]
Split = Annotated[str, typer.Option(help="Whom to test: field or first-5153 (OU-MVLP).")]
Png = Annotated[Path, typer.Option("-o", "--output", help="PNG file to write.")]
Data = Annotated[str, typer.Option(help="Prepared dataset, or walkers[:FIRST-LAST].")]
Out = Annotated[Path | None, typer.Option(help="Append the result to this file of JSON lines.")]
WALKERS, ROWS = "walkers", Path("runs/reproduce")


def reproduce(
    table: Annotated[str, typer.Argument(help="Which table: table1 to table5, or parts.")],
    data: Annotated[
        list[str] | None,
        typer.Option(help="Prepared dataset, one for each size (default: walkers, made here)."),
    ] = None,
    row: Annotated[str | None, typer.Option(help="Train and evaluate this row alone.")] = None,
    folder: Folder = ROWS,
    budget: Annotated[
        str,
        typer.Option(
            help="How long to train: paper, small (for a CPU), or a preset's name or file."
        ),
    ] = "paper",
    override: Override = None,
    split: Split = "field",
    workers: Workers = 2,
    print_only: Annotated[
        bool, typer.Option("--print", help="Train nothing and print the rows that are there.")
    ] = False,
    out: Out = None,
    overwrite: Overwrite = False,
    markdown: Markdown = False,
    json: Json = False,
) -> None:
    """Train and evaluate the rows of a table of the paper; a stopped run goes on where it was."""
    from cstl_edge.training.presets import load_table

    with needs_torch("reproduce"):
        from cstl_edge.reproduce.report import summary
        from cstl_edge.reproduce.rows import plan_row
    claim(data or [], out, "--out", overwrite, is_ours=is_reproduction)
    plan = load_table(table)
    names = {planned.name for planned in plan.rows} if row is None else {plan.row(row).name}
    folders, changes = data or [WALKERS], override or []
    rows = [
        plan_row(plan, planned, folders, folder, budget=budget, split=split, overrides=changes)
        for planned in plan.rows
    ]
    command = command_line()
    to_train = [] if print_only else [row for row in rows if row.plan.name in names]
    finished = _train(to_train, workers, command)
    report = summary(plan, rows)
    record = {"table": table, "command": command, "budget": budget, **report}
    _print(plan, report, record, markdown, json)
    if out is not None:
        with record_lines(out, is_reproduction, overwrite) as lines:
            lines.write(record)
    if not finished:
        raise typer.Exit(130)


@figure.command()
def tsne(
    models: Annotated[
        list[Path],
        typer.Argument(help="Exported folders or .safetensors checkpoints, a panel for each."),
    ],
    output: Png = Path("fig6.png"),
    data: Data = WALKERS,
    people: Annotated[int, typer.Option(min=2, help="Number of test people, the first ones.")] = 10,
    perplexity: Annotated[
        float, typer.Option(min=1, help="About how many neighbours count for each point.")
    ] = 30.0,
    seed: Annotated[int, typer.Option(help="Seed of t-SNE.")] = 0,
    title: Annotated[
        list[str] | None,
        typer.Option(help="Title of a panel; repeat it in the order of the models."),
    ] = None,
    split: Split = "field",
    backend: Backend = "auto",
    folder: Folder = ROWS,
    overwrite: Overwrite = False,
    json: Json = False,
) -> None:
    """Lay the embeddings of ten people in a plane by t-SNE, model beside model (Fig. 6)."""
    from cstl_edge.reproduce.figures import draw_panels, embedded_people, project, save_png
    from cstl_edge.runtime import load

    titles = title or [path.stem if path.suffix else path.name for path in models]
    if len(titles) != len(models):
        raise ConfigError(f"expected a --title for each of {len(models)} models, got {len(titles)}")
    claim([*models, Path(data)], output, "-o", overwrite, (".png",))
    panels = []
    for name, path in zip(titles, models, strict=True):
        encoder = load(path, backend)
        with progress(f"{name}: embedding sequences") as bar:
            walks = embedded_people(
                encoder,
                data,
                folder / "figure",
                people=people,
                split=split,
                progress=bar.count,
            )
        encoder.close()
        with progress(f"{name}: t-SNE of {len(walks.people)} sequences"):
            panels.append((name, walks, project(walks, perplexity=perplexity, seed=seed)))
    save_png(draw_panels(panels), output)
    print_result({"file": str(output), "panels": titles}, str(output), json)


@figure.command()
def salient(
    sequence: Annotated[
        str, typer.Argument(help="Folder of silhouettes, or PERSON/SEQUENCE/VIEW of --data.")
    ],
    model: Annotated[
        Path | None,
        typer.Option(
            help="Exported folder or .safetensors checkpoint (default: the shipped model)."
        ),
    ] = None,
    output: Png = Path("fig7.png"),
    data: Data = WALKERS,
    frames: Annotated[
        int, typer.Option(min=1, help="Number of frames of the sequence, the first ones.")
    ] = 30,
    columns: Annotated[int, typer.Option(min=1, help="Frames in a row of the picture.")] = 10,
    backend: Backend = "auto",
    overwrite: Overwrite = False,
    json: Json = False,
) -> None:
    """Draw the frames of a walk with boxes where each part was chosen (Fig. 7)."""
    from cstl_edge.live.annotate import save_picture
    from cstl_edge.reproduce.figures import find_sequence, salient_picture
    from cstl_edge.runtime import load

    claim([model, Path(sequence), Path(data)], output, "-o", overwrite, (".png",))
    encoder = load(model, backend)
    with progress("reading the data") as bar:
        silhouettes = find_sequence(sequence, data, encoder.info.size, bar.count)[:frames]
    save_picture(output, salient_picture(encoder, silhouettes, columns=columns))
    print_result({"file": str(output), "frames": len(silhouettes)}, str(output), json)


def is_reproduction(record: Mapping[str, Any]) -> bool:
    """Tell whether a JSON line is a record of `reproduce`."""
    return "table" in record and "budget" in record


def _train(rows: Sequence[TableRow], workers: int, command: str) -> bool:
    """Train and evaluate the unfinished ones of some rows; False when stopped by a signal."""
    from cstl_edge.reproduce.rows import run_row

    log_without_bar()
    for row in rows:
        done = row.record() is not None
        notify(f"{row.plan.name}: {'done' if done else 'training'}, {row.folder}")
        if not run_row(row, workers=workers, command=command):
            return False
    return True


def _print(
    plan: TablePlan, report: TableReport, record: dict[str, Any], markdown: bool, as_json: bool
) -> None:
    from cstl_edge.reproduce.report import notes, tables_to_print

    texts = [table_text(table, markdown=markdown) for table in tables_to_print(plan, report)]
    print_result(record, "\n\n".join([*texts, "\n".join(notes(plan, report))]), as_json)
