"""Report of a table: our figures with intervals, the paper's beside them, paired differences.

Intervals are 95 % over people; a difference is paired (each person with both rows), and none where
its interval contains 0.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any, TypedDict, cast

import numpy as np

from cstl_edge.evaluation.intervals import compare
from cstl_edge.evaluation.tables import (
    condition_title,
    percent,
    percent_with_interval,
)
from cstl_edge.measure.tables import Table
from cstl_edge.reproduce.rows import CSTL, RowRecord, TableRow
from cstl_edge.training.presets import TablePlan

MISSING = "-"
FULL_WIDTHS = (32, 64, 128, 128)  # of the paper's trunk, beside which its neighbours are full


class PairedDifference(TypedDict):
    """A row's mean over conditions less another row's, as `intervals.Comparison` has it."""

    difference: float
    interval_95: tuple[float, float]
    verdict: str


class RowReport(TypedDict):
    """One row of a table; `record` and `difference` are None before it is trained."""

    name: str
    folder: str
    record: RowRecord | None
    difference: PairedDifference | None
    paper: dict[str, float]
    """The paper's rank-1 [%] by condition, where the data are of its dataset."""
    paper_views: dict[str, dict[str, float]]  # the same by condition and probe view [deg]


class TableReport(TypedDict):
    """A table, finished or not, fit for JSON."""

    about: str
    against: str | None
    kinds: list[str]
    papers_shown: bool
    rows: list[RowReport]


def summary(table: TablePlan, rows: Sequence[TableRow]) -> TableReport:
    """Return the report of a table from the records of its rows."""
    records = {row.plan.name: row.record() for row in rows}
    kinds = sorted({row.kind for row in rows})
    against = records.get(table.against or "")
    return {
        "about": table.about,
        "against": table.against,
        "kinds": kinds,
        "papers_shown": kinds == [table.dataset],
        "rows": [_row(row, records[row.plan.name], against, table) for row in rows],
    }


def difference(
    record: RowRecord | Mapping[str, Any], other: RowRecord | Mapping[str, Any]
) -> PairedDifference | None:
    """Return a record's mean over conditions less another's; None without two common people."""
    a, b = _by_person(record["hits"]), _by_person(other["hits"])
    common = sorted(set(a) & set(b))
    if len(common) < 2:
        return None
    gain = compare(np.array([a[i] for i in common]), np.array([b[i] for i in common]))
    return cast(PairedDifference, asdict(gain))


def describe_difference(gain: PairedDifference) -> str:
    """Return a difference in points of percent, with its interval and verdict."""
    low, high = (100 * end for end in gain["interval_95"])
    verdict = "no difference" if gain["verdict"] == "none" else gain["verdict"]
    return f"{100 * gain['difference']:+.1f} ({low:+.1f} to {high:+.1f}): {verdict}"


def tables_to_print(table: TablePlan, report: TableReport) -> list[Table]:
    """Return the tables to print of a report."""
    tables = [_means(table, report), *([_by_view(report)] if table.views_deg else [])]
    return [tables[0], *(by_view for by_view in tables[1:] if by_view.rows)]


def notes(table: TablePlan, report: TableReport) -> list[str]:
    """Return the basis of a table in sentences: intervals, training, people, unfinished rows."""
    records = _records(report)
    lines = ["95 % intervals: bootstrap over people"]
    if table.against:
        lines[0] += (
            f"; differences to {table.against!r} are paired by person, and none where the interval "
            "contains 0"
        )
    if records:
        budgets = sorted({f"{r['iterations']:,} iterations" for r in records})
        people = sorted({f"{r['result']['people']} people of {r['data']}" for r in records})
        lines.append(f"trained for {', '.join(budgets)}; tested on {', '.join(people)}")
        lines.append("one training per row: what another seed would change is in no interval")
    lines += _unequal_cost(table, report)
    if not report["papers_shown"] and any(row.paper for row in table.rows):
        lines.append(
            f"the paper's figures are of {table.dataset} and stand beside no other data's: they "
            "would compare datasets, not networks"
        )
    missing = [row["name"] for row in report["rows"] if not row["record"]]
    if missing:
        lines.append(f"not trained to the end yet: {', '.join(missing)}")
    return lines


