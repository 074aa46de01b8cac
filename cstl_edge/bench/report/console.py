"""The rows of one call as tables on a terminal; the page of `cstl-edge bench report` says more."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterable, Sequence

from rich.console import Console
from rich.table import Table

from cstl_edge.bench.backends.base import USUAL
from cstl_edge.bench.record import Case, Row
from cstl_edge.errors import one_line
from cstl_edge.measure.stats import percentile

FILE_WIDTH = 140  # characters, where no terminal says
Timing = tuple[float, float]
"""Median and p99, ms."""


def show_rows(rows: Sequence[Row]) -> None:
    """Print a table per scenario with what was skipped and why, then the best figures."""
    console = Console(markup=False, highlight=False, emoji=False)
    if not console.is_terminal:
        console.width = FILE_WIDTH
    for scenario in dict.fromkeys(row.scenario for row in rows):
        of_it = [row for row in rows if row.scenario == scenario]
        figures = [row for row in of_it if row.skipped is None]
        if figures:
            console.print(_table(scenario, figures))
        for reason, names in skipped(of_it).items():
            console.print(f"{scenario}: {'; '.join(names)}: {reason}")
    for line in led(rows):
        console.print(line)


def led(rows: Sequence[Row]) -> list[str]:
    """Return what the report leads with, none where its packages are not installed."""
    if importlib.util.find_spec("scipy") is None:  # which knows how many digits a figure carries
        return []
    from cstl_edge.bench.report.load import chapters
    from cstl_edge.bench.report.sections.headlines import headlines

    found = [one for chapter in chapters(rows) for one in headlines(chapter)]
    return [f"{one.figure} {one.what} ({one.where})" for one in found]


def skipped(rows: Iterable[Row]) -> dict[str, list[str]]:
    """Return by reason who has no figure."""
    found: dict[str, list[str]] = {}
    for row in rows:
        if row.skipped is not None:
            names = found.setdefault(one_line(row.skipped), [])
            what = f"{row.contender} ({case_of(row.case)})" if row.case != Case() else row.contender
            names.append(one_line(what))
    return found


def timing(row: Row) -> Timing | None:
    """Return median and p99 of the row's wall time, None without one."""
    wall = row.samples.get("wall")
    return (percentile(wall, 50), percentile(wall, 99)) if wall else None


def times_as_fast(row: Row, rows: Iterable[Row]) -> float | None:
    """Return how many times as fast as the usual way a row is, in the same case of the same run."""
    mine = timing(row)
    for other in rows:
        same = (other.run, other.scenario, other.case) == (row.run, row.scenario, row.case)
        if same and other.contender == USUAL and other.subject == row.subject:
            usual = timing(other)
            return usual[0] / mine[0] if usual and mine else None
    return None


def case_of(case: Case) -> str:
    """Say a case in a few words.

    >>> case_of(Case(graph="full", batch=1, frames=30, paced_hz=25))
    'full, batch 1, 30 frames, 25 Hz'
    """
    words = [
        case.graph,
        f"batch {case.batch}" if case.batch else None,
        f"{case.frames} frames" if case.frames else None,
        f"hop {case.hop}" if case.hop else None,
        f"{case.walkers} walkers" if case.walkers else None,
        f"{case.paced_hz:g} Hz" if case.paced_hz else None,
        one_line(case.source, 40) if case.source else None,
    ]
    return ", ".join(word for word in words if word)


def _table(scenario: str, rows: Sequence[Row]) -> Table:
    table = Table(title=scenario, title_justify="left")
    for column in ("case", "contender", "p50 ms", "p99 ms", "× usual", "besides"):
        right = column in ("p50 ms", "p99 ms", "× usual")
        table.add_column(column, justify="right" if right else "left", no_wrap=right)
    for row in rows:
        timed, ratio = timing(row), times_as_fast(row, rows)
        p50, p99 = (f"{ms:.2f}" for ms in timed) if timed else ("", "")
        named = case_of(row.case), one_line(row.contender)
        table.add_row(*named, p50, p99, f"{ratio:.1f}" if ratio else "", _besides(row))
    return table


def _besides(row: Row) -> str:
    """Say a row's other figures, stages and warnings."""
    words = [f"{one_line(name)} {value:.4g}" for name, value in row.values.items()]
    stages = {name: taken for name, taken in row.samples.items() if name != "wall" and taken}
    words += [f"{one_line(name)} {percentile(taken, 50):.2f} ms" for name, taken in stages.items()]
    words += [f"{count} {one_line(reason)}" for reason, count in row.dropped.items()]
    if row.ran is not None and row.ran.computed_in != row.ran.precision:
        words.append(f"computed in {one_line(row.ran.computed_in)}")
    doubts = (warning.partition(":")[0] for warning in row.warnings)  # the file has them whole
    return ", ".join([*words, *map(one_line, doubts)])
