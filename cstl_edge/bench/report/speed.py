"""What is shown of the scenarios that are times: graphs, one walker, many, offline, end to end."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import count

from cstl_edge.bench.record import Row
from cstl_edge.bench.report import pictures
from cstl_edge.bench.report.cells import stages, times, values
from cstl_edge.bench.report.compare import stage_of
from cstl_edge.bench.report.digits import mark
from cstl_edge.bench.report.load import Chapter
from cstl_edge.bench.report.page import Section
from cstl_edge.bench.report.pictures import Bar, Picture
from cstl_edge.bench.report.tables import Table, case_of, name_of, one_network

STRIPS = 16  # rows of one picture
CASES = 4  # pictures of the graph scenario; the other cases are in its tables
NO_STAGE = ("wall", "total", "latency", "late")  # the whole, and what is no work


def single(chapter: Chapter, n: count[int]) -> Section | None:
    """One walker: what an answer costs, and how often as fast as the usual way."""
    rows = chapter.of("single")
    timed = _timed(rows)
    if not timed:
        return None
    lead = (
        "What one more frame of one walker costs. The usual way is eager PyTorch that computes the "
        "whole window anew for every answer."
    )
    tables = [times("One more frame", timed, versus=None), values("Beside it", rows)]
    return Section(
        "single", "One walker", (lead,), _filled(tables), (_strips("One more frame", timed, n),)
    )


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
    drawn = [_strips(case, found, n) for case, found in list(cases.items())[:CASES]]
    lead = (
        "Each backend and precision takes its turn within a case, so that ratios share conditions."
    )
    return Section(
        "graph", "The graphs by themselves", (lead,), _filled([*tables, apart]), tuple(drawn)
    )


def multi(chapter: Chapter, n: count[int]) -> Section | None:
    """How many walkers are held at a camera's pace."""
    rows = chapter.of("multi")
    if not rows:
        return None
    lead = (
        "The most walkers at 25 frames per second whose answers hold p99 < 40 ms, found by search."
    )
    tables = [values("Walkers held", rows, ("walkers",)), *_timed_table("At that number", rows)]
    return Section("multi", "Many walkers", (lead,), _filled(tables))


def offline(chapter: Chapter, n: count[int]) -> Section | None:
    """Whole sequences, as when people are enrolled."""
    rows = chapter.of("offline")
    if not rows:
        return None
    tables = [
        values("Throughput", rows, ("sequences_per_s",)),
        *_timed_table("Per batch", rows),
    ]
    return Section("offline", "Offline", (), _filled(tables))


def end_to_end(chapter: Chapter, n: count[int]) -> Section | None:
    """From camera to event, stage by stage."""
    rows = chapter.of("end_to_end")
    if not rows:
        return None
    drawn = _stacked("Where a frame's time goes", rows, n)
    tables = _filled([values("Held", rows), stages("By stage", rows)])
    return Section("end_to_end", "From camera to event", (), tables, drawn)


def trtexec(chapter: Chapter, n: count[int]) -> Section | None:
    """What NVIDIA's own tool measured."""
    rows = _timed(chapter.of("trtexec"))
    if not rows:
        return None
    tables = [times("As trtexec exported it", rows, versus=None), stages("By stage", rows)]
    return Section("trtexec", "trtexec", (), _filled(tables), (_strips("trtexec", rows, n),))


def _timed(rows: Sequence[Row]) -> list[Row]:
    return [row for row in rows if stage_of(row)]


def _timed_table(title: str, rows: Sequence[Row]) -> list[Table]:
    timed = _timed(rows)
    return [times(title, timed, versus=None)] if timed else []


def _filled(tables: Sequence[Table | None]) -> tuple[Table, ...]:
    """Leave out tables that have no column beside their names."""
    return tuple(t for t in tables if t is not None and len(t.columns) > t.left and t.rows)


def _strips(title: str, rows: Sequence[Row], n: count[int]) -> Picture:
    alone = one_network(rows)
    varied = len({case_of(row.case) for row in rows}) > 1
    ordered = sorted(rows, key=lambda r: mark(r.samples[stage_of(r) or ""], 50).value)
    shown = [
        (
            name_of(row, alone) + (f": {case_of(row.case)}" if varied else ""),
            row.contender,
            row.samples[stage_of(row) or ""],
        )
        for row in ordered[:STRIPS]
    ]
    return pictures.strips(title, shown, n)


def _stacked(title: str, rows: Sequence[Row], n: count[int]) -> tuple[Picture, ...]:
    bars = []
    for row in rows:
        parts = {s: mark(x, 50).value for s, x in row.samples.items() if x and s not in NO_STAGE}
        whole = stage_of(row)
        if parts:
            p99 = mark(row.samples[whole], 99).value if whole else None
            bars.append(Bar(f"{row.contender}: {case_of(row.case)}", parts, p99))
    return (pictures.stacks(title, bars, n),) if bars else ()
