"""Rows of one call as cells and lines for a terminal; `cstl-edge bench report` makes the page."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from cstl_edge.bench.record import Case, Row
from cstl_edge.bench.report.rows import baseline_of, describe_case
from cstl_edge.errors import one_line
from cstl_edge.measure.stats import percentile

COLUMNS = ("case", "contender", "p50 ms", "p99 ms", "× usual", "besides")
LEFT_COLUMNS = ("case", "contender", "besides")


@dataclass(frozen=True)
class ScenarioCells:
    """Figures of one scenario and the backends without any."""

    scenario: str
    cells: list[tuple[str, ...]]  # of `COLUMNS`, a tuple per row
    skipped: list[str]  # a line per reason


def scenario_cells(rows: Sequence[Row]) -> Iterator[ScenarioCells]:
    """Yield the cells of each scenario, in the order in which they ran."""
    for scenario in dict.fromkeys(row.scenario for row in rows):
        of_scenario = [row for row in rows if row.scenario == scenario]
        figures = [row for row in of_scenario if row.skipped is None]
        lines = [
            f"{scenario}: {'; '.join(names)}: {reason}"
            for reason, names in skipped(of_scenario).items()
        ]
        yield ScenarioCells(scenario, [_cells(row, figures) for row in figures], lines)


def headline_lines(rows: Sequence[Row]) -> list[str]:
    """Return the report's headlines, none where its packages are not installed."""
    if importlib.util.find_spec("scipy") is None:  # rounds figures to their significant digits
        return []
    from cstl_edge.bench.report.load import by_machine
    from cstl_edge.bench.report.sections.headlines import headlines

    lines = [line for machine in by_machine(rows) for line in headlines(machine)]
    return [f"{line.figure} {line.what} ({line.where})" for line in lines]


def skipped(rows: Iterable[Row]) -> dict[str, list[str]]:
    """Return the backends without a figure, by reason."""
    by_reason: dict[str, list[str]] = {}
    for row in rows:
        if row.skipped is not None:
            case = f" ({describe_case(row.case)})" if row.case != Case() else ""
            names = by_reason.setdefault(one_line(row.skipped), [])
            names.append(one_line(f"{row.contender}{case}"))
    return by_reason


def times_as_fast(row: Row, rows: Iterable[Row]) -> float | None:
    """Return how many times as fast as the baseline a row is, in the same case of the same run."""
    baseline = baseline_of(row, rows)
    walls = [x.samples.get("wall") for x in (baseline, row) if x is not None]
    p50 = [percentile(wall, 50) for wall in walls if wall]
    return p50[0] / p50[1] if len(p50) == 2 else None


def _cells(row: Row, rows: Sequence[Row]) -> tuple[str, ...]:
    """Return the cells of a row, compared with the baseline among `rows`."""
    wall, ratio = row.samples.get("wall"), times_as_fast(row, rows)
    times = [f"{percentile(wall, q):.2f}" if wall else "" for q in (50, 99)]
    named = one_line(describe_case(row.case)), one_line(row.contender)
    return (*named, *times, f"{ratio:.1f}" if ratio else "", _besides(row))


def _besides(row: Row) -> str:
    """Return a row's other figures, stages and warnings in words."""
    words = [f"{one_line(name)} {value:.4g}" for name, value in row.values.items()]
    stages = {name: ms for name, ms in row.samples.items() if name != "wall" and ms}
    words += [f"{one_line(name)} {percentile(ms, 50):.2f} ms" for name, ms in stages.items()]
    words += [f"{count} {one_line(reason)}" for reason, count in row.dropped.items()]
    if row.ran is not None and row.ran.computed_in != row.ran.precision:
        words.append(f"computed in {one_line(row.ran.computed_in)}")
    warnings = (warning.partition(":")[0] for warning in row.warnings)  # the file has them whole
    return ", ".join([*words, *map(one_line, warnings)])
