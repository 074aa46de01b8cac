"""Texts of one row of results (name, case, values, remarks), and its main times."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from operator import attrgetter

from cstl_edge.bench.backends.base import BASELINE
from cstl_edge.bench.record import Case, Row
from cstl_edge.bench.report.formatting import (
    UNKNOWN_ERROR,
    Quantile,
    number,
    percent,
    quantile,
    whole,
)
from cstl_edge.measure.tables import DASH

MAIN_STAGES = ("wall", "total", "latency", "device", "compute")
"""Stages that stand for a row of times; the first that it has does."""
RATIO = "times_as_fast_as_"
SPEEDUP = "times_as_fast_as_usual"
DIFFERENCE = "_difference"
LABELS = {
    SPEEDUP: "× usual way",
    "times_as_fast_as_usual_at_every_frame": "× usual way at every frame",
    "times_as_fast_as_papers_trunk": "× usual way of the paper's trunk",
    "sequences_per_core_minute": "sequences/core-minute",
    "casia_b_test_minutes": "CASIA-B's test half, minutes",
}
UNITS = {"mb": "MB", "gb": "GB", "fnir": "FNIR", "fpir": "FPIR", "rank5": "rank-5", "w": "W"}
RATE = "_per_s$|_minute|^joules"  # values as sure as the times that they are made of
SHARES = ("rank1", "fnir", "fpir", "share", "loss")
COUNTS = ("walkers", "people", "parameters", "count", "sequences", "frames", "searches")
FEW_SAMPLES = "few samples"  # a warning that the star at p99 shows already


def main_stage(row: Row) -> str | None:
    """Return the stage that stands for a row of times; None for a row without times."""
    return next((stage for stage in MAIN_STAGES if row.samples.get(stage)), None)


def timed_rows(rows: Iterable[Row]) -> list[Row]:
    """Return the rows of times."""
    return [row for row in rows if main_stage(row)]


def main_times(row: Row) -> list[float]:
    """Return the samples [ms] of a row's main stage, none for a row without times."""
    return row.samples.get(main_stage(row) or "", [])


def median(row: Row) -> Quantile:
    """Return the median [ms] of a row of times, with its interval."""
    return quantile(main_times(row), 50)


def _relative_error(row: Row) -> float:
    return median(row).relative_error if main_times(row) else UNKNOWN_ERROR


def row_name(row: Row, one_network: bool = True) -> str:
    """Return a row's name: its backend, and its network unless it stands `one_network`."""
    if one_network or row.subject is None:
        return row.contender
    height, width = row.subject.size
    return f"{row.contender} ({row.subject.name}, {height}×{width})"


def single_network(rows: Iterable[Row]) -> bool:
    """Tell whether all rows are of the same network."""
    networks = {(r.subject.name, r.subject.size) for r in rows if r.subject is not None}
    return len(networks) <= 1


def describe_case(case: Case) -> str:
    """Return a case in a few words.

    >>> describe_case(Case(graph="full", batch=1, frames=30))
    'full, batch 1, 30 frames'
    """
    return ", ".join(_words(case))


def split_cases(rows: Sequence[Row]) -> tuple[str, list[str]]:
    """Return what the cases of all rows share, and what each row has of its own.

    >>> split_cases([Row(run="", scenario="graph", contender="", case=Case(batch=1, frames=s))
    ...              for s in (10, 30)])
    ('batch 1', ['10 frames', '30 frames'])
    """
    cases = [_words(row.case) for row in rows]
    shared = [word for word in cases[0] if all(word in words for words in cases)] if cases else []
    own = [", ".join(word for word in words if word not in shared) for words in cases]
    return ", ".join(shared), own


def _words(case: Case) -> list[str]:
    words = [
        case.graph or "",
        f"batch {case.batch}" if case.batch is not None else "",
        _plural(case.frames, "frame"),
        f"hop {case.hop}" if case.hop is not None else "",
        _plural(None if case.graph and case.walkers == 1 else case.walkers, "walker"),
        f"paced at {case.paced_hz:g} Hz" if case.paced_hz is not None else "",
        case.source or "",
    ]
    return [word for word in words if word]


def _plural(count: int | None, noun: str) -> str:
    return "" if count is None else f"{count} {noun}{'s' * (count != 1)}"


def format_value(row: Row, name: str) -> str:
    """Return a value of a row with its interval, in percent where it is a share."""
    if name not in row.values:
        return DASH
    value, ends = row.values[name], row.intervals.get(name)
    error = (ends[1] - ends[0]) / 2 if ends else None
    if name.startswith(RATIO):
        return f"{number(value, value * _relative_error(row))}×"
    if name.endswith(DIFFERENCE):  # of shares, in points of percent
        shown = f"{100 * value:+.1f}"
        return shown + (f" ({100 * ends[0]:+.1f} to {100 * ends[1]:+.1f})" if ends else "")
    if _has_word(name, SHARES):
        low, high = (percent(end, error).removesuffix(" %") for end in ends or (0.0, 0.0))
        return percent(value, error) + (f" ({low} to {high})" if ends else "")
    if _has_word(name, COUNTS) and float(value).is_integer():
        return whole(value)
    if error is None and re.search(RATE, name):
        error = value * _relative_error(row)
    interval = f" ({number(ends[0], error)} to {number(ends[1], error)})" if ends else ""
    return number(value, error) + interval


def _has_word(name: str, words: Sequence[str]) -> bool:
    return any(word in name.split("_") or name.startswith(word) for word in words)


def column_label(name: str) -> str:
    """Return the head of a value's column, from its name in a row.

    >>> column_label("sequences_per_s"), column_label("rank1"), column_label("peak_mb")
    ('sequences/s', 'rank-1', 'peak MB')
    """
    if name in LABELS:
        return LABELS[name]
    if name.endswith(DIFFERENCE):
        return f"{column_label(name.removesuffix(DIFFERENCE))} less float32's, points"
    words = name.replace("_per_", "/").replace("rank1", "rank-1").split("_")
    return " ".join(UNITS.get(word, word) for word in words)


def baseline_of(row: Row, rows: Iterable[Row]) -> Row | None:
    """Return the row of the baseline in the same case of the same run."""
    same = attrgetter("run", "scenario", "case", "subject")
    return next((x for x in rows if x.contender == BASELINE and same(x) == same(row)), None)


def speedup(row: Row, rows: Iterable[Row]) -> str:
    """Return a row's speed as a multiple of the baseline's in the same case of the same run."""
    baseline = baseline_of(row, rows)
    if baseline is None or not median(row).value > 0:
        return DASH
    theirs, ours = median(baseline), median(row)
    value, error = theirs.value / ours.value, math.hypot(theirs.relative_error, ours.relative_error)
    return f"{number(value, value * error)}×"


def remarks(row: Row) -> str:
    """Return how a row ran, where its name does not say it, and its warnings.

    Of a warning only its first words, e.g. `unstable clocks`: the chapter ends with the whole.
    """
    notes = []
    ran = row.ran
    if ran is not None and ran.computed_in != ran.precision:
        notes.append(f"computed in {ran.computed_in}")
    if row.subject is not None and not row.subject.trained:
        notes.append("random weights")
    if row.check is not None and not row.check.ok:
        notes.append(f"wrong outputs (cosine {row.check.cosine:.3g}): no time")
    notes += [f"{n} samples dropped: {why}" for why, n in row.dropped.items() if n]
    kinds = (warning.partition(":")[0] for warning in row.warnings)
    return "; ".join([*notes, *(kind for kind in kinds if kind != FEW_SAMPLES)])
