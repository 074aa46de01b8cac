"""Statistical comparison of two machines or commits: faster, slower or no difference.

Each pair of rows with the same scenario, backend, case and network gets a Mann-Whitney test of its
raw samples (two-sided), and all p-values of a comparison are corrected together by Holm's method. A
difference has to be both sure and worth naming; its size is the ratio of medians.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from cstl_edge.bench.record import Row
from cstl_edge.bench.report.formatting import quantile
from cstl_edge.bench.report.rows import main_stage

ALPHA = 0.01  # after the correction
SMALLEST = 0.02  # a change of the median below this share is not worth naming
FEWEST = 8  # independent samples a side: below, not even separate groups reach ALPHA among many
UNTESTED = ("roofline",)  # peaks of the machine itself: their rates are set beside each other

Verdict = Literal["faster", "slower", "no difference", "too few samples"]
Key = tuple[object, ...]


@dataclass(frozen=True)
class Difference:
    """The second of two matched rows compared with the first."""

    before: Row
    after: Row
    stage: str
    ratio: float  # median time after / before: below 1 is faster
    interval: tuple[float, float] | None
    """At least 95 %, from the intervals of both medians; None where samples are too few."""
    quicker: float
    """How often a sample of after is quicker than one of before, 0..1; ties count half."""
    p: float
    verdict: Verdict


def match_key(row: Row) -> Key:
    """Return what two rows must share to be compared; weights may differ, the network may not."""
    subject = row.subject
    network = subject and (subject.name, subject.size, subject.parts, subject.widths)
    return (row.scenario, row.contender, row.case.model_dump_json(), network)


def search_key(row: Row) -> Key:
    """Return `match_key` without the number of walkers, the result of a search.

    >>> from cstl_edge.bench.record import Case
    >>> case = Case(source="synthetic://8, crossing together", walkers=8)
    >>> search_key(Row(run="", scenario="end_to_end", contender="x", case=case))[2]
    'synthetic://N, crossing together'
    """
    source = re.sub(r"(?<=synthetic://)\d+", "N", row.case.source or "")
    case = row.case.model_copy(update={"walkers": None, "source": None})
    key = match_key(row.model_copy(update={"case": case}))
    return (*key[:2], source, *key[2:])


def compare(
    before: Iterable[Row], after: Iterable[Row], *, smallest: float = SMALLEST, alpha: float = ALPHA
) -> list[Difference]:
    """Return the differences between matched rows of times, in the order of `after`.

    Args:
        before: Rows of one side.
        after: Rows of the other.
        smallest: Share of the median below which a difference is none.
        alpha: Level of the test over all rows together, after Holm's correction.
    """
    differences: list[Difference] = []
    pool = _by_key(before)
    for key, (stage, rows) in _by_key(after).items():
        match = pool.get(key)
        if match is not None and match[0] == stage:
            differences.append(_difference(match[1], rows, stage))
    tested = [k for k, x in enumerate(differences) if x.verdict != "too few samples"]
    for k, p in zip(tested, holm([differences[k].p for k in tested]), strict=True):
        verdict = _verdict(differences[k].ratio, p, smallest, alpha)
        differences[k] = replace(differences[k], p=p, verdict=verdict)
    return differences


def holm(p_values: Sequence[float]) -> list[float]:
    """Return p-values corrected for their number (Holm 1979), in the order they came.

    >>> holm([0.01, 0.04, 0.03])
    [0.03, 0.06, 0.06]
    """
    order = sorted(range(len(p_values)), key=p_values.__getitem__)
    corrected, largest = [1.0] * len(p_values), 0.0
    for rank, k in enumerate(order):
        largest = max(largest, min(1.0, (len(order) - rank) * p_values[k]))
        corrected[k] = largest
    return corrected


def independent(samples: Sequence[float]) -> list[float]:
    """Return every k-th sample, k so large that successive samples hardly correlate.

    The test takes samples for independent, but a busy moment slows several in a row: with a
    correlation r of successive ranks, n samples carry as much as n (1 - r) / (1 + r).
    """
    if len(set(samples)) < 3:
        return [*samples]
    from scipy.stats import spearmanr

    r = float(spearmanr(samples[:-1], samples[1:]).statistic)
    if not r > 2 / math.sqrt(len(samples)):  # what as many independent samples show by chance
        return [*samples]
    step = math.ceil((1 + r) / (1 - r)) if r < 1 else len(samples)
    return [*samples[:: min(step, len(samples))]]


def mann_whitney(before: Sequence[float], after: Sequence[float]) -> tuple[float, float]:
    """Return the two-sided p-value, and how often a sample of `after` is the smaller one."""
    from scipy.stats import mannwhitneyu

    u, p = mannwhitneyu(before, after, alternative="two-sided")
    return float(p), float(u) / (len(before) * len(after))


def _by_key(rows: Iterable[Row]) -> Mapping[Key, tuple[str, list[Row]]]:
    """Return rows of times by their key; the runs of one machine and commit are put together."""
    groups: dict[Key, tuple[str, list[Row]]] = {}
    for row in rows:
        stage = main_stage(row)
        if stage is None or row.scenario in UNTESTED:
            continue
        group = groups.setdefault(match_key(row), (stage, []))
        if group[0] == stage:
            group[1].append(row)
    return groups


def _difference(before: Sequence[Row], after: Sequence[Row], stage: str) -> Difference:
    raw = [[x for row in rows for x in row.samples[stage]] for rows in (before, after)]
    old, new = (quantile(samples, 50) for samples in raw)
    thinned = [[x for r in rows for x in independent(r.samples[stage])] for rows in (before, after)]
    p, quicker = mann_whitney(*thinned)
    few = min(len(samples) for samples in thinned) < FEWEST
    interval = None
    if old.low and old.high and new.low is not None and new.high is not None:
        interval = (new.low / old.high, new.high / old.low)
    ratio = new.value / old.value if old.value else math.inf
    verdict: Verdict = "too few samples" if few else "no difference"
    return Difference(before[-1], after[-1], stage, ratio, interval, quicker, p, verdict)


def _verdict(ratio: float, p: float, smallest: float, alpha: float) -> Verdict:
    if p >= alpha or abs(ratio - 1) < smallest:
        return "no difference"
    return "faster" if ratio < 1 else "slower"
