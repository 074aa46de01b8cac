"""The few figures that a chapter leads with, each with what ran."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from cstl_edge.bench.record import Row
from cstl_edge.bench.report.compare import stage_of
from cstl_edge.bench.report.formatting import mark
from cstl_edge.bench.report.load import Chapter
from cstl_edge.bench.report.page import Headline
from cstl_edge.bench.report.tables import FAST, USUAL, case_of, times_as_fast, value_of

PLAIN = "float32"


@dataclass(frozen=True)
class Wanted:
    """A value that is a headline where a row has it."""

    scenario: str
    value: str
    what: str
    fits: Callable[[Row], bool] = lambda row: True
    largest: bool = True


WANTED = (
    Wanted(
        "single",
        FAST,
        "as fast as the usual way: one more frame of a walker, answered for at every frame",
        lambda row: (row.case.graph, row.case.hop, row.case.paced_hz) == ("streaming", 1, None),
    ),
    Wanted("multi", "walkers", "walkers at 25 frames per second with p99 < 40 ms, embedding only"),
    Wanted("end_to_end", "walkers", "walkers from camera to event, in time"),
    Wanted("offline", "sequences_per_core_minute", "sequences embedded per core-minute"),
    Wanted("accuracy", "rank1", "rank-1 across views, {people:.0f} synthetic people",
           lambda row: plain(row) and "people" in row.values),
    Wanted("power", "joules_per_embedding_net", "joules per embedding, idle subtracted",
           largest=False),
)  # fmt: skip


def headlines(chapter: Chapter) -> tuple[Headline, ...]:
    """Return the best of each wanted value, the ratio of a whole window among them."""
    made = [_best(wanted, chapter) for wanted in WANTED]
    made.insert(1, _window(chapter))
    return tuple(one for one in made if one is not None)


def plain(row: Row) -> bool:
    """Tell whether a row is in float32 without more.

    >>> plain(Row(run="r", scenario="graph", contender="pytorch float32, compiled"))
    True
    """
    return PLAIN in row.contender.replace(",", "").split(" ")


def _best(wanted: Wanted, chapter: Chapter) -> Headline | None:
    rows = [
        row
        for row in chapter.of(wanted.scenario)
        if wanted.value in row.values and wanted.fits(row)
    ]
    if not rows:
        return None
    sign = 1 if wanted.largest else -1
    rows.sort(key=lambda row: -sign * row.values[wanted.value])
    what = wanted.what.format_map(rows[0].values)
    return Headline(value_of(rows[0], wanted.value), what, _where(rows, wanted.value))


def _where(rows: Sequence[Row], value: str) -> str:
    """Say what the best row ran, and what float32 gives where that is another."""
    best = rows[0]
    said = ", ".join(x for x in (best.contender, case_of(best.case)) if x)
    other = next((row for row in rows if plain(row)), None)
    return said if other in (None, best) else f"{said}; {PLAIN}: {value_of(other, value)}"


def _window(chapter: Chapter) -> Headline | None:
    """A whole window of one walker, as a ratio to the usual way."""
    rows = [
        row
        for row in chapter.of("graph")
        if (row.case.graph, row.case.batch, row.case.paced_hz) == ("full", 1, None)
        and stage_of(row)
        and row.contender != USUAL
    ]
    ratios = {id(row): times_as_fast(row, chapter.of("graph"), USUAL) for row in rows}
    found = sorted(
        (row for row in rows if "×" in ratios[id(row)]),
        key=lambda row: mark(row.samples[stage_of(row) or ""], 50).value,
    )
    if not found:
        return None
    best, other = found[0], next((row for row in found if plain(row)), None)
    said = f"{best.contender}, {case_of(best.case)}"
    if other not in (None, best):
        said += f"; {PLAIN}: {ratios[id(other)]} ({other.contender})"
    what = "as fast as eager PyTorch: a whole window of one walker"
    return Headline(ratios[id(best)], what, said)
