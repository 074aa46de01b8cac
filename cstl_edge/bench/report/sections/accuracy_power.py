"""What is shown beside the times: accuracy beside speed, and power."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import count

from cstl_edge.bench.record import Row
from cstl_edge.bench.report.charts import scatter
from cstl_edge.bench.report.charts.plots import Picture
from cstl_edge.bench.report.charts.scatter import Point
from cstl_edge.bench.report.compare import stage_of
from cstl_edge.bench.report.formatting import Mark, mark
from cstl_edge.bench.report.load import Chapter, text
from cstl_edge.bench.report.page import Section
from cstl_edge.bench.report.tables import DASH, values, with_column

WINDOW = 30  # frames
ACCURACY = ("rank1", "rank1_difference", "fnir", "fnir_difference", "rank1_same_view")
POWER = (
    *("joules_per_embedding_gross", "joules_per_embedding_net"),
    *("watts_idle", "watts_gross", "watts_net", "watts_gross_tegrastats"),
    *("embeddings", "seconds", "samples_hz"),
)


def accuracy(chapter: Chapter, n: count[int]) -> Section | None:
    """Accuracy beside speed, joined by contender."""
    rows = chapter.of("accuracy")
    if not rows:
        return None
    window = [_window(chapter, row) for row in rows]
    frame = [_frame(chapter, row) for row in rows]
    table = values("Accuracy and speed", rows, ACCURACY, only=True)
    for name, found in (("one more frame ms", frame), ("whole window ms", window)):
        cells = [DASH if one is None else str(one) for one in found]
        if set(cells) != {DASH}:
            table = with_column(table, table.left, name, cells)
    drawn = [
        _pareto(f"Rank-1 over the time of {what}", rows, found, n)
        for what, found in (("a whole window", window), ("one more frame", frame))
        if sum(one is not None for one in found) > 1
    ]
    return Section("accuracy", "Accuracy beside speed", _people(rows), (table,), tuple(drawn))


def _people(rows: Sequence[Row]) -> tuple[str, ...]:
    """Say on whom accuracy was measured, and what that shows."""
    people = sorted({int(row.values["people"]) for row in rows if "people" in row.values})
    said = " and ".join(str(x) for x in people)
    who = f"On {said} synthetic people (Walkers) that nothing was trained on. " if people else ""
    return (
        f"{who}Times are medians of the same contender on the same network, batch 1, back to back; "
        "differences are paired with float32 on the same people. Intervals: 95 %.",
    )


def _window(chapter: Chapter, of: Row) -> Mark | None:
    """Return the median of one whole window by the contender and network of a row, if measured."""
    return _median(chapter.of("graph"), of, ("full", 1, None))


def _frame(chapter: Chapter, of: Row) -> Mark | None:
    """Return the median of one more frame answered for at once, if measured."""
    return _median(chapter.of("single"), of, ("streaming", None, 1))


def _median(
    rows: Sequence[Row], of: Row, wanted: tuple[str, int | None, int | None]
) -> Mark | None:
    """Return the median back to back in a case of (graph, batch, hop), 30 frames or nearest."""
    found = [
        row
        for row in rows
        if (row.contender, row.subject, row.case.paced_hz) == (of.contender, of.subject, None)
        and (row.case.graph, row.case.batch, row.case.hop) == wanted
        and stage_of(row)
    ]
    found.sort(key=lambda row: abs((row.case.frames or 0) - WINDOW))
    return mark(found[0].samples[stage_of(found[0]) or ""], 50) if found else None


def _pareto(
    title: str, rows: Sequence[Row], times: Sequence[Mark | None], n: count[int]
) -> Picture:
    points = [
        Point(
            f"{row.contender}: {time} ms",
            row.contender,
            time.value,
            100 * row.values["rank1"],
            y_interval=_percents(row.intervals.get("rank1")),
        )
        for row, time in zip(rows, times, strict=True)
        if time is not None and time.value > 0 and "rank1" in row.values
    ]
    return scatter.plane(title, points, "milliseconds", "rank-1 across views [%]", n)


def _percents(ends: tuple[float, float] | None) -> tuple[float, float] | None:
    return (100 * ends[0], 100 * ends[1]) if ends else None


def power(chapter: Chapter, n: count[int]) -> Section | None:
    """Watts and joules, where there is a meter."""
    rows = chapter.of("power")
    if not rows:
        return None
    scopes = [text(row.details.get("scope")) for row in rows]
    table = values("Power", rows, POWER)
    table = with_column(table, table.left, "measured on", scopes) if any(scopes) else table
    lead = (
        "Gross is all that the meter saw while a backend ran; net is that less the idle power just "
        "before. Nothing of the machine's power settings was changed.",
    )
    return Section("power", "Power", lead, (table,))