def _unequal_cost(table: TablePlan, report: TableReport) -> list[str]:
    """Return a sentence where networks of full width stand beside a CSTL of less."""
    peers = {row.name for row in table.rows if row.network != CSTL and "widths" not in row.peer}
    trained = [row["name"] for row in report["rows"] if row["record"] and row["name"] in peers]
    widths = [r["configuration"]["model"]["widths"] for r in _records(report)]
    narrow = min(widths, default=list(FULL_WIDTHS))
    if not trained or narrow[0] >= FULL_WIDTHS[0]:
        return []
    return [
        f"{', '.join(trained)}: of the widths that their authors published, beside CSTL of widths "
        f"{narrow} instead of {list(FULL_WIDTHS)}, so a sequence costs several times as much: "
        "benchmarks/compare_peers.py compares at equal cost"
    ]


def _records(report: TableReport) -> list[RowRecord]:
    return [record for row in report["rows"] if (record := row["record"])]


def _row(
    row: TableRow, record: RowRecord | None, against: RowRecord | None, table: TablePlan
) -> RowReport:
    other, shown = row.plan.name != table.against, row.kind == table.dataset
    views = [str(view) for view in table.views_deg]
    by_view = {x: dict(zip(views, y, strict=True)) for x, y in row.plan.paper_views.items()}
    return {
        "name": row.plan.name,
        "folder": str(row.folder),
        "record": record,
        "difference": difference(record, against) if other and record and against else None,
        "paper": dict(row.plan.paper) if shown else {},
        "paper_views": by_view if shown else {},
    }


def _by_person(hits: Mapping[str, Any]) -> dict[int, float]:
    """Return the mean over conditions of everybody who was searched in all of them."""
    conditions = [values for name, values in hits.items() if name != "people"]
    shares = zip(hits["people"], zip(*conditions, strict=True), strict=True)
    return {person: float(np.mean(own)) for person, own in shares if None not in own}


def _means(table: TablePlan, report: TableReport) -> Table:
    """Return rows down, conditions across, each with its interval and the paper's figure."""
    records = _records(report)
    conditions = list(records[0]["result"]["conditions"] if records else table.rows[0].paper)
    conditions = [name for name in conditions if name != "mean"]
    shown = [*conditions, "mean"] if len(conditions) > 1 else conditions
    columns = ["", *map(condition_title, shown)]
    columns += [f"less {table.against}"] if table.against else []
    cells = []
    for row in report["rows"]:
        line = [row["name"], *(_cell(row, name) for name in shown)]
        if table.against:
            gain = row["difference"]
            missing = "" if row["name"] == table.against else MISSING
            line.append(missing if gain is None else describe_difference(gain))
        cells.append(tuple(line))
    return Table(f"Rank-1 (%), {table.about}", tuple(columns), tuple(cells))


def _cell(row: RowReport, condition: str) -> str:
    paper = row["paper"].get(condition)
    theirs = "" if paper is None else f", paper {paper:.1f}"
    if row["record"] is None:
        return f"{MISSING}{theirs}"
    result = row["record"]["result"]
    metrics = result["mean"] if condition == "mean" else result["conditions"][condition]
    return percent_with_interval(metrics["rank-1"], metrics["rank-1_95"]) + theirs


def _by_view(report: TableReport) -> Table:
    """Return conditions and rows down, probe views across: ours, and the paper's below."""
    lines: dict[str, dict[str, str]] = {}
    for row in report["rows"]:
        if row["record"]:
            for name, metrics in row["record"]["result"]["conditions"].items():
                ours = {str(v): percent(x) for v, x in metrics["per_view"].items()}
                lines[f"{name.upper()} {row['name']}"] = ours
        for name, figures in row["paper_views"].items():
            theirs = {view: f"{figure:.1f}" for view, figure in figures.items()}
            lines[f"{name.upper()} {row['name']}, paper"] = theirs
    views = sorted({view for line in lines.values() for view in line}, key=int)
    cells = [(name, *(line.get(view, MISSING) for view in views)) for name, line in lines.items()]
    columns = ("Probe", *(f"{view}°" for view in views))
    return Table("Rank-1 (%) by probe view", columns, tuple(sorted(cells)))
