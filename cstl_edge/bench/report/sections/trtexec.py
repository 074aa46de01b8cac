"""What NVIDIA's trtexec measured, ours beside it, and the time of each layer."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import count

from cstl_edge.bench.record import Row
from cstl_edge.bench.report.charts import plots
from cstl_edge.bench.report.compare import stage_of
from cstl_edge.bench.report.formatting import number
from cstl_edge.bench.report.load import Chapter, text
from cstl_edge.bench.report.page import Section
from cstl_edge.bench.report.tables import DASH, Line, Table, case_of, stages, times, without_empty
from cstl_edge.bench.trtexec import compare_stages
from cstl_edge.errors import DataError

MOST_LAYERS = 30
ENGINES = "tensorrt"
LEAD = (
    "As trtexec exported it. Its files do not say where and for what shapes it ran: they are laid "
    "beside the engines of this machine, and only the same case means anything.",
)


def trtexec(chapter: Chapter, n: count[int]) -> Section | None:
    """Times, their stages beside ours, layers."""
    rows = chapter.of("trtexec")
    if not rows:
        return None
    timed = [row for row in rows if stage_of(row)]
    ours = [row for row in chapter.of("graph") if row.contender.startswith(ENGINES)]
    made = [
        times("End to end", timed, ["queries_per_s"]) if timed else None,
        stages("By stage", timed),
        _beside(ours, timed),
        *(_layers(row) for row in rows),
    ]
    strips = [(row.contender, row.contender, row.samples[stage_of(row) or ""]) for row in timed]
    drawn = (plots.strips("Latency", strips, n),) if strips else ()
    return Section("trtexec", "trtexec", LEAD, tuple(one for one in made if one), drawn)


def _beside(ours: Sequence[Row], theirs: Sequence[Row]) -> Table | None:
    """Lay the median of every stage of ours beside theirs."""
    lines: list[Line] = []
    for row, other in ((row, other) for row in ours for other in theirs):
        try:
            found = compare_stages(row, other)
        except DataError:  # no stage in common: nothing to lay beside
            continue
        for one in found:
            ratio = DASH if one.ratio is None else number(one.ratio, 0.01)
            figures = (number(one.ours_ms), number(one.theirs_ms), ratio)
            lines.append((row.contender, case_of(row.case), other.contender, one.stage, *figures))
    columns = ("", "case", "trtexec", "stage", "p50 ours ms", "p50 theirs ms", "ours / theirs")
    return without_empty(Table("Ours beside it", columns, tuple(lines), left=4)) if lines else None


def _layers(row: Row) -> Table | None:
    """Show the slowest layers of a profile."""
    found = row.details.get("layers")
    if not isinstance(found, list):
        return None
    layers = [x for x in found if isinstance(x, dict) and isinstance(x.get("average_ms"), float)]
    layers.sort(key=lambda layer: -float(layer["average_ms"]))
    lines = tuple(
        (
            text(layer.get("name")),
            number(layer["average_ms"]),
            number(layer["percentage"]) if isinstance(layer.get("percentage"), float) else DASH,
        )
        for layer in layers[:MOST_LAYERS]
    )
    title = f"Slowest layers of {len(layers)}: {row.contender}"
    columns = ("layer", "average ms", "share %")
    return Table(title, columns, lines, folded=True) if lines else None
