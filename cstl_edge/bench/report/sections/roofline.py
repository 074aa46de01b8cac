"""Nearness to the limit: what share of the machine's best each row of times reached."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import count

from cstl_edge.bench.record import ModelUnderTest, Row
from cstl_edge.bench.report.charts import scatter
from cstl_edge.bench.report.charts.plots import Picture
from cstl_edge.bench.report.charts.scatter import Point
from cstl_edge.bench.report.compare import stage_of
from cstl_edge.bench.report.formatting import number
from cstl_edge.bench.report.load import Chapter
from cstl_edge.bench.report.page import Section
from cstl_edge.bench.report.tables import Cell, Table, case_of, name_of, one_network, values
from cstl_edge.bench.roofline.limits import LEVELS, MachineLimits, RowLimit, device_of
from cstl_edge.errors import DataError, one_line
from cstl_edge.measure.stats import percentile

PRECISIONS = ("float32", "tfloat32", "float16", "bfloat16", "int8")
NEAR = 0.5  # of the attainable: shown bold
ABOVE = (
    "A share above 100 % says that something else ran while the peaks were measured: measure again "
    "on a quiet machine."
)
MOST_ROOFS = 2  # pictures: the whole window comes last among the cases


def roofline(chapter: Chapter, n: count[int]) -> Section | None:
    """How near the graphs come to what the machine can do at most."""
    rows = chapter.of("roofline")
    if not rows:
        return None
    found = [(row, limit) for row in chapter.of("graph") if (limit := _limit(chapter, row))]
    cases: dict[str, list[tuple[Row, RowLimit]]] = {}
    for row, limit in found:
        cases.setdefault(case_of(row.case), []).append((row, limit))
    drawn = [_roofs(chapter, case, reached, n) for case, reached in cases.items()]
    peaks = [row for row in rows if row.details.get("kind") in ("arithmetic", "bandwidth")]
    tables = [_shares(found)] if found else []
    tables += [replace(values("Peaks of this machine", peaks), folded=bool(found))] if peaks else []
    lead = (
        "The limit is the best rate of any kernel on this machine for the multiply-adds, and of "
        "the nearest cache that holds a call's bytes; whichever takes longer. Share: of that limit."
    )
    pictures = tuple(one for one in drawn if one)[-MOST_ROOFS:]
    return Section("roofline", "Nearness to the limit", (lead,), tuple(tables), pictures)


def _limit(chapter: Chapter, row: Row) -> RowLimit | None:
    """Return a row's limit from the peaks of the chapter and the costs of its network."""
    stage = stage_of(row)
    if row.case.paced_hz is not None or not stage or not percentile(row.samples[stage], 50):
        return None
    with _reading():
        return _limits(chapter, row.subject).of(row)


def _limits(chapter: Chapter, subject: ModelUnderTest | None) -> MachineLimits:
    kept = [
        row
        for row in chapter.of("roofline")
        if row.details.get("kind") != "cost" or row.subject == subject
    ]
    with _reading():
        return MachineLimits(kept)


@contextmanager
def _reading() -> Iterator[None]:
    """Say what is wrong with rows that another machine wrote (DataError)."""
    try:
        yield
    except (KeyError, TypeError, ValueError, ZeroDivisionError) as err:
        raise DataError(
            "expected rows of roofline with their kind, device, level, precision and figures above "
            f"0; got {one_line(repr(err))}: measure them again"
        ) from err


def _shares(found: Sequence[tuple[Row, RowLimit]]) -> Table:
    alone = one_network(row for row, _ in found)
    lines = tuple(
        (
            name_of(row, alone),
            case_of(row.case),
            number(limit.gmacs * 1e3),
            number(limit.gbytes * 1e3),
            number(limit.reached_gmacs_per_s),
            number(limit.attainable_gmacs_per_s),
            Cell(f"{limit.share:.0%}", "best" if limit.share >= NEAR else ""),
            limit.bound if limit.bound == "arithmetic" else f"{limit.level} bandwidth",
        )
        for row, limit in found
    )
    columns = ("", "case", "10⁶ multiply-adds", "MB at least", "reached 10⁹/s",
               "attainable 10⁹/s", "share", "bound by")  # fmt: skip
    above = any(limit.share > 1 for _, limit in found)
    return Table("Share of the attainable", columns, lines, 2, (ABOVE,) if above else ())


def _roofs(
    chapter: Chapter, case: str, reached: Sequence[tuple[Row, RowLimit]], n: count[int]
) -> Picture | None:
    row = reached[0][0]
    limits = _limits(chapter, row.subject)
    device = device_of(row.ran) if row.ran else "cpu"
    roofs = {name: x for name in PRECISIONS if (x := limits.peak(device, name))}
    slopes = {level: x for level in LEVELS if (x := limits.bandwidth(device, level))}
    points = [
        Point(f"{r.contender}: {limit.share:.0%}", r.contender, limit.intensity,
              limit.reached_gmacs_per_s)
        for r, limit in reached if r.ran and device_of(r.ran) == device
    ]  # fmt: skip
    if not (roofs and slopes):
        return None
    return scatter.roofline(f"Under the roofs: {case}", roofs, slopes, points, n)
