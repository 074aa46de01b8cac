"""Section of trtexec: NVIDIA's times, ours beside them, and the time of each layer."""

from __future__ import annotations

from collections.abc import Sequence

from cstl_edge.bench.record import Row
from cstl_edge.bench.report.charts import plots
from cstl_edge.bench.report.formatting import number
from cstl_edge.bench.report.load import MachineResults, one_line_text
from cstl_edge.bench.report.page import Section
from cstl_edge.bench.report.rows import describe_case, main_times, timed_rows
from cstl_edge.bench.report.tables import stage_table, timing_table
from cstl_edge.bench.trtexec import compare_stages
from cstl_edge.errors import DataError
from cstl_edge.measure.tables import DASH, Line, Table

MOST_LAYERS = 30
ENGINES = "tensorrt"
LEAD = (
    "As trtexec exported it. Its files do not say where and for what shapes it ran: they are laid "
    "beside the engines of this machine, and only the same case means anything.",
)


def trtexec(results: MachineResults, rows: Sequence[Row]) -> Section:
    """Show times, their stages beside ours, layers."""
    timed = timed_rows(rows)
    ours = [row for row in results.rows_of("graph") if row.contender.startswith(ENGINES)]
    tables = (
        timing_table("End to end", timed, ["queries_per_s"]) if timed else None,
        stage_table("By stage", timed),
        _beside(ours, timed),
        *(_layers(row) for row in rows),
    )
    strips = [(row.contender, row.contender, main_times(row)) for row in timed]
    pictures = (plots.strip_plot("Latency", strips),) if strips else ()
    return Section("trtexec", LEAD, tuple(table for table in tables if table), pictures)


def _beside(ours: Sequence[Row], theirs: Sequence[Row]) -> Table | None:
    """Set the median of every stage of ours beside theirs."""
    lines: list[Line] = []
    for row, other in ((row, other) for row in ours for other in theirs):
        try:
            stages = compare_stages(row, other)
        except DataError:  # no stage in common: nothing to set beside
            continue
        for stage in stages:
            ratio = DASH if stage.ratio is None else number(stage.ratio, 0.01)
            figures = (number(stage.ours_ms), number(stage.theirs_ms), ratio)
            case = describe_case(row.case)
            lines.append((row.contender, case, other.contender, stage.stage, *figures))
    if not lines:
        return None
    columns = ("", "case", "trtexec", "stage", "p50 ours ms", "p50 theirs ms", "ours / theirs")
    return Table("Ours beside it", columns, tuple(lines), left=4).without_empty_columns()


def _layers(row: Row) -> Table | None:
    """Show the slowest layers of a profile."""
    records = row.details.get("layers")
    if not isinstance(records, list):
        return None
    layers = [x for x in records if isinstance(x, dict) and isinstance(x.get("average_ms"), float)]
    layers.sort(key=lambda layer: -float(layer["average_ms"]))
    lines = tuple(
        (
            one_line_text(layer.get("name")),
            number(layer["average_ms"]),
            number(layer["percentage"]) if isinstance(layer.get("percentage"), float) else DASH,
        )
        for layer in layers[:MOST_LAYERS]
    )
    title = f"Slowest layers of {len(layers)}: {row.contender}"
    columns = ("layer", "average ms", "share %")
    return Table(title, columns, lines, folded=True) if lines else None
