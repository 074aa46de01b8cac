"""The verb `bench`: how fast, at what power, how accurate this machine is with our models."""

from __future__ import annotations

import json as jsons
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cstl_edge.errors import DataError, one_line

if TYPE_CHECKING:
    from cstl_edge.bench.context import Context
    from cstl_edge.bench.record import Row


def report(
    files: Annotated[
        list[Path],
        typer.Argument(help="results of cstl-edge bench (.jsonl), of a board (.zip), of trtexec"),
    ],
    output: Annotated[Path, typer.Option("-o", "--output", help="page to write")] = Path(
        "bench.html"
    ),
    markdown: Annotated[
        Path | None, typer.Option("--markdown", help="write the tables in Markdown too")
    ] = None,
    against: Annotated[
        str | None,
        typer.Option(help="compare with the results in this file, or of this commit in FILES"),
    ] = None,
) -> None:
    """Make one page of results: tables, pictures, and what two machines or commits differ in."""
    from cstl_edge.bench.report.build import report as build
    from cstl_edge.bench.report.page import html, text
    from cstl_edge.cli.console import say

    made = build(files, against, say)
    _write(output, html(made))
    if markdown is not None:
        _write(markdown, text(made))


def _write(path: Path, text: str) -> None:
    """Write a file and say where it is (DataError)."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    except OSError as err:
        raise DataError(f"cannot write {one_line(path)}: {one_line(err)}") from err
    print(path)


bench = typer.Typer(
    help="Measure this machine: latency, throughput, accuracy, nearness to its limits, power.",
    invoke_without_command=True,
)
bench.command("report")(report)


@bench.callback()
def measure(
    context: typer.Context,
    model: Annotated[
        Path | None,
        typer.Option(help="exported folder (default: the shipped model, in all precisions)"),
    ] = None,
    weights: Annotated[
        Path | None, typer.Option(help="its .safetensors checkpoint, for PyTorch")
    ] = None,
    network: Annotated[
        str, typer.Option(help="shipped, or paper: the paper's widths with random weights")
    ] = "shipped",
    scenario: Annotated[
        list[str] | None,
        typer.Option(
            help="by commas or repeated: roofline, graph, single, multi, offline, end_to_end, "
            "accuracy, power (default: all)"
        ),
    ] = None,
    short: Annotated[bool, typer.Option("--short", help="half a minute, for a first look")] = False,
    full: Annotated[bool, typer.Option("--full", help="all batches, lengths and sizes")] = False,
    threads: Annotated[
        int | None, typer.Option(help="of every backend (default: your cores, at most 4)")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="file of JSON lines (default: runs/bench/RUN.jsonl)")
    ] = None,
    jetson: Annotated[
        bool, typer.Option("--jetson", help="on a Jetson: pack all that was found into one file")
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="print rows as JSON lines")] = False,
) -> None:
    """Measure every backend and precision of this machine; Ctrl-C keeps what is there."""
    if context.invoked_subcommand is not None:
        return
    from cstl_edge.bench.run import BenchOptions, make_context
    from cstl_edge.cli.console import say

    names = [name for word in scenario or [] for name in word.split(",")]
    wish = BenchOptions(model, weights, network, names, short, full, threads)
    if jetson:
        from cstl_edge.bench.jetson.bundle import advice, detect_board, pack_bundle
        from cstl_edge.doctor import report

        found = detect_board()
        made = make_context(wish, say)
        for line in advice(made.engines or made.folder):
            say(line)
        file = _measured(made, names, out, json)
        say(f"to be sent to us: {pack_bundle(file, found, report())}")
    else:
        _measured(make_context(wish, say), names, out, json)


def _measured(context: Context, scenarios: Sequence[str], out: Path | None, as_json: bool) -> Path:
    """Run scenarios and print their rows, those that an interrupted run has too; return the file.

    Raises BackendUnavailable when nothing was measured.
    """
    from cstl_edge.bench.record import SCHEMA
    from cstl_edge.bench.report.console import show_rows
    from cstl_edge.bench.run import results_file, run
    from cstl_edge.cli.console import say

    file = out or results_file(context)
    rows: list[Row] = []
    try:
        with _interruptible():
            for row in run(context, scenarios, file):
                rows.append(row)
                if as_json:
                    told = row.model_dump(mode="json", exclude_defaults=True)
                    print(jsons.dumps(told | {"version": SCHEMA}), flush=True)
    finally:
        if not as_json:
            show_rows(rows)
        if rows:
            say(
                f"{len(rows)} rows in {file}; as a page: cstl-edge bench report {file} -o page.html"
            )
    return file


@contextmanager
def _interruptible() -> Iterator[None]:
    """Let Ctrl-C be itself wherever it falls: an import of native code makes an ImportError of it.

    Raises KeyboardInterrupt in the place of whatever came after the signal.
    """
    came: list[int] = []

    def interrupt(number: int, frame: Any) -> None:
        came.append(number)
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGINT, interrupt)
    try:
        yield
    except Exception as err:
        if came:
            raise KeyboardInterrupt from err
        raise
    finally:
        signal.signal(signal.SIGINT, before)
