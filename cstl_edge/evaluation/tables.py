"""Format the metrics of an evaluation as the paper's Table 1 and Table 2."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from cstl_edge.evaluation.closed_set import METRICS
from cstl_edge.evaluation.protocols import BY_PAIR, BY_PROBE
from cstl_edge.measure.tables import Table

WHOLE_TEST_SETS = {"casia-b": 50, "ou-mvlp": 5154}  # people


def format_tables(result: Mapping[str, Any]) -> list[Table]:
    """Return the tables of a record of `evaluate`."""
    if result["protocol"] == "open-set":
        return [_open_set(result)]
    conditions = result["conditions"]
    if result["averaged"] not in (BY_PAIR, BY_PROBE):
        return [_metrics(result)]
    by_view = _table1(result) if len(conditions) > 1 else _table2(result)
    return [by_view, _metrics(result)]


def notes(result: Mapping[str, Any]) -> list[str]:
    """Return sentences about the data behind the tables; `kind` is that of the dataset."""
    failed = result["failed_to_enrol"]
    lines = [
        f"{result['people']} people, {result['probe_sequences']} probes, "
        f"{result['gallery_sequences']} in the gallery ({result['searched']}); failed to enroll "
        f"{failed['rate']:.2%} ({failed['short']} too short, {failed['not_finite']} not finite)"
    ]
    published = WHOLE_TEST_SETS.get(result.get("kind", ""), 0)
    if 0 < result["people"] < published:
        lines.append(
            f"{result['people']} of the {published} people that published figures are about: these "
            "figures do not compare with those"
        )
    intervals = "95 % intervals: bootstrap over people"
    if result["protocol"] != "open-set":
        unmated = sum(row["unmated"] for row in result["conditions"].values())
        if unmated:
            outcome = "left out" if result["drop_unmated"] else "counted as missed"
            lines.append(f"{unmated} searches for somebody who is not in the gallery: {outcome}")
        return [*lines, intervals]
    others = result["non_mated_searches"]
    searches = f"{result['mated_searches']} mated and {others} non-mated searches"
    lines += [f"each split: at least {searches}, of {result['strangers']} strangers", intervals]
    if not all(row["provable"] for row in result["errors"]):
        lines.append(
            f"* cannot be proved by so few searches: not one alarm in {others} would only show an "
            f"FPIR of at most {result['provable_fpir']:.2%} (rule of three)"
        )
    return lines


def _table1(result: Mapping[str, Any]) -> Table:
    """Conditions down, probe views across (Table 1)."""
    conditions = result["conditions"]
    views = sorted({view for row in conditions.values() for view in row["per_view"]})
    rows = [
        (
            name.upper(),
            *(percent(row["per_view"].get(view)) for view in views),
            percent(row["rank-1"]),
            interval(row["rank-1_95"]),
        )
        for name, row in conditions.items()
    ]
    mean = result["mean"]
    last = ("Mean", *[""] * len(views), percent(mean["rank-1"]), interval(mean["rank-1_95"]))
    columns = ("Probe", *(f"{view}°" for view in views), "Mean", "95 %")
    return Table(_title(result), columns, (*rows, last))


def _table2(result: Mapping[str, Any]) -> Table:
    """Probe views down (Table 2)."""
    (row,) = result["conditions"].values()
    rows = [(f"{view}°", percent(share), "") for view, share in row["per_view"].items()]
    last = ("Mean", percent(row["rank-1"]), interval(row["rank-1_95"]))
    columns = ("Probe", f"Gallery all {result['views']} views", "95 %")
    return Table(_title(result), columns, (*rows, last))


def _metrics(result: Mapping[str, Any]) -> Table:
    """Every metric of every condition, with its interval."""
    rows = [(condition_title(name), *_cells(row)) for name, row in result["conditions"].items()]
    if len(rows) > 1:
        rows.append(("Mean", *_cells(result["mean"])))
    return Table("All metrics (%), with 95 % intervals", ("Probe", *METRICS), tuple(rows))


def _cells(row: Mapping[str, Any]) -> tuple[str, ...]:
    return tuple(percent_with_interval(row[m], row[f"{m}_95"]) for m in METRICS)


def _open_set(result: Mapping[str, Any]) -> Table:
    rows = tuple(
        (
            f"{row['fpir_wanted']:.2%}" + ("" if row["provable"] else " *"),
            f"{row['fpir']:.3%}",
            f"{row['fnir']:.1%}",
            interval(row["fnir_95"]),
            "any" if row["threshold"] is None else f"{row['threshold']:.4f}",
        )
        for row in result["errors"]
    )
    title = (
        f"FNIR at FPIR: {result['gallery_people']} enrolled, {result['strangers']} strangers, mean "
        f"of {result['splits']} splits"
    )
    return Table(title, ("FPIR wanted", "FPIR", "FNIR", "95 %", "threshold"), rows)


def _title(result: Mapping[str, Any]) -> str:
    excluded = ", identical views excluded" if result["averaged"] == BY_PAIR else ""
    return f"Rank-1 (%) by probe view{excluded}"


def condition_title(name: str) -> str:
    """Return the title of a condition: NM, BG and CL, or e.g. `Mean`."""
    return name.upper() if len(name) == 2 else name.capitalize()


def percent(share: float | None) -> str:
    """Return a share 0..1 in percent without the sign; a hyphen for None."""
    return "-" if share is None else f"{100 * share:.1f}"


def percent_with_interval(share: float, ends: Sequence[float]) -> str:
    """Return a share in percent and its interval, e.g. `80.0 (70.0 to 90.0)`."""
    return f"{percent(share)} ({interval(ends)})"


def interval(ends: Sequence[float]) -> str:
    """Return both ends of an interval of shares in percent."""
    return f"{100 * ends[0]:.1f} to {100 * ends[1]:.1f}"
