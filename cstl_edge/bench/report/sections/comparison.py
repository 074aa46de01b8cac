"""What is shown of a comparison: one line per matched row, a picture, and what has no test."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from itertools import count

from cstl_edge.bench.record import Row
from cstl_edge.bench.report.charts import plots
from cstl_edge.bench.report.compare import ALPHA, FEWEST, SMALLEST, Difference, compare, found_key
from cstl_edge.bench.report.formatting import mark, number
from cstl_edge.bench.report.load import Chapter
from cstl_edge.bench.report.page import Part, Section
from cstl_edge.bench.report.tables import (
    DASH,
    Cell,
    Line,
    Table,
    case_of,
    label_of,
    name_of,
    one_network,
    value_of,
    without_empty,
)

MOST_DRAWN = 24  # differences of one picture, the largest
VALUES = (
    *("sequences_per_s", "walkers", "rank1", "fnir"),
    *("joules_per_embedding_gross", "joules_per_embedding_net", "gmacs_per_s", "gbytes_per_s"),
)
"""Figures that are laid beside each other, without a test."""
HOW = (
    "Mann-Whitney test of the raw samples, two-sided, corrected for the number of rows by Holm's "
    f"method (level {ALPHA:g}). Faster and slower also differ by at least {SMALLEST:.0%} of the "
    "median. Of samples that follow each other closely only every k-th counts, and below "
    f"{FEWEST} on a side nothing is said. No difference means that none was shown, within the "
    "interval. A test within two runs does not know how much runs differ among themselves."
)


def part(before: Chapter, after: Chapter, k: int, n: count[int], *, asked: bool) -> Part | None:
    """Return the comparison of two sides, the second with the first.

    asked: whether to say so where they have nothing in common
    """
    found = compare(before.rows, after.rows)
    if not found and not asked:
        return None
    facts = (("before", _side(before)), ("after", _side(after)))
    sections = [_tested(found, k, n)] if found else [_nothing(k)]
    beside = _beside(before.rows, after.rows)
    if beside is not None:
        sections.append(Section(f"values-{k + 1}", "Figures beside each other", (), (beside,)))
    same_machine = before.machine == after.machine
    commits = (one.commits[0] for one in (before, after))
    what = " and ".join(commits) if same_machine else "two machines"
    return Part(f"compare-{k + 1}", f"Comparison: {what}", facts, (), tuple(sections))


def _tested(found: Sequence[Difference], k: int, n: count[int]) -> Section:
    counted = Counter(one.verdict for one in found)
    lead = [", ".join(f"{number} {verdict}" for verdict, number in counted.most_common()) + "."]
    doubted = sum(bool(one.before.warnings or one.after.warnings) for one in found)
    if doubted:
        lead.append(
            f"{doubted} of {len(found)} pairs carry warnings, such as a busy machine: a difference "
            "may be one of the hour and not of the code. Measure again on a quiet machine."
        )
    largest = sorted(found, key=lambda one: -abs(math.log(one.ratio or 1e-9)))[:MOST_DRAWN]
    alone = one_network(one.after for one in found)
    drawn = [(f"{name_of(one.after, alone)}: {case_of(one.after.case)}", one) for one in largest]
    picture = plots.forest("Ratio of medians with its interval", drawn, n)
    return Section(f"tested-{k + 1}", "Faster or slower", tuple(lead), (_table(found),), (picture,))


def _nothing(k: int) -> Section:
    lead = "No row of times is on both sides with the same scenario, contender, case and network."
    return Section(f"tested-{k + 1}", "Nothing to compare", (lead,))


def _table(found: Sequence[Difference]) -> Table:
    lines: list[Line] = []
    alone = one_network(one.after for one in found)
    for one in found:
        ends = one.interval
        lines.append(
            (
                name_of(one.after, alone),
                Cell(one.verdict, one.verdict if one.verdict in ("faster", "slower") else ""),
                f"{one.after.scenario}: {case_of(one.after.case)}",
                *(str(mark(row.samples[one.stage], 50)) for row in (one.before, one.after)),
                number(one.ratio, (ends[1] - ends[0]) / 2 if ends else None),
                f"{ends[0]:.3f} to {ends[1]:.3f}" if ends else DASH,
                f"{one.quicker:.0%}",
                f"{one.p:.2g}" if one.p >= 1e-4 else "< 0.0001",
            )
        )
    columns = ("", "verdict", "case", "p50 before ms", "p50 after ms", "after / before", "95 %",
               "quicker", "p (Holm)")  # fmt: skip
    notes = (HOW, "Quicker: how often a sample of after is quicker than one of before.")
    return Table("Every matched row", columns, tuple(lines), left=3, notes=notes)


def _beside(before: Sequence[Row], after: Sequence[Row]) -> Table | None:
    """Lay values beside each other for which there are no samples to test."""
    there = {found_key(row): row for row in before}
    lines = []
    for row in after:
        other = there.get(found_key(row))
        for name in VALUES:
            if other is not None and name in row.values and name in other.values:
                case = case_of(row.case.model_copy(update={"walkers": None})) or DASH
                figure = f"{row.scenario}: {label_of(name)}"
                lines.append(
                    (row.contender, figure, case, value_of(other, name), value_of(row, name))
                )
    if not lines:
        return None
    note = "No test is made of these."
    columns = ("", "figure", "case", "before", "after")
    return without_empty(Table("Values", columns, tuple(lines), left=3, notes=(note,)))


def _side(chapter: Chapter) -> str:
    return f"{chapter.machine}; commit {chapter.commits[0]}"
