"""Verbs `bench` and `bench report`: speed, power and accuracy of this machine with our models."""

from __future__ import annotations

import json as jsons
import os
import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from cstl_edge.bench.scenarios.open import SCENARIOS
from cstl_edge.cli.console import boxed_table, notify, print_result, progress, text_console
from cstl_edge.cli.options import Json, Overwrite, names_of
from cstl_edge.cli.outputs import claim, record_lines
from cstl_edge.output import Outputs, write_file

if TYPE_CHECKING:
    from cstl_edge.bench.context import Context
    from cstl_edge.bench.record import Row
    from cstl_edge.bench.run import BenchOptions

IMPORT_RETRY_S = 0.05  # between two looks whether an import has ended, after Ctrl-C
ROWS_WIDTH = 140  # characters of the printed tables, where the output is no terminal

Exported = Annotated[
    Path | None,
    typer.Option(help="Exported folder (default: the shipped model, in all precisions)."),
]
Weights = Annotated[Path | None, typer.Option(help="Its .safetensors checkpoint, for PyTorch.")]
Network = Annotated[
    Literal["shipped", "paper"],
    typer.Option(help="Which network; paper has the paper's widths, and random weights."),
]
Scenario = Annotated[
    list[str] | None,
    typer.Option(
        help=f"What is measured: {', '.join(SCENARIOS)}; several by commas (default: all).",
        autocompletion=names_of(SCENARIOS),
    ),
]


def make_report(
    files: Annotated[
        list[Path],
        typer.Argument(
            help="Results of cstl-edge bench (.jsonl), of a board (.zip), or of trtexec."
        ),
    ],
    output: Annotated[Path, typer.Option("-o", "--output", help="HTML page to write.")] = Path(
        "bench.html"
    ),
    markdown: Annotated[
        Path | None,
        typer.Option(
            "--markdown", metavar="FILE", help="Write the tables to this Markdown file too."
        ),
    ] = None,
    against: Annotated[
        str | None,
        typer.Option(help="Compare with the results in this file, or of this commit in FILES."),
    ] = None,
    overwrite: Overwrite = False,
    json: Json = False,
) -> None:
    """Make a page of results: tables, pictures, and how machines or commits differ."""
    from cstl_edge.bench.report.build import build_report
    from cstl_edge.bench.report.page import html_page, markdown_page

    outputs = Outputs([*files, against], overwrite=overwrite)
    outputs.claim(output, "-o", suffixes=(".html", ".htm"))
    if markdown is not None:
        outputs.claim(markdown, "--markdown", suffixes=(".md",))
    with progress("making the page"):
        page = build_report(files, against, notify)
        write_file(output, html_page(page))
        if markdown is not None:
            write_file(markdown, markdown_page(page))
    pages = {"page": str(output), "markdown": None if markdown is None else str(markdown)}
    print_result(pages, [name for name in pages.values() if name is not None], json)


bench = typer.Typer(
    help="Measure latency, throughput, accuracy and power, and how near they are to the limits.",
    invoke_without_command=True,
)
bench.command("report")(make_report)


@bench.callback()
def measure(
    context: typer.Context,
    model: Exported = None,
    weights: Weights = None,
    network: Network = "shipped",
    scenario: Scenario = None,
    short: Annotated[
        bool, typer.Option("--short", help="Measure half a minute, for a first look.")
    ] = False,
    full: Annotated[
        bool, typer.Option("--full", help="Measure all batches, lengths and sizes.")
    ] = False,
    threads: Annotated[
        int | None,
        typer.Option(min=1, help="Threads of every backend (default: your cores, 4 at most)."),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="File of JSON lines to append to (default: runs/bench/RUN.jsonl)."),
    ] = None,
    jetson: Annotated[
        bool,
        typer.Option("--jetson", help="On a Jetson, pack all results into one file to be sent."),
    ] = False,
    overwrite: Overwrite = False,
    json: Annotated[bool, typer.Option("--json", help="Print rows as JSON lines.")] = False,
) -> None:
    """Measure every backend and precision of this machine; Ctrl-C keeps what is there."""
    if context.invoked_subcommand is not None:
        return
    from cstl_edge.bench.record import is_row
    from cstl_edge.bench.run import BenchOptions, make_context

    claim([model, weights], out, "--out", overwrite, is_ours=is_row)
    if out is not None and overwrite:
        record_lines(out, is_row, overwrite).close()  # empties what is not ours
    names = [name for word in scenario or [] for name in word.split(",")]
    options = BenchOptions(model, weights, network, names, short, full, threads)
    if jetson:
        _measure_board(options, names, out, json)
    else:
        _run_and_print(make_context(options, notify), names, out, json)


