"""What is shown of the scenarios that are times: graphs, one walker, many, offline, end to end."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from itertools import count

from cstl_edge.bench.record import Case, Row
from cstl_edge.bench.report.charts import plots, scatter
from cstl_edge.bench.report.charts.plots import Bar, Picture
from cstl_edge.bench.report.charts.scatter import Try
from cstl_edge.bench.report.compare import stage_of
from cstl_edge.bench.report.formatting import mark
from cstl_edge.bench.report.load import Chapter
from cstl_edge.bench.report.page import Section
from cstl_edge.bench.report.tables import (
    Table,
    case_of,
    cases_of,
    name_of,
    one_network,
    stages,
    times,
    values,
)
from cstl_edge.errors import DataError, one_line

STRIPS = 16  # rows of one picture
CASES = 4  # pictures of the graph scenario at most; its tables have every case
WINDOW = 30  # frames
LIMIT_MS = 40.0  # between two frames of a camera
STREET_MS = 200.0  # from the camera to the end of a frame's work
THROUGHPUT = (
    "sequences_per_s",
    "frames_per_s",
    "sequences_per_core_minute",
    "casia_b_test_minutes",
)
NO_STAGE = ("wall", "total", "latency", "late")  # the whole, and what is no work


def single(chapter: Chapter, n: count[int]) -> Section | None:
    """One walker: what an answer costs, and how often as fast as the usual way."""
    timed = _timed(chapter.of("single"))
    if not timed:
        return None
    lead = (
        "What one more frame of one walker costs. The usual way is eager PyTorch that computes the "
        "whole window anew for every answer. At hop 5, an answer at every fifth frame, a frame "
        "carries its share of the answer, and the usual way too answers at every fifth.",
    )
    paced = [row for row in timed if row.case.paced_hz is not None]
    at_once = [row for row in timed if row.case.paced_hz is None]
    tables = [
        _times("Back to back", at_once),
        _times("At a camera's pace, frame by frame", paced),
    ]
    drawn = [_strips("One more frame, back to back", at_once, n)] if at_once else []
    return Section("single", "One walker", lead, _filled(tables), tuple(drawn))


def graph(chapter: Chapter, n: count[int]) -> Section | None:
    """Every graph by itself, a table and a picture per case."""
    rows = _timed(chapter.of("graph"))
    if not rows:
        return None
    cases: dict[str, list[Row]] = {}
    for row in rows:
        cases.setdefault(case_of(row.case), []).append(row)
    tables = [times(case, found) for case, found in cases.items()]
    apart = stages("Stages as the device timed them", rows)
    drawn = [_strips(case, found, n) for case, found in cases.items() if _usual(found[0].case)]
    lead = (
        "Each backend and precision takes its turn within a case, so that ratios share conditions."
    )
    made = _filled([*tables, apart])
    return Section("graph", "The graphs by themselves", (lead,), made, tuple(drawn[-CASES:]))


def _usual(case: Case) -> bool:
    """Tell whether a case is worth a picture: one walker or window, back to back."""
    return (case.batch, case.paced_hz) == (1, None) and case.frames in (None, WINDOW)


def multi(chapter: Chapter, n: count[int]) -> Section | None:
    """How many walkers are held at a camera's pace."""
    rows = chapter.of("multi")
    if not rows:
        return None
    lead = (
        "The most walkers at 25 frames per second who hold p99 < 40 ms, each answered for at every "
        "fifth frame, embedding only. The number found was run once more and longer.",
    )
    tables = [_times("Walkers held", _timed(rows), ["walkers"])]
    drawn = _tries("Numbers of walkers tried", rows, "latency_ms", LIMIT_MS, n)
    return Section("multi", "Many walkers", lead, _filled(tables), drawn)


def _tries(
    title: str, rows: Sequence[Row], raw: str, limit_ms: float, n: count[int]
) -> tuple[Picture, ...]:
    """Draw what a search tried, of rows whose details have it under the name of the samples."""
    found = [(row.contender, tried) for row in rows if (tried := _tried(row, raw, limit_ms))]
    labels = ("walkers seen at once", "p99 of the latency [ms]")
    return (scatter.tries(title, found, limit_ms, labels, n),) if found else ()


