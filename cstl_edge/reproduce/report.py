"""A table of rows in numbers and in words: ours, the paper's beside it, and what differs.

Intervals are 95 % over people; a difference is paired (each person with both rows), and none where
its interval contains 0.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from cstl_edge.evaluation.intervals import compare
from cstl_edge.evaluation.tables import Table
from cstl_edge.reproduce.rows import Row
from cstl_edge.training.presets import RowPlan, TablePlan

Records = Mapping[str, dict[str, Any] | None]
MISSING = "-"


def summary(table: TablePlan, rows: Sequence[Row]) -> dict[str, Any]:
    """Return what is known of the rows of a table, fit for JSON."""
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


def difference(record: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return how the mean over conditions differs from another row's, None without two people."""
    a, b = _by_person(record["hits"]), _by_person(other["hits"])
    common = sorted(set(a) & set(b))
    if len(common) < 2:
        return None
    return asdict(compare(np.array([a[i] for i in common]), np.array([b[i] for i in common])))


def printed(table: TablePlan, told: Mapping[str, Any]) -> list[Table]:
    """Return the tables to print of a summary."""
    by_view = [_by_view(told)] if table.views_deg else []
    return [_means(table, told), *(made for made in by_view if made.rows)]


def notes(table: TablePlan, told: Mapping[str, Any]) -> list[str]:
    """Return in words what a table rests on."""
    done = [row["record"] for row in told["rows"] if row["record"]]
    lines = ["95 % intervals: bootstrap over people"]
    if table.against:
        lines[0] += (
            f"; differences to {table.against!r} are paired by person, and none where the interval "
            "contains 0"
        )
    if done:
        budgets = sorted({f"{r['iterations']:,} iterations" for r in done})
        people = sorted({f"{r['result']['people']} people of {r['data']}" for r in done})
        lines.append(f"trained for {', '.join(budgets)}; tested on {', '.join(people)}")
        lines.append("one training per row: what another seed would change is in no interval")
    if not told["papers_shown"] and any(row.paper for row in table.rows):
        lines.append(
            f"the paper's figures are of {table.dataset} and stand beside no other data's: they "
            "would compare datasets, not networks"
        )
    missing = [row["name"] for row in told["rows"] if not row["record"]]
    if missing:
        lines.append(f"not trained to the end yet: {', '.join(missing)}")
    return lines


def _row(
    row: Row, record: dict[str, Any] | None, against: dict[str, Any] | None, table: TablePlan
) -> dict[str, Any]:
    compared = record and against and row.plan.name != table.against
    shown = row.kind == table.dataset
    return {
        "name": row.plan.name,
        "folder": str(row.folder),
        "record": record,
        "difference": difference(record, against) if compared and record and against else None,
        "paper": dict(row.plan.paper) if shown else {},
        "paper_views": _paper_views(table, row.plan) if shown else {},
    }


def _paper_views(table: TablePlan, plan: RowPlan) -> dict[str, dict[str, float]]:
    views = [str(view) for view in table.views_deg]
    return {
        name: dict(zip(views, figures, strict=True)) for name, figures in plan.paper_views.items()
    }


def _by_person(hits: Mapping[str, Any]) -> dict[int, float]:
    """Return the mean over conditions of everybody who was searched in all of them."""
    conditions = [values for name, values in hits.items() if name != "people"]
    shares = zip(hits["people"], zip(*conditions, strict=True), strict=True)
    return {person: float(np.mean(own)) for person, own in shares if None not in own}


def _means(table: TablePlan, told: Mapping[str, Any]) -> Table:
    """Rows down, conditions across, each with its interval and the paper's figure."""
    done = [row["record"] for row in told["rows"] if row["record"]]
    conditions = list(done[0]["result"]["conditions"]) if done else list(table.rows[0].paper)
    conditions = [name for name in conditions if name != "mean"]
    shown = [*conditions, "mean"] if len(conditions) > 1 else conditions
    titles = [name.upper() if len(name) == 2 else name.capitalize() for name in shown]
    columns = ["", *titles, *([f"less {table.against}"] if table.against else [])]
    cells = []
    for row in told["rows"]:
        line = [row["name"], *(_cell(row, name) for name in shown)]
        if table.against:
            line.append(_difference(row, table.against))
        cells.append(tuple(line))
    return Table(f"Rank-1 (%), {table.about}", tuple(columns), tuple(cells))


def _cell(row: Mapping[str, Any], condition: str) -> str:
    paper = row["paper"].get(condition)
    theirs = "" if paper is None else f", paper {paper:.1f}"
    if row["record"] is None:
        return f"{MISSING}{theirs}"
    result = row["record"]["result"]
    found = result["mean"] if condition == "mean" else result["conditions"][condition]
    low, high = found["rank-1_95"]
    return f"{_percent(found['rank-1'])} ({_percent(low)} to {_percent(high)}){theirs}"


def _difference(row: Mapping[str, Any], against: str) -> str:
    found = row["difference"]
    if found is None:
        return "" if row["name"] == against else MISSING
    low, high = (100 * end for end in found["interval_95"])
    said = "no difference" if found["verdict"] == "none" else found["verdict"]
    return f"{100 * found['difference']:+.1f} ({low:+.1f} to {high:+.1f}): {said}"


def _by_view(told: Mapping[str, Any]) -> Table:
    """Conditions and rows down, probe views across: ours, and the paper's below."""
    lines: dict[str, dict[str, str]] = {}
    for row in told["rows"]:
        if row["record"]:
            for name, found in row["record"]["result"]["conditions"].items():
                ours = {str(v): _percent(x) for v, x in found["per_view"].items()}
                lines[f"{name.upper()} {row['name']}"] = ours
        for name, figures in row["paper_views"].items():
            theirs = {view: f"{figure:.1f}" for view, figure in figures.items()}
            lines[f"{name.upper()} {row['name']}, paper"] = theirs
    views = sorted({view for line in lines.values() for view in line}, key=int)
    cells = [(name, *(line.get(view, MISSING) for view in views)) for name, line in lines.items()]
    columns = ("Probe", *(f"{view}°" for view in views))
    return Table("Rank-1 (%) by probe view", columns, tuple(sorted(cells)))


def _percent(share: float | None) -> str:
    return MISSING if share is None else f"{100 * share:.1f}"
