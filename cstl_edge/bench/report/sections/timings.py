"""Sections of times: graphs, one walker, many walkers, whole sequences, camera to event, others."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from cstl_edge.bench.record import Case, Row
from cstl_edge.bench.report.charts import plots
from cstl_edge.bench.report.charts.plots import Bar, TriedCount
from cstl_edge.bench.report.charts.svg import Picture
from cstl_edge.bench.report.formatting import quantile
from cstl_edge.bench.report.load import MachineResults
from cstl_edge.bench.report.page import Section
from cstl_edge.bench.report.rows import (
    describe_case,
    main_times,
    median,
    row_name,
    single_network,
    split_cases,
    timed_rows,
)
from cstl_edge.bench.report.tables import stage_table, timing_table, value_table
from cstl_edge.errors import DataError, one_line
from cstl_edge.measure.tables import Table

STRIPS = 16  # rows of one picture
CASES = 4  # pictures of the graph scenario at most; its tables have every case
WINDOW = 30  # frames
LIMIT_MS = 40.0  # between two frames of a camera
STREET_MS = 200.0  # from the camera to the end of a frame's work
THROUGHPUT = (
    *("sequences_per_s", "frames_per_s", "sequences_per_core_minute", "casia_b_test_minutes"),
)
NO_STAGE = ("wall", "total", "latency", "late")  # the whole, and what is no work
SINGLE = (
    "What one more frame of one walker costs. The usual way is eager PyTorch that computes the "
    "whole window anew for every answer. At hop 5, an answer at every fifth frame, a frame "
    "carries its share of the answer, and the usual way too answers at every fifth.",
)
GRAPH = (
    "Each backend and precision takes its turn within a case, so that ratios share conditions.",
)
MULTI = (
    "The most walkers at 25 frames per second who hold p99 < 40 ms, each answered for at every "
    "fifth frame, embedding only. The number found was run once more and longer.",
)
OFFLINE = (
    "Whole sequences from silhouettes that are there already, as when many people are enrolled. "
    "CASIA-B's test half is 5,485 sequences, here taken to have as many frames as the row says; "
    "what it takes follows from the throughput.",
)
END_TO_END = (
    "The whole live path: camera or file, segmentation, tracking, silhouettes, embedding, "
    "matching against a gallery of 20 people drawn at random. Two stages may run at once, so "
    "their sum can exceed the whole.",
)
GALLERY = (
    "One search on one core among made-up people with five templates each. Up to 50,000 templates "
    "a search gives the exact answer, above 2,048 by 8-bit products first; above, two stages "
    "choose by short vectors and compare the nearest exactly. Recall is the share of 20 people "
    "for whom the nearest is that of a comparison with all templates.",
)
OTHER = ("The report has no section of its own for this scenario: values and times as recorded.",)


def single(_results: MachineResults, rows: Sequence[Row]) -> Section | None:
    """Show what an answer for one walker costs, and its speed as a multiple of the baseline's."""
    timed = timed_rows(rows)
    if not timed:
        return None
    paced = [row for row in timed if row.case.paced_hz is not None]
    at_once = [row for row in timed if row.case.paced_hz is None]
    tables = _shown(
        _times("Back to back", at_once), _times("At a camera's pace, frame by frame", paced)
    )
    strips = (_strips("One more frame, back to back", at_once),) if at_once else ()
    return Section("One walker", SINGLE, tables, strips)


def graph(_results: MachineResults, rows: Sequence[Row]) -> Section | None:
    """Show every graph by itself, a table and a picture per case."""
    timed = timed_rows(rows)
    if not timed:
        return None
    cases: dict[str, list[Row]] = {}
    for row in timed:
        cases.setdefault(describe_case(row.case), []).append(row)
    tables = [timing_table(case, own) for case, own in cases.items()]
    stages = stage_table("Stages as the device timed them", timed)
    common = [(case, own) for case, own in cases.items() if _is_common(own[0].case)]
    strips = tuple(_strips(case, own) for case, own in common[-CASES:])
    return Section("The graphs by themselves", GRAPH, _shown(*tables, stages), strips)


def _is_common(case: Case) -> bool:
    """Tell whether a case is worth a picture: one walker or window, back to back."""
    return (case.batch, case.paced_hz) == (1, None) and case.frames in (None, WINDOW)


def multi(_results: MachineResults, rows: Sequence[Row]) -> Section:
    """Show how many walkers are held at a camera's pace."""
    tables = _shown(_times("Walkers held", timed_rows(rows), ["walkers"]))
    pictures = _search("Numbers of walkers tried", rows, "latency_ms", LIMIT_MS)
    return Section("Many walkers", MULTI, tables, pictures)