def _measure_board(
    options: BenchOptions, names: Sequence[str], out: Path | None, as_json: bool
) -> None:
    """Measure a Jetson, set its figures beside published ones, and pack all of it."""
    from cstl_edge import doctor
    from cstl_edge.bench.jetson.bundle import advice, detect_board, pack_bundle
    from cstl_edge.bench.jetson.published import beside_published
    from cstl_edge.bench.record import read_rows
    from cstl_edge.bench.run import make_context

    board = detect_board()
    context = make_context(options, notify)
    for line in advice(context.engines or context.folder):
        notify(line)
    file = _run_and_print(context, names, out, as_json)
    for line in beside_published(read_rows(file), board.model):
        notify(line)
    notify(f"to be sent to us: {pack_bundle(file, board, doctor.report().to_dict())}")


def _run_and_print(
    context: Context, scenarios: Sequence[str], out: Path | None, as_json: bool
) -> Path:
    """Run scenarios and print their rows, those that an interrupted run has too; return the file.

    Raises BackendUnavailable when nothing was measured.
    """
    from cstl_edge.bench.record import row_json
    from cstl_edge.bench.run import results_file, run

    file = out or results_file(context)
    rows: list[Row] = []
    try:
        with (
            _interruptible(),
            progress("measuring", steps=len(scenarios or list(SCENARIOS))) as bar,
        ):
            for row in run(context, scenarios, file):
                if not rows or row.scenario != rows[-1].scenario:
                    bar(f"measuring {row.scenario}")
                rows.append(row)
                if as_json:
                    print(jsons.dumps(row_json(row)), flush=True)
    finally:
        if not as_json:
            _show(rows)
        if rows:
            page = f"cstl-edge bench report {file} -o page.html"
            notify(f"{len(rows)} rows in {file}; as a page: {page}")
    return file


def _show(rows: Sequence[Row]) -> None:
    """Print a table per scenario, the backends without figures and why, then the best figures."""
    from cstl_edge.bench.report import console as bench_tables

    console = text_console(width=ROWS_WIDTH)
    for part in bench_tables.scenario_cells(rows):
        title, left = part.scenario, bench_tables.LEFT_COLUMNS
        if part.cells:
            console.print(boxed_table(title, bench_tables.COLUMNS, part.cells, left=left))
        for line in part.skipped:
            console.print(line)
    for line in bench_tables.headline_lines(rows):
        console.print(line)


@contextmanager
def _interruptible() -> Iterator[None]:
    """Raise Ctrl-C as itself wherever it falls, and during an import as soon as that has ended.

    Native code that is being imported prints a KeyboardInterrupt, or makes an ImportError of it.
    Raises KeyboardInterrupt in the place of whatever came after the signal.
    """
    signals: list[int] = []

    def interrupt(number: int, frame: FrameType | None) -> None:
        if _is_importing(frame):
            again = threading.Timer(IMPORT_RETRY_S, os.kill, (os.getpid(), number))
            again.daemon = True
            again.start()
            return
        signals.append(number)
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGINT, interrupt)
    try:
        yield
    except Exception as err:
        if signals:
            raise KeyboardInterrupt from err
        raise
    finally:
        signal.signal(signal.SIGINT, before)


def _is_importing(frame: FrameType | None) -> bool:
    """Tell whether a frame was reached from an import."""
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            return True
        frame = frame.f_back
    return False
