"""Terminal output: results on stdout, progress on stderr, and the one renderer of tables.

Every verb imports this module, so it imports rich late.
"""

from __future__ import annotations

import io
import json
import logging
import shlex
import sys
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, astuple
from typing import TYPE_CHECKING, Any, TextIO

from cstl_edge.errors import ConfigError

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import ProgressColumn, TaskID
    from rich.table import Table

    from cstl_edge.demo import DemoResult
    from cstl_edge.measure.tables import Table as TableOfFigures

FILE_WIDTH = 120  # characters, where the output is no terminal
NO_WRAP_WIDTH = 10_000  # characters: more than a plain table has
WALKER_COLUMNS = ("scene", "walker", "truth", "answer", "distance", "threshold", "verdict")


def notify(text: str) -> None:
    """Print one line of progress."""
    print(text, file=sys.stderr, flush=True)


def print_result(result: Any, text: str | Iterable[str], as_json: bool) -> None:
    """Print a result.

    Args:
        result: JSON-ready object.
        text: For people, as a whole or by lines.
        as_json: Print the object, not the text.
    """
    if as_json:
        print(json.dumps(result, ensure_ascii=False))
    else:
        print(text if isinstance(text, str) else "\n".join(text))


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
    from rich.console import Console

    console = Console(stderr=True)
    if not console.is_terminal:
        yield lambda text: None
        return
    with console.status(text) as status:
        yield status.update


@contextmanager
def progress_bars(*columns: ProgressColumn) -> Iterator[Callable[..., None] | None]:
    """Show bars on a terminal; yields `update(bar, text, completed=…, total=…)`, None elsewhere.

    columns: of the bars; rich's own where none are given
    """
    from rich.console import Console
    from rich.progress import Progress

    console = Console(stderr=True)
    if not console.is_terminal:
        yield None
        return
    with Progress(*columns, console=console, transient=True) as bars:
        tasks: dict[str, TaskID] = {}

        def update(
            bar: str, text: str, *, completed: float = 0, total: float | None = None
        ) -> None:
            if bar not in tasks:
                tasks[bar] = bars.add_task(text, total=total)
            bars.update(tasks[bar], description=text, completed=completed, total=total)

        yield update


def log_without_bar() -> None:
    """Log the progress of a training where stderr is no terminal, which shows a bar instead."""
    if not sys.stderr.isatty():
        logging.getLogger().setLevel(min(logging.INFO, logging.getLogger().level))


def command_line() -> str:
    """Return the present command, to be kept with a result."""
    return shlex.join(["cstl-edge", *sys.argv[1:]])


def text_console(
    *, stderr: bool = False, width: int = FILE_WIDTH, file: TextIO | None = None
) -> Console:
    """Return a console that prints texts as they are, without markup.

    Args:
        stderr: Print to stderr, not to stdout.
        width: Characters of a line, where it is no terminal.
        file: Written in place of both.
    """
    from rich.console import Console

    console = Console(stderr=stderr, file=file, markup=False, highlight=False, emoji=False)
    if not console.is_terminal:
        console.width = width
    return console


def boxed_table(
    title: str, columns: Sequence[str], rows: Iterable[Sequence[str]], *, left: Collection[str]
) -> Table:
    """Return a table to print on a `text_console`.

    Args:
        title: Line above the table.
        columns: Headings of the columns.
        rows: Cells, as many as columns.
        left: Headings of the columns that are aligned left and may wrap; others are aligned right.
    """
    return _table(columns, rows, left, title=title, title_justify="left")


def plain_table(title: str, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table without lines; the first column is aligned left, all others right.

    Args:
        title: Line above the table.
        columns: Headings of the columns.
        rows: Cells, as many as columns.

    >>> print(plain_table("Rank-1", ("Probe", "Mean"), (("NM", "97.8"), ("BG", "9.1"))))
    Rank-1
    Probe  Mean
    NM     97.8
    BG      9.1
    """
    file = io.StringIO()
    table = _table(columns, rows, columns[:1], box=None, pad_edge=False, padding=(0, 2, 0, 0))
    text_console(file=file, width=NO_WRAP_WIDTH).print(table)
    return "\n".join([title, *(line.rstrip() for line in file.getvalue().splitlines())])


def table_text(table: TableOfFigures, *, markdown: bool) -> str:
    """Return a table of figures for a terminal or as Markdown."""
    if markdown:
        return table.markdown()
    rows = ([str(cell) for cell in row] for row in table.rows)
    return plain_table(table.title, table.columns, rows)


def _table(
    columns: Sequence[str], rows: Iterable[Sequence[str]], left: Collection[str], **style: Any
) -> Table:
    from rich.table import Table

    table = Table(**style)
    for column in columns:
        wraps = column in left
        table.add_column(column, justify="left" if wraps else "right", no_wrap=not wraps)
    for row in rows:
        table.add_row(*row)
    return table


def print_demo(result: DemoResult, as_json: bool) -> None:
    """Print the tables of a demo and the places of its files."""
    if as_json:
        print_result(asdict(result), "", as_json)
        return
    console = text_console()
    walkers = [[_cell(value) for value in astuple(row)] for row in result.walkers]
    console.print(boxed_table("Who is who", WALKER_COLUMNS, walkers, left=WALKER_COLUMNS))
    latencies = [
        (scene, stage, str(row["count"]), f"{row['p50_ms']:.2f}", f"{row['p99_ms']:.2f}")
        for scene, stages in result.stages.items()
        for stage, row in stages.items()
    ]
    title, left = "Milliseconds per stage", ("scene", "stage")
    console.print(boxed_table(title, (*left, "count", "p50", "p99"), latencies, left=left))
    for line in result.lines:
        console.print(line)


def _cell(value: str | float | None) -> str:
    return f"{value:.3f}" if isinstance(value, float) else value or ""