def offline(_results: MachineResults, rows: Sequence[Row]) -> Section:
    """Show whole sequences, as when people are enrolled."""
    tables = [value_table("Throughput", rows, THROUGHPUT, only=True)]
    if timed := timed_rows(rows):
        tables.append(replace(timing_table("Times of a batch", timed, []), folded=True))
    return Section("Offline", OFFLINE, _shown(*tables))


def end_to_end(_results: MachineResults, rows: Sequence[Row]) -> Section:
    """Show the way from camera to event, stage by stage."""
    pictures = (
        *_stacked("Where a frame's time goes", rows),
        *_search("Walkers who cross together", rows, "total_ms", STREET_MS),
    )
    tables = _shown(value_table("Held", rows, ("walkers",)), stage_table("By stage", rows))
    return Section("From camera to event", END_TO_END, tables, pictures)


def gallery(_results: MachineResults, rows: Sequence[Row]) -> Section | None:
    """Show how a search grows with the number of templates."""
    timed = sorted(timed_rows(rows), key=lambda row: row.values.get("templates", 0))
    if not timed:
        return None
    tables = _shown(_times("One search", timed, ["templates", "us_per_1000_templates"]))
    return Section("Galleries that grow", GALLERY, tables, (_strips("One search", timed),))


def other(_results: MachineResults, rows: Sequence[Row]) -> Section | None:
    """Show a scenario that another package added: values, percentiles, medians of all stages."""
    valued, timed = [row for row in rows if row.values], timed_rows(rows)
    times = timing_table("Times", timed, []) if timed else None
    tables = _shown(value_table("Values", valued), times, stage_table("By stage", rows))
    return Section(f"Scenario {rows[0].scenario}", OTHER, tables) if tables else None


def _times(title: str, rows: Sequence[Row], first: Sequence[str] = ()) -> Table | None:
    """Return the times of rows with all their values, some first."""
    names = dict.fromkeys([*first, *(name for row in rows for name in row.values)])
    return timing_table(title, rows, list(names)) if rows else None


def _shown(*tables: Table | None) -> tuple[Table, ...]:
    """Leave out tables that have no column beside their names."""
    return tuple(t for t in tables if t is not None and len(t.columns) > t.left and t.rows)


def _search(title: str, rows: Sequence[Row], samples: str, limit_ms: float) -> tuple[Picture, ...]:
    """Draw the numbers of walkers that searches tried; `samples` is a key of each in `details`."""
    searches = [(x.contender, n) for x in rows if (n := _trial_counts(x, samples, limit_ms))]
    labels = ("walkers seen at once", "p99 of the latency [ms]")
    return (plots.search_plot(title, searches, limit_ms, labels),) if searches else ()


def _trial_counts(row: Row, samples: str, limit_ms: float) -> list[TriedCount]:
    """Return the numbers that a row's search tried (DataError)."""
    try:
        counts = []
        for record in row.details.get("tried", ()):
            p99 = quantile([float(x) for x in record[samples]], 99).value
            held = bool(record.get("holds", p99 < limit_ms))
            counts.append(TriedCount(float(record["walkers"]), p99, held))
            if not (0 <= p99 < math.inf and 0 <= counts[-1].walkers < math.inf):
                raise ValueError(f"{counts[-1].walkers:g} walkers in {p99:g} ms")
        return counts
    except (AttributeError, KeyError, TypeError, ValueError) as err:
        raise DataError(
            f"expected the numbers of walkers that {one_line(row.contender)} was tried with and "
            f"their latencies; got {one_line(repr(err))}"
        ) from err


def _strips(title: str, rows: Sequence[Row]) -> Picture:
    one_network = single_network(rows)
    ordered = sorted(rows, key=lambda row: median(row).value)[:STRIPS]
    strips = []
    for row, case in zip(ordered, split_cases(ordered)[1], strict=True):
        label = ": ".join(x for x in (row_name(row, one_network), case) if x)
        strips.append((label, row.contender, main_times(row)))
    return plots.strip_plot(title, strips)


def _stacked(title: str, rows: Sequence[Row]) -> tuple[Picture, ...]:
    bars = []
    for row, case in zip(rows, split_cases(rows)[1], strict=True):
        stages = {s: quantile(x, 50).value for s, x in row.samples.items()
                  if x and s not in NO_STAGE}  # fmt: skip
        times = main_times(row)
        ends = (quantile(times, 50).value, quantile(times, 99).value) if times else None
        if stages:
            label = ": ".join(x for x in (row.contender, case) if x)
            bars.append(Bar(label, stages, ends))
    return (plots.stacked_bars(title, bars),) if bars else ()
