"""CSTL against its neighbours: accuracy, latency, memory and cost of each network side by side."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import count

from cstl_edge.bench.record import Row
from cstl_edge.bench.report.compare import stage_of
from cstl_edge.bench.report.formatting import count as counted
from cstl_edge.bench.report.formatting import mark, number
from cstl_edge.bench.report.load import Chapter, text
from cstl_edge.bench.report.page import Section
from cstl_edge.bench.report.tables import DASH, Table, value_of, without_empty

BACKENDS = ("onnxruntime", "pytorch")
RANK1 = ("rank1_nm", "rank1_bg", "rank1_cl", "rank1")
COLUMNS = (
    *("", "rank-1 normal", "bag", "coat", "mean", "whole window ms", "one more frame ms"),
    *("eager PyTorch, whole ms", "peak memory MB", "parameters", "10⁶ multiply-adds"),
)
LEAD = (
    "Networks of the paper's tables, written again from what is public about them and trained on "
    "synthetic people with one budget at one cost; one training each, so what another seed would "
    "change is in no interval. What is called a reconstruction has layers that are not public. "
    "Figures of other datasets do not compare with these. Times and memory: ONNX Runtime where "
    "nothing else is said, random weights, which cost the same.",
)


def peers(chapter: Chapter, n: count[int]) -> Section | None:
    """A table per widths: at the common cost, as published."""
    rows = chapter.of("peers")
    kinds: dict[str, list[Row]] = {}
    for row in rows:
        if row.subject is not None:
            kinds.setdefault(text(row.details.get("widths")), []).append(row)
    trained = kinds.pop("", [])  # accuracy is measured at the first widths
    tables = [
        _table(f"Widths: {kind}" if kind else "Networks", [*found, *(trained if not k else [])])
        for k, (kind, found) in enumerate((kinds or {"": []}).items())
    ]
    tables = [table for table in tables if table.rows]
    return Section("peers", "Against its neighbours", LEAD, tuple(tables)) if tables else None


def _table(title: str, rows: Sequence[Row]) -> Table:
    names = list(dict.fromkeys(row.subject.name for row in rows if row.subject))
    return without_empty(Table(title, COLUMNS, tuple(_line(name, rows) for name in names)))


def _line(name: str, rows: Sequence[Row]) -> tuple[str, ...]:
    own = [row for row in rows if row.subject and row.subject.name == name]
    adds = _last(own, "multiply_adds", "full")
    return (
        name,
        *(_accuracy(own, key) for key in RANK1),
        _median(own, BACKENDS[0], "full"),
        _median(own, BACKENDS[0], "streaming"),
        _median(own, BACKENDS[1], "full"),
        DASH if (row := _last(own, "peak_memory_mb", "full")) is None
        else number(row.values["peak_memory_mb"]),
        DASH if adds is None else counted(adds.values.get("parameters", 0)),
        DASH if adds is None else number(adds.values["multiply_adds"] / 1e6, 0.1, digits=4),
    )  # fmt: skip


def _accuracy(rows: Sequence[Row], key: str) -> str:
    """Return the accuracy after the longest training."""
    found = [row for row in rows if key in row.values]
    longest = max(found, key=lambda row: row.values.get("iterations", 0), default=None)
    return DASH if longest is None else value_of(longest, key)


def _median(rows: Sequence[Row], backend: str, graph: str) -> str:
    found = [
        row
        for row in rows
        if row.contender.split(" ")[0] == backend and row.case.graph == graph and stage_of(row)
    ]
    return str(mark(found[-1].samples[stage_of(found[-1]) or ""], 50)) if found else DASH


def _last(rows: Sequence[Row], value: str, graph: str) -> Row | None:
    """Return the last row that has a value, of ONNX Runtime where both have."""
    found = [row for row in rows if value in row.values and row.case.graph == graph]
    found.sort(key=lambda row: row.contender.split(" ")[0] == BACKENDS[0])
    return found[-1] if found else None
