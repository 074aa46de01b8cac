"""Section of the roofline: what share of the machine's best rate each row of times reached."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import islice

from cstl_edge.bench.record import ModelUnderTest, Row
from cstl_edge.bench.report.charts import plots
from cstl_edge.bench.report.charts.plots import Point
from cstl_edge.bench.report.charts.svg import Picture
from cstl_edge.bench.report.formatting import number
from cstl_edge.bench.report.load import MachineResults
from cstl_edge.bench.report.page import Section
from cstl_edge.bench.report.rows import describe_case, main_times, row_name, single_network
from cstl_edge.bench.report.tables import value_table
from cstl_edge.bench.roofline.limits import LEVELS, MachineLimits, RowLimit, device_of
from cstl_edge.errors import DataError, one_line
from cstl_edge.measure.stats import percentile
from cstl_edge.measure.tables import Cell, Table

PRECISIONS = ("float32", "tfloat32", "float16", "bfloat16", "int8")
NEAR = 0.5  # of the attainable: shown bold
ABOVE = (
    "A share above 100 % says that something else ran while the peaks were measured: measure again "
    "on a quiet machine."
)
MOST_ROOFS = 2  # pictures: the whole window comes last among the cases
LEAD = (
    "The limit is the best rate of any kernel on this machine for the multiply-adds, and of the "
    "nearest cache that holds a call's bytes; whichever takes longer. Share: of that limit.",
)
COLUMNS = (
    *("", "case", "10⁶ multiply-adds", "MB at least", "reached 10⁹/s", "attainable 10⁹/s"),
    *("share", "bound by"),
)


def roofline(results: MachineResults, rows: Sequence[Row]) -> Section:
    """Show how near the graphs come to the peaks of the machine."""
    reached = [(row, limit) for row in results.rows_of("graph") if (limit := _limit(rows, row))]
    cases: dict[str, list[tuple[Row, RowLimit]]] = {}
    for row, limit in reached:
        cases.setdefault(describe_case(row.case), []).append((row, limit))
    pictures = (_picture(rows, case, pairs) for case, pairs in reversed(cases.items()))
    peaks = [row for row in rows if row.details.get("kind") in ("arithmetic", "bandwidth")]
    tables = [_shares(reached)] if reached else []
    if peaks:
        tables.append(replace(value_table("Peaks of this machine", peaks), folded=bool(reached)))
    drawn = tuple(islice(filter(None, pictures), MOST_ROOFS))[::-1]
    return Section("Nearness to the limit", LEAD, tuple(tables), drawn)


def _limit(peaks: Sequence[Row], row: Row) -> RowLimit | None:
    """Return a row's limit from the machine's peaks and the costs of the row's network."""
    times = main_times(row)
    if row.case.paced_hz is not None or not times or not percentile(times, 50):
        return None
    with _data_errors():
        return _limits(peaks, row.subject).limit_of(row)


def _limits(rows: Sequence[Row], subject: ModelUnderTest | None) -> MachineLimits:
    own = [row for row in rows if row.details.get("kind") != "cost" or row.subject == subject]
    with _data_errors():
        return MachineLimits(own)


@contextmanager
def _data_errors() -> Iterator[None]:
    """Raise DataError for damaged rows of another machine."""
    try:
        yield
    except (KeyError, TypeError, ValueError, ZeroDivisionError) as err:
        raise DataError(
            "expected rows of roofline with their kind, device, level, precision and figures above "
            f"0; got {one_line(repr(err))}: measure them again"
        ) from err


def _shares(reached: Sequence[tuple[Row, RowLimit]]) -> Table:
    one_network = single_network(row for row, _ in reached)
    lines = tuple(
        (
            row_name(row, one_network),
            describe_case(row.case),
            number(limit.gmacs * 1e3),
            number(limit.gbytes * 1e3),
            number(limit.reached_gmacs_per_s),
            number(limit.attainable_gmacs_per_s),
            Cell(f"{limit.share:.0%}", "best" if limit.share >= NEAR else ""),
            limit.bound if limit.bound == "arithmetic" else f"{limit.level} bandwidth",
        )
        for row, limit in reached
    )
    notes = (ABOVE,) if any(limit.share > 1 for _, limit in reached) else ()
    return Table("Share of the attainable", COLUMNS, lines, 2, notes)


def _picture(
    peaks: Sequence[Row], case: str, reached: Sequence[tuple[Row, RowLimit]]
) -> Picture | None:
    row = reached[0][0]
    limits = _limits(peaks, row.subject)
    device = device_of(row.ran) if row.ran else "cpu"
    roofs = {name: x for name in PRECISIONS if (x := limits.peak(device, name))}
    slopes = {level: x for level in LEVELS if (x := limits.bandwidth(device, level))}
    if not (roofs and slopes):
        return None
    points = [
        Point(f"{r.contender}: {limit.share:.0%}", r.contender, limit.intensity,
              limit.reached_gmacs_per_s)
        for r, limit in reached if r.ran and device_of(r.ran) == device
    ]  # fmt: skip
    return plots.roofline_plot(f"Under the roofs: {case}", roofs, slopes, points)
