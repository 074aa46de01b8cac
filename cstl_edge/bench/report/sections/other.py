"""Section of a scenario of another package: its values, and its times where it has samples."""

from __future__ import annotations

from collections.abc import Sequence

from cstl_edge.bench.record import Row
from cstl_edge.bench.report.load import MachineResults
from cstl_edge.bench.report.page import Section
from cstl_edge.bench.report.rows import timed_rows
from cstl_edge.bench.report.tables import stage_table, timing_table, value_table

LEAD = ("The report has no section of its own for this scenario: values and times as recorded.",)


def other(_results: MachineResults, rows: Sequence[Row]) -> Section | None:
    """Show values, percentiles of the main stage and medians of all stages."""
    valued, timed = [row for row in rows if row.values], timed_rows(rows)
    tables = (
        value_table("Values", valued) if valued else None,
        timing_table("Times", timed, []) if timed else None,
        stage_table("By stage", rows),
    )
    shown = tuple(table for table in tables if table is not None)
    return Section(f"Scenario {rows[0].scenario}", LEAD, shown) if shown else None
