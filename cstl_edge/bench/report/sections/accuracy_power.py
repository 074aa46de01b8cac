"""Sections of accuracy beside speed, and of power."""

from __future__ import annotations

from collections.abc import Sequence

from cstl_edge.bench.record import Row
from cstl_edge.bench.report.charts import plots
from cstl_edge.bench.report.charts.plots import Point
from cstl_edge.bench.report.charts.svg import Picture
from cstl_edge.bench.report.formatting import Quantile
from cstl_edge.bench.report.load import MachineResults, one_line_text
from cstl_edge.bench.report.page import Section
from cstl_edge.bench.report.rows import main_stage, median
from cstl_edge.bench.report.tables import value_table
from cstl_edge.measure.tables import DASH

WINDOW = 30  # frames
ACCURACY = ("rank1", "rank1_difference", "fnir", "fnir_difference", "rank1_same_view")
POWER = (
    *("joules_per_embedding_gross", "joules_per_embedding_net"),
    *("watts_idle", "watts_gross", "watts_net", "watts_gross_tegrastats"),
    *("embeddings", "seconds", "samples_hz"),
)


def accuracy(results: MachineResults, rows: Sequence[Row]) -> Section:
    """Show accuracy beside speed, joined by backend."""
    graph, single = results.rows_of("graph"), results.rows_of("single")
    window = [_median(graph, row, ("full", 1, None)) for row in rows]
    frame = [_median(single, row, ("streaming", None, 1)) for row in rows]
    table = value_table("Accuracy and speed", rows, ACCURACY, only=True)
    for name, times in (("one more frame ms", frame), ("whole window ms", window)):
        if any(times):
            table = table.with_column(name, [str(time) if time else DASH for time in times])
    pictures = [
        _pareto(f"Rank-1 over the time of {what}", rows, times)
        for what, times in (("a whole window", window), ("one more frame", frame))
        if sum(time is not None for time in times) > 1
    ]
    return Section("Accuracy beside speed", (_lead(rows),), (table,), tuple(pictures))


def _lead(rows: Sequence[Row]) -> str:
    """Return on whom accuracy was measured, and what that shows."""
    counts = sorted({int(row.values["people"]) for row in rows if "people" in row.values})
    people = " and ".join(str(x) for x in counts)
    who = f"On {people} synthetic people (Walkers) that nothing was trained on. " if people else ""
    return (
        f"{who}Times are medians of the same contender on the same network, batch 1, back to back; "
        "differences are paired with float32 on the same people. Intervals: 95 %."
    )


def _median(
    rows: Sequence[Row], of: Row, case: tuple[str, int | None, int | None]
) -> Quantile | None:
    """Return the median of a row's backend and network, back to back; None if not measured.

    rows: Rows of times.
    of: The row of accuracy.
    case: Graph, batch and hop; of 30 frames or the nearest number.
    """
    matches = [
        row
        for row in rows
        if (row.contender, row.subject, row.case.paced_hz) == (of.contender, of.subject, None)
        and (row.case.graph, row.case.batch, row.case.hop) == case
        and main_stage(row)
    ]
    nearest = min(matches, key=lambda row: abs((row.case.frames or 0) - WINDOW), default=None)
    return None if nearest is None else median(nearest)


def _pareto(title: str, rows: Sequence[Row], times: Sequence[Quantile | None]) -> Picture:
    points = [
        Point(
            f"{row.contender}: {time} ms",
            row.contender,
            time.value,
            100 * row.values["rank1"],
            (100 * ends[0], 100 * ends[1]) if (ends := row.intervals.get("rank1")) else None,
        )
        for row, time in zip(rows, times, strict=True)
        if time is not None and time.value > 0 and "rank1" in row.values
    ]
    return plots.pareto_plot(title, points, "milliseconds", "rank-1 across views [%]")


def power(_results: MachineResults, rows: Sequence[Row]) -> Section:
    """Show watts and joules, where there is a meter."""
    scopes = [one_line_text(row.details.get("scope")) for row in rows]
    table = value_table("Power", rows, POWER)
    lead = (
        "Gross is all that the meter saw while a backend ran; net is that less the idle power just "
        "before. Nothing of the machine's power settings was changed.",
    )
    return Section(
        "Power", lead, (table.with_column("measured on", scopes) if any(scopes) else table,)
    )
