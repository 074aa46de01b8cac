"""Section of the peers: CSTL beside other networks in accuracy, latency, memory and cost."""

from __future__ import annotations

from collections.abc import Sequence

from cstl_edge.bench.record import Row
from cstl_edge.bench.report.formatting import number, whole
from cstl_edge.bench.report.load import MachineResults, one_line_text
from cstl_edge.bench.report.page import Section
from cstl_edge.bench.report.rows import format_value, median, timed_rows
from cstl_edge.measure.tables import DASH, Table

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


def peers(_results: MachineResults, rows: Sequence[Row]) -> Section | None:
    """Show a table per widths: at the common cost, as published."""
    kinds: dict[str, list[Row]] = {}
    for row in rows:
        if row.subject is not None:
            kinds.setdefault(one_line_text(row.details.get("widths")), []).append(row)
    trained = kinds.pop("", [])  # accuracy is measured at the first widths
    tables = [
        _table(f"Widths: {kind}" if kind else "Networks", [*own, *(trained if not k else [])])
        for k, (kind, own) in enumerate((kinds or {"": []}).items())
    ]
    tables = [table for table in tables if table.rows]
    return Section("Against its neighbours", LEAD, tuple(tables)) if tables else None


def _table(title: str, rows: Sequence[Row]) -> Table:
    names = dict.fromkeys(row.subject.name for row in rows if row.subject)
    lines = tuple(_line(name, rows) for name in names)
    return Table(title, COLUMNS, lines).without_empty_columns()


def _line(name: str, rows: Sequence[Row]) -> tuple[str, ...]:
    own = [row for row in rows if row.subject and row.subject.name == name]
    cost, memory = _last(own, "multiply_adds"), _last(own, "peak_memory_mb")
    return (
        name,
        *(_accuracy(own, key) for key in RANK1),
        _median(own, BACKENDS[0], "full"),
        _median(own, BACKENDS[0], "streaming"),
        _median(own, BACKENDS[1], "full"),
        DASH if memory is None else number(memory.values["peak_memory_mb"]),
        DASH if cost is None else whole(cost.values.get("parameters", 0)),
        DASH if cost is None else number(cost.values["multiply_adds"] / 1e6, 0.1, digits=4),
    )


def _accuracy(rows: Sequence[Row], key: str) -> str:
    """Return the accuracy after the longest training."""
    trained = [row for row in rows if key in row.values]
    longest = max(trained, key=lambda row: row.values.get("iterations", 0), default=None)
    return DASH if longest is None else format_value(longest, key)


def _median(rows: Sequence[Row], backend: str, graph: str) -> str:
    timed = [row for row in timed_rows(rows) if row.case.graph == graph]
    own = [row for row in timed if row.contender.split(" ")[0] == backend]
    return str(median(own[-1])) if own else DASH


def _last(rows: Sequence[Row], value: str) -> Row | None:
    """Return the last row of a whole window with a value, of ONNX Runtime where both have it."""
    known = [row for row in rows if value in row.values and row.case.graph == "full"]
    known.sort(key=lambda row: row.contender.split(" ")[0] == BACKENDS[0])
    return known[-1] if known else None