def _tried(row: Row, raw: str, limit_ms: float) -> list[Try]:
    """Return every try of a row (DataError)."""
    try:
        made = []
        for one in row.details.get("tried", ()):
            p99 = mark([float(x) for x in one[raw]], 99).value
            one_try = Try(float(one["walkers"]), p99, bool(one.get("holds", p99 < limit_ms)))
            if not (0 <= p99 < math.inf and 0 <= one_try.walkers < math.inf):
                raise ValueError(f"{one_try.walkers:g} walkers in {p99:g} ms")
            made.append(one_try)
        return made
    except (AttributeError, KeyError, TypeError, ValueError) as err:
        raise DataError(
            f"expected the numbers of walkers that {one_line(row.contender)} was tried with and "
            f"their latencies; got {one_line(repr(err))}"
        ) from err


def offline(chapter: Chapter, n: count[int]) -> Section | None:
    """Whole sequences, as when people are enrolled."""
    rows = chapter.of("offline")
    if not rows:
        return None
    lead = (
        "Whole sequences from silhouettes that are there already, as when many people are "
        "enrolled. CASIA-B's test half is 5,485 sequences, here taken to have as many frames as "
        "the row says; what it takes follows from the throughput.",
    )
    tables = [values("Throughput", rows, THROUGHPUT, only=True)]
    if timed := _timed(rows):
        tables.append(replace(times("Times of a batch", timed, []), folded=True))
    return Section("offline", "Offline", lead, _filled(tables))


def end_to_end(chapter: Chapter, n: count[int]) -> Section | None:
    """From camera to event, stage by stage."""
    rows = chapter.of("end_to_end")
    if not rows:
        return None
    lead = (
        "The whole live path: camera or file, segmentation, tracking, silhouettes, embedding, "
        "matching against a gallery of 20 people drawn at random. Two stages may run at once, so "
        "their sum can exceed the whole.",
    )
    drawn = (
        *_stacked("Where a frame's time goes", rows, n),
        *_tries("Walkers who cross together", rows, "total_ms", STREET_MS, n),
    )
    tables = _filled([values("Held", rows, ("walkers",)), stages("By stage", rows)])
    return Section("end_to_end", "From camera to event", lead, tables, drawn)


def _timed(rows: Sequence[Row]) -> list[Row]:
    return [row for row in rows if stage_of(row)]


def _times(title: str, rows: Sequence[Row], first: Sequence[str] = ()) -> Table | None:
    """Return the times of rows with all their values, some first."""
    names = dict.fromkeys([*first, *(name for row in rows for name in row.values)])
    return times(title, rows, list(names)) if rows else None


def _filled(tables: Sequence[Table | None]) -> tuple[Table, ...]:
    """Leave out tables that have no column beside their names."""
    return tuple(t for t in tables if t is not None and len(t.columns) > t.left and t.rows)


def _strips(title: str, rows: Sequence[Row], n: count[int]) -> Picture:
    alone = one_network(rows)
    ordered = sorted(rows, key=lambda r: mark(r.samples[stage_of(r) or ""], 50).value)[:STRIPS]
    _, own = cases_of(ordered)
    shown = [
        (
            ": ".join(x for x in (name_of(row, alone), own[k]) if x),
            row.contender,
            row.samples[stage_of(row) or ""],
        )
        for k, row in enumerate(ordered)
    ]
    return plots.strips(title, shown, n)


def _stacked(title: str, rows: Sequence[Row], n: count[int]) -> tuple[Picture, ...]:
    bars = []
    _, own = cases_of(rows)
    for k, row in enumerate(rows):
        parts = {s: mark(x, 50).value for s, x in row.samples.items() if x and s not in NO_STAGE}
        whole = stage_of(row)
        if parts:
            taken = row.samples[whole] if whole else []
            ends = (mark(taken, 50).value, mark(taken, 99).value) if taken else None
            label = ": ".join(x for x in (row.contender, own[k]) if x)
            bars.append(Bar(label, parts, ends))
    return (plots.stacks(title, bars, n),) if bars else ()
