"""Terminal output: results on stdout, progress on stderr, and the one renderer of tables."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

from cstl_edge.errors import ConfigError

if TYPE_CHECKING:
    from cstl_edge.demo import DemoResult
    from cstl_edge.doctor import DoctorReport
    from cstl_edge.evaluation.tables import MetricsTable
    from cstl_edge.runtime.tensorrt.plugin import Library


FILE_WIDTH = 120  # characters, where the output is no terminal
NO_WRAP_WIDTH = 10_000  # characters: more than a plain table has
WALKER_COLUMNS = ("scene", "walker", "truth", "answer", "distance", "threshold", "verdict")
MARKS = {"ok": "✓", "missing": "–", "broken": "✗"}


def notify(text: str) -> None:
    """Print one line of progress."""
    print(text, file=sys.stderr, flush=True)


def print_result(result: Any, text: str, as_json: bool) -> None:
    """Print a result, as JSON or as text."""
    print(json.dumps(result, ensure_ascii=False) if as_json else text)


@contextmanager
def needs_torch(verb: str, extra: str = "train") -> Iterator[None]:
    """Name the extra where an import of a verb is not installed (ConfigError)."""
    try:
        yield
    except ImportError as err:
        raise ConfigError(f'{verb} needs torch: pip install "cstl-edge[{extra}]"') from err


@contextmanager
def progress(text: str) -> Iterator[Callable[[str], None]]:
    """Show a spinner on a terminal; yields a function that changes its text."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield lambda text: None
        return
    with console.status(text) as status:
        yield status.update


def text_console(*, stderr: bool = False, width: int = FILE_WIDTH) -> Console:
    """Return a console that prints texts as they are, `width` wide where it is no terminal."""
    console = Console(stderr=stderr, markup=False, highlight=False, emoji=False)
    if not console.is_terminal:
        console.width = width
    return console


def boxed_table(
    title: str, columns: Sequence[str], rows: Iterable[Sequence[str]], *, left: Collection[str]
) -> Table:
    """Return a table to print on a `text_console`.

    Args:
        title: Above the table.
        columns: Their headings.
        rows: Cells, as many as columns.
        left: Headings of the columns that are aligned left and may wrap; others are aligned right.
    """
    return _filled(Table(title=title, title_justify="left"), columns, rows, left)


def plain_table(title: str, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table without lines; the first column is aligned left, all others right.

    >>> print(plain_table("Rank-1", ("Probe", "Mean"), (("NM", "97.8"), ("BG", "9.1"))))
    Rank-1
    Probe  Mean
    NM     97.8
    BG      9.1
    """
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    file = io.StringIO()
    console = Console(file=file, width=NO_WRAP_WIDTH, markup=False, highlight=False, emoji=False)
    console.print(_filled(table, columns, rows, columns[:1]))
    return "\n".join([title, *(line.rstrip() for line in file.getvalue().splitlines())])


def table_text(table: MetricsTable, *, markdown: bool) -> str:
    """Return a table of an evaluation for a terminal or as Markdown."""
    from cstl_edge.evaluation.tables import markdown as markdown_table

    return (
        markdown_table(table) if markdown else plain_table(table.title, table.columns, table.rows)
    )


def _filled(
    table: Table, columns: Sequence[str], rows: Iterable[Sequence[str]], left: Collection[str]
) -> Table:
    for column in columns:
        wraps = column in left
        table.add_column(column, justify="left" if wraps else "right", no_wrap=not wraps)
    for row in rows:
        table.add_row(*row)
    return table


def print_doctor(report: DoctorReport, as_json: bool) -> None:
    """Print the findings of `doctor`."""
    lines = [f"cstl_edge {report.cstl_edge}, {report.environment['cpu']}"]
    for finding in report.findings:
        remedy = f" → {finding.remedy}" if finding.remedy else ""
        lines.append(f"{MARKS[finding.state]} {finding.what}: {finding.detail}{remedy}")
    print_result(report.to_dict(), "\n".join(lines), as_json)


def print_libraries(libraries: Sequence[Library], as_json: bool) -> None:
    """Print the libraries that `plugin build` built: their purpose and their tests' result."""
    lines = []
    for library in libraries:
        headers = f"plugin, TensorRT {library.tensorrt} headers"
        kind = "kernel" if library.tensorrt is None else headers
        lines.append(f"{library.path}: {kind}, CUDA {library.cuda}, {library.architectures}")
        lines.append(f"  {library.checked}")
    print_result([asdict(library) for library in libraries], "\n".join(lines), as_json)


def print_demo(result: DemoResult, as_json: bool) -> None:
    """Print the tables of a demo and the places of its files."""
    if as_json:
        print(json.dumps(asdict(result), ensure_ascii=False))
        return
    console = text_console()
    console.print(boxed_table("Who is who", WALKER_COLUMNS, _walkers(result), left=WALKER_COLUMNS))
    latencies = [
        (scene, stage, str(row["count"]), f"{row['p50_ms']:.2f}", f"{row['p99_ms']:.2f}")
        for scene, stages in result.stages.items()
        for stage, row in stages.items()
    ]
    title, left = "Milliseconds per stage", ("scene", "stage")
    console.print(boxed_table(title, (*left, "count", "p50", "p99"), latencies, left=left))
    for line in result.lines:
        console.print(line)


def _walkers(result: DemoResult) -> Iterator[tuple[str, ...]]:
    for row in result.walkers:
        figures = (
            "" if figure is None else f"{figure:.3f}" for figure in (row.distance, row.threshold)
        )
        yield (row.scene, row.walker, row.truth, row.answer, *figures, row.verdict)
