"""Terminal output: results on stdout, progress on stderr, and the one renderer of tables.

Every verb imports this module, so it imports rich late.
"""

from __future__ import annotations

import io
import json
import logging
import shlex
import sys
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, astuple
from typing import TYPE_CHECKING, Any, TextIO

from cstl_edge.cli.failures import json_wanted
from cstl_edge.errors import one_line
from cstl_edge.extras import missing_package

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress as Bars
    from rich.progress import Task, TaskID
    from rich.table import Table

    from cstl_edge.demo import DemoResult
    from cstl_edge.measure.tables import Table as TableOfFigures

FILE_WIDTH = 120  # characters, where the output is no terminal
SPEED_PERIOD_S = 600.0  # over which the speed is measured: some steps take minutes
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


def described(record: Mapping[str, Any]) -> list[str]:
    """Return a record as lines for people, its lists below their keys.

    >>> described({"name": "Ada", "walks": [{"view": "left", "seconds": 3.409}], "until": None})
    ['name: Ada', 'walks:', '  view left, seconds 3.409', 'until: not set']
    """
    lines = []
    for key, value in record.items():
        label = key.replace("_", " ")
        if isinstance(value, list | tuple) and value:
            lines += [f"{label}:", *(f"  {_words(item)}" for item in value)]
        else:
            lines.append(f"{label}: {_words(value)}")
    return lines


def _words(value: Any) -> str:
    """Return a value of a record in words."""
    if isinstance(value, Mapping):
        known = [(key, inner) for key, inner in value.items() if inner is not None]
        parts = (
            _words(inner)
            if isinstance(inner, Mapping)
            else f"{key.replace('_', ' ')} {_words(inner)}"
            for key, inner in known
        )
        return ", ".join(part for part in parts if part)
    if isinstance(value, list | tuple):
        return ", ".join(map(_words, value)) or "none"
    if value is None or isinstance(value, bool):
        return "not set" if value is None else "yes" if value else "no"
    return f"{value:.4g}" if isinstance(value, float) else one_line(value, 500)


@contextmanager
def needs_torch(verb: str, extra: str = "train") -> Iterator[None]:
    """Name the extra where an import of a verb is not installed (MissingPackage)."""
    try:
        yield
    except ImportError as err:
        raise missing_package(f"{verb} needs torch", extra) from err


class Progress:
    """Bars of what runs: text, share done and time left, on a terminal; silent elsewhere."""

    def __init__(self, text: str, steps: int | None, bars: Bars | None) -> None:
        """Begin.

        Args:
            text: What runs.
            steps: Number of its calls, each a step, where it is known.
            bars: What draws, or None.
        """
        self._bars, self._steps, self._done = bars, steps, -1
        self._tasks: dict[str, TaskID] = {}
        self.bar(text, text, 0, steps)
        self._main = text

    def __call__(self, text: str) -> None:
        """Begin the next step, which is called `text`."""
        self._done += 1
        self.bar(self._main, text, self._done, self._steps)

    def count(self, done: float, total: float | None) -> None:
        """Tell how much is done; the text stays."""
        self.bar(self._main, None, done, total)

    def describe(self, text: str) -> None:
        """Change the text; what is done stays."""
        if self._bars is not None:
            self._bars.update(self._tasks[self._main], description=text)

    def bar(self, name: str, text: str | None, done: float, total: float | None) -> None:
        """Draw one of several bars.

        Args:
            name: Which of them.
            text: What it says, None for what it said.
            done: How much is done.
            total: Of how much, None where nobody knows.
        """
        if self._bars is None:
            return
        if name not in self._tasks:
            self._tasks[name] = self._bars.add_task(text or name, total=total)
        if text is None:
            self._bars.update(self._tasks[name], completed=done, total=total)
        else:
            self._bars.update(self._tasks[name], completed=done, total=total, description=text)


@contextmanager
def progress(text: str, *, steps: int | None = None) -> Iterator[Progress]:
    """Show what runs and the time left on stderr, where that is a terminal and without `--json`.

    text: what runs
    steps: number of its calls, each a step, where it is known
    """
    if not sys.stderr.isatty() or json_wanted(sys.argv[1:]):
        yield Progress(text, steps, None)
        return
    from rich.console import Console
    from rich.progress import BarColumn, ProgressColumn, SpinnerColumn, TaskProgressColumn
    from rich.progress import Progress as Bars
    from rich.progress import TextColumn as Words
    from rich.text import Text

    class TimeLeft(ProgressColumn):
        def render(self, task: Task) -> Text:
            return Text(time_left(task.time_remaining, task.elapsed), style="cyan")

    columns = (SpinnerColumn(), Words("{task.description}", markup=False), BarColumn())
    bars = Bars(
        *columns,
        TaskProgressColumn(),
        TimeLeft(),
        console=Console(stderr=True),
        transient=True,
        redirect_stdout=False,  # results are no progress
        speed_estimate_period=SPEED_PERIOD_S,
    )
    with bars:
        yield Progress(text, steps, bars)


def time_left(left_s: float | None, elapsed_s: float | None) -> str:
    """Return how long something will still take, or how long it has, in words.

    >>> time_left(75.0, 3.0), time_left(None, 3.0)
    ('1:15 left', '0:03 so far')
    """
    seconds = round((elapsed_s or 0.0) if left_s is None else left_s)
    hours, minutes = seconds // 3600, seconds // 60 % 60
    clock = f"{hours}:{minutes:02}" if hours else f"{minutes}"
    return f"{clock}:{seconds % 60:02} {'so far' if left_s is None else 'left'}"


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
