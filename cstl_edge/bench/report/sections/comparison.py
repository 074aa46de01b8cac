"""Chapter of a comparison: one line per matched row, a picture, and figures without a test."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

from cstl_edge.bench.record import Row
from cstl_edge.bench.report.charts import plots
from cstl_edge.bench.report.compare import ALPHA, FEWEST, SMALLEST, Difference, compare, search_key
from cstl_edge.bench.report.formatting import number, quantile
from cstl_edge.bench.report.load import MachineResults
from cstl_edge.bench.report.page import PageChapter, Section
from cstl_edge.bench.report.rows import (
    column_label,
    describe_case,
    format_value,
    row_name,
    single_network,
)
from cstl_edge.measure.tables import DASH, Cell, Line, Table

MOST_DRAWN = 24  # differences of one picture, the largest
VALUES = (
    *("sequences_per_s", "walkers", "rank1", "fnir"),
    *("joules_per_embedding_gross", "joules_per_embedding_net", "gmacs_per_s", "gbytes_per_s"),
)
"""Figures that are set beside each other, without a test."""
COLUMNS = (
    *("", "verdict", "case", "p50 before ms", "p50 after ms", "after / before", "95 %"),
    *("quicker", "p (Holm)"),
)
NOTES = (
    "Mann-Whitney test of the raw samples, two-sided, corrected for the number of rows by Holm's "
    f"method (level {ALPHA:g}). Faster and slower also differ by at least {SMALLEST:.0%} of the "
    "median. Of samples that follow each other closely only every k-th counts, and below "
    f"{FEWEST} on a side nothing is said. No difference means that none was shown, within the "
    "interval. A test within two runs does not know how much runs differ among themselves.",
    "Quicker: how often a sample of after is quicker than one of before.",
)
NOTHING = "No row of times is on both sides with the same scenario, contender, case and network."


def comparison_chapter(
    before: MachineResults, after: MachineResults, k: int, *, requested: bool
) -> PageChapter | None:
    """Return the comparison of two sides, the second with the first.

    Args:
        before: Results of one side.
        after: Results of the other.
        k: Number of the comparison, from 0.
        requested: Whether there is a chapter too where they have nothing in common.
    """
    differences = compare(before.rows, after.rows)
    if not differences and not requested:
        return None
    tested = f"tested-{k + 1}"
    sections = [
        _tested(differences, tested)
        if differences
        else Section("Nothing to compare", (NOTHING,), id=tested)
    ]
    values = _values(before.rows, after.rows)
    if values.rows:
        title = "Figures beside each other"
        tables = (values.without_empty_columns(),)
        sections.append(Section(title, tables=tables, id=f"values-{k + 1}"))
    sides = {"before": before, "after": after}
    facts = tuple((name, f"{x.machine}; commit {x.commits[0]}") for name, x in sides.items())
    same_machine = before.machine == after.machine
    what = f"{before.commits[0]} and {after.commits[0]}" if same_machine else "two machines"
    return PageChapter(f"compare-{k + 1}", f"Comparison: {what}", facts, (), tuple(sections))


def _tested(differences: Sequence[Difference], anchor: str) -> Section:
    verdicts = Counter(x.verdict for x in differences)
    lead = [", ".join(f"{times} {verdict}" for verdict, times in verdicts.most_common()) + "."]
    warned = sum(bool(x.before.warnings or x.after.warnings) for x in differences)
    if warned:
        lead.append(
            f"{warned} of {len(differences)} pairs carry warnings, such as a busy machine: a "
            "difference may be one of the hour and not of the code. Measure again on a quiet "
            "machine."
        )
    largest = sorted(differences, key=lambda x: -abs(math.log(x.ratio or 1e-9)))[:MOST_DRAWN]
    one_network = single_network(x.after for x in differences)
    labels = (f"{row_name(x.after, one_network)}: {describe_case(x.after.case)}" for x in largest)
    drawn = list(zip(labels, largest, strict=True))
    picture = plots.forest_plot("Ratio of medians with its interval", drawn)
    lines = tuple(_line(x, one_network) for x in differences)
    table = Table("Every matched row", COLUMNS, lines, left=3, notes=NOTES)
    return Section("Faster or slower", tuple(lead), (table,), (picture,), anchor)


def _line(difference: Difference, one_network: bool) -> Line:
    before, after, ends = difference.before, difference.after, difference.interval
    verdict = difference.verdict
    return (
        row_name(after, one_network),
        Cell(verdict, verdict if verdict in ("faster", "slower") else ""),
        f"{after.scenario}: {describe_case(after.case)}",
        *(str(quantile(row.samples[difference.stage], 50)) for row in (before, after)),
        number(difference.ratio, (ends[1] - ends[0]) / 2 if ends else None),
        f"{ends[0]:.3f} to {ends[1]:.3f}" if ends else DASH,
        f"{difference.quicker:.0%}",
        f"{difference.p:.2g}" if difference.p >= 1e-4 else "< 0.0001",
    )


def _values(before: Sequence[Row], after: Sequence[Row]) -> Table:
    """Set values beside each other for which there are no samples to test."""
    matches = {search_key(row): row for row in before}
    lines = []
    for row in after:
        other = matches.get(search_key(row))
        for name in VALUES:
            if other is not None and name in row.values and name in other.values:
                case = describe_case(row.case.model_copy(update={"walkers": None})) or DASH
                figure = f"{row.scenario}: {column_label(name)}"
                both = (format_value(other, name), format_value(row, name))
                lines.append((row.contender, figure, case, *both))
    columns = ("", "figure", "case", "before", "after")
    note = "No test is made of these."
    return Table("Values", columns, tuple(lines), left=3, notes=(note,))
