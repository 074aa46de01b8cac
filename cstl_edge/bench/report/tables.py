"""Tables of rows of results, and what Markdown would take for markup."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence

from cstl_edge.bench.record import Row
from cstl_edge.bench.report.formatting import quantile, whole
from cstl_edge.bench.report.rows import (
    column_label,
    format_value,
    main_stage,
    main_times,
    median,
    remarks,
    row_name,
    single_network,
    speedup,
    split_cases,
)
from cstl_edge.measure.stats import percentile
from cstl_edge.measure.tables import DASH, Cell, Table

REMARKS = "remarks"
PERCENTILES = (50, 90, 95, 99)
MARKUP = re.compile(r"([\\`*\[\]<>|&]|:(?=//)|(?<=www)\.)")  # the last two make links of bare words


def escape(text: str) -> str:
    r"""Escape what Markdown or HTML would take for markup.

    >>> escape("a|b <script>")
    'a\\|b \\<script\\>'
    """
    return MARKUP.sub(r"\\\1", " ".join(text.split()))


def timing_table(title: str, rows: Sequence[Row], names: Sequence[str] | None = None) -> Table:
    """Return the percentiles of rows of times, and their values.

    Args:
        title: Title, continued by what the cases of all rows share.
        rows: Rows with times, one line each.
        names: Names of values; None shows the speed as a multiple of the baseline's instead.
    """
    marks = [_percentiles(row) for row in rows]
    if not any(split_cases(rows)[1]):  # lines of one case can be ranked
        medians = [median(row).value for row in rows]
        for k, value in enumerate(medians):
            if len(medians) > 1 and value == min(medians):
                marks[k][0] = Cell(str(marks[k][0]), "best")
    cells = (
        (
            *marks[k],
            whole(len(main_times(row))),
            *([speedup(row, rows)] if names is None else []),
            *(format_value(row, name) for name in names or ()),
            str(quantile(row.samples["late"], 99)) if row.samples.get("late") else "",
            remarks(row),
        )
        for k, row in enumerate(rows)
    )
    labels = ["× usual way"] if names is None else map(column_label, names)
    columns = (*(f"p{q} ms" for q in PERCENTILES), "samples", *labels, "late p99 ms", REMARKS)
    return _table_of(title, rows, columns, cells, tuple(_notes(rows, marks)))


def stage_table(title: str, rows: Sequence[Row]) -> Table | None:
    """Return median and p99 of all stages, of rows whose stages `timing_table` does not show."""
    staged = [row for row in rows if _has_further_stages(row)]
    if not staged:
        return None
    names = list(dict.fromkeys(stage for row in staged for stage in row.samples))
    cells = ([_both(row.samples.get(stage, [])) for stage in names] for row in staged)
    columns = [f"{name.replace('_', ' ')} ms" for name in names]
    return _table_of(title, staged, columns, cells, ("Each cell: p50 | p99.",))


def _has_further_stages(row: Row) -> bool:
    stages = set(row.samples) - {"late"}
    return len(stages) > 1 or (main_stage(row) is None and any(row.samples[x] for x in stages))


def value_table(
    title: str, rows: Sequence[Row], first: Sequence[str] = (), only: bool = False
) -> Table:
    """Return the values of rows with their intervals.

    Args:
        title: Title, continued by what the cases of all rows share.
        rows: Rows of results, one line each.
        first: Names of values that stand before all others.
        only: Whether no others stand there.
    """
    known = dict.fromkeys(name for row in rows for name in row.values)
    names = [name for name in first if name in known]
    names += [] if only else [name for name in known if name not in first]
    cells = ([*(format_value(row, name) for name in names), remarks(row)] for row in rows)
    return _table_of(title, rows, [*map(column_label, names), REMARKS], cells)


def _table_of(
    title: str,
    rows: Sequence[Row],
    columns: Sequence[str],
    cells: Iterable[Sequence[Cell | str]],
    notes: tuple[str, ...] = (),
) -> Table:
    """Return a table with a line per row: name, what its case has of its own, cells."""
    one_network = single_network(rows)
    shared, own = split_cases(rows)
    lines = zip(rows, own, cells, strict=True)
    return Table(
        title if shared in ("", title) else f"{title}: {shared}",
        ("", "case", *columns),
        tuple((row_name(row, one_network), case, *line) for row, case, line in lines),
        left=2,
        notes=notes,
    ).without_empty_columns()


def _percentiles(row: Row) -> list[Cell | str]:
    """Return the percentiles of a row, the 99th with a star where it is the largest sample."""
    samples = main_times(row)
    largest = percentile(range(len(samples)), 99) == len(samples) - 1
    return [f"{quantile(samples, q)}{'*' if q == 99 and largest else ''}" for q in PERCENTILES]


def _notes(rows: Iterable[Row], marks: Iterable[Sequence[Cell | str]]) -> Iterator[str]:
    if any("*" in str(cells[-1]) for cells in marks):
        yield "* of so few samples the 99th percentile is the largest."
    references = (row.check.reference.partition(",")[0] for row in rows if row.check is not None)
    if checked := ", ".join(sorted(set(references))):
        yield f"Outputs were compared with those of {checked} while measuring."


def _both(samples: Sequence[float]) -> str:
    return f"{quantile(samples, 50)} | {quantile(samples, 99)}" if samples else DASH
