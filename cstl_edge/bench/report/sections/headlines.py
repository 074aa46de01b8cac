"""Headlines of a chapter: its few best figures, each with what ran."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from cstl_edge.bench.backends.base import BASELINE
from cstl_edge.bench.record import Row
from cstl_edge.bench.report.load import MachineResults
from cstl_edge.bench.report.page import Headline
from cstl_edge.bench.report.rows import (
    SPEEDUP,
    describe_case,
    format_value,
    main_stage,
    median,
    speedup,
)
from cstl_edge.bench.report.sections.sizing import sizing_headlines

PLAIN = "float32"
FEWEST_PEOPLE = 20  # behind a headline: 100 % of two people says nothing


@dataclass(frozen=True)
class HeadlineRule:
    """A value that is a headline where a row has it."""

    scenario: str
    value: str
    what: str
    fits: Callable[[Row], bool] = lambda row: True
    largest: bool = True


RULES = (
    HeadlineRule(
        "single",
        SPEEDUP,
        "as fast as the usual way: one more frame of a walker, answered for at every frame",
        lambda row: (row.case.graph, row.case.hop, row.case.paced_hz) == ("streaming", 1, None),
    ),
    HeadlineRule(
        "multi", "walkers", "walkers at 25 frames per second with p99 < 40 ms, embedding only"
    ),
    HeadlineRule("end_to_end", "walkers", "walkers from camera to event, in time"),
    HeadlineRule("offline", "sequences_per_core_minute", "sequences embedded per core-minute"),
    HeadlineRule("accuracy", "rank1", "rank-1 across views, {people:.0f} synthetic people",
                 lambda row: is_float32(row) and row.values.get("people", 0) >= FEWEST_PEOPLE),
    HeadlineRule("power", "joules_per_embedding_net", "joules per embedding, idle subtracted",
                 largest=False),
)  # fmt: skip


def headlines(results: MachineResults) -> tuple[Headline, ...]:
    """Return the best row of each rule, the ratio of a whole window among them."""
    first, *others = (_best(rule, results) for rule in RULES)
    ordered = (*sizing_headlines(results), first, _window(results.rows_of("graph")), *others)
    return tuple(headline for headline in ordered if headline is not None)


def is_float32(row: Row) -> bool:
    """Tell whether a row is in float32.

    >>> is_float32(Row(run="r", scenario="graph", contender="pytorch float32, compiled"))
    True
    """
    return PLAIN in row.contender.replace(",", "").split(" ")


def _best(rule: HeadlineRule, results: MachineResults) -> Headline | None:
    """Return the best row's value, and float32's where that is another row."""
    rows = [x for x in results.rows_of(rule.scenario) if rule.value in x.values and rule.fits(x)]
    if not rows:
        return None
    rows.sort(key=lambda row: row.values[rule.value], reverse=rule.largest)
    best, plain = rows[0], next((row for row in rows if is_float32(row)), None)
    where = ", ".join(x for x in (best.contender, describe_case(best.case)) if x)
    if plain not in (None, best):
        where += f"; {PLAIN}: {format_value(plain, rule.value)}"
    return Headline(format_value(best, rule.value), rule.what.format_map(best.values), where)


def _window(graph: Sequence[Row]) -> Headline | None:
    """Return the ratio of a whole window of one walker to the baseline."""
    windows = (
        row
        for row in graph
        if (row.case.graph, row.case.batch, row.case.paced_hz) == ("full", 1, None)
        and main_stage(row)
        and row.contender != BASELINE
    )
    pairs = [(row, ratio) for row in windows if "×" in (ratio := speedup(row, graph))]
    pairs.sort(key=lambda pair: median(pair[0]).value)
    if not pairs:
        return None
    (best, ratio), plain = pairs[0], next((pair for pair in pairs if is_float32(pair[0])), None)
    where = f"{best.contender}, {describe_case(best.case)}"
    if plain is not None and plain[0] != best:
        where += f"; {PLAIN}: {plain[1]} ({plain[0].contender})"
    return Headline(ratio, "as fast as eager PyTorch: a whole window of one walker", where)
