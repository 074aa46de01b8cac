"""How rows of results read in a table: times, ratios, values and remarks."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

from cstl_edge.bench.record import Row
from cstl_edge.bench.report.compare import stage_of
from cstl_edge.bench.report.digits import count, mark, number, percent
from cstl_edge.bench.report.tables import (
    DASH,
    Cell,
    Line,
    Table,
    best,
    case_of,
    name_of,
    one_network,
    without_empty,
)
from cstl_edge.measure import percentile

USUAL = "pytorch float32"
"""What people do today: eager PyTorch, the whole window anew for every answer, batch 1."""
RATIO = "times_as_fast_as_"
FAST = "times_as_fast_as_usual"
LABELS = {
    FAST: "× usual way",
    "times_as_fast_as_usual_at_every_frame": "× usual way at every frame",
}
MARKED = "few samples"  # a warning that the star at p99 tells
MARKS = (50, 90, 95, 99)
SHARES = ("rank1", "fnir", "fpir", "share", "loss", "difference")
COUNTS = ("walkers", "people", "parameters", "count", "sequences", "frames", "searches")


def times(title: str, rows: Sequence[Row], names: Sequence[str] = ()) -> Table:
    """Return the percentiles of each row of times, and its values called `names`.

    Without names: how often as fast as the usual way it is, in the same case of the same run.
    """
    alone = one_network(rows)
    names = [name for name in names if any(name in row.values for row in rows)]
    medians = [mark(row.samples[stage_of(row) or ""], 50).value for row in rows]
    cases = {case_of(row.case) for row in rows}
    quickest = best(medians, largest=False) if len(cases) == 1 else set()
    lines: list[Line] = []
    for k, row in enumerate(rows):
        samples = row.samples[stage_of(row) or ""]
        marks = [Cell(_percentile(samples, q), "best" * (k in quickest and q == 50)) for q in MARKS]
        lines.append(
            (
                name_of(row, alone),
                case_of(row.case) if len(cases) > 1 else "",
                *marks,
                count(len(samples)),
                *(value_of(row, name) for name in names),
                *([] if names else [times_as_fast(row, rows, USUAL)]),
                str(mark(row.samples["late"], 99)) if row.samples.get("late") else "",
                remarks(row),
            )
        )
    columns = ("", "case", *(f"p{q} ms" for q in MARKS), "samples",
               *(map(label_of, names) if names else ["× usual way"]), "late p99 ms",
               "remarks")  # fmt: skip
    if len(cases) == 1 and lines:
        only = next(iter(cases))
        title = title if only in ("", title) else f"{title}: {only}"
    notes = []
    if any("*" in str(cell) for line in lines for cell in line[2:6]):
        notes.append("* of so few samples the 99th percentile is the largest.")
    checks = (row.check.reference.partition(",")[0] for row in rows if row.check is not None)
    checked = ", ".join(sorted(set(checks)))
    if checked:
        notes.append(f"Outputs were compared with those of {checked} while measuring.")
    return without_empty(Table(title, columns, tuple(lines), left=2, notes=tuple(notes)))


def stages(title: str, rows: Sequence[Row]) -> Table | None:
    """Return the median and p99 of every stage of rows that have more than one, or None."""
    found = [row for row in rows if len(set(row.samples) - {"late"}) > 1]
    if not found:
        return None
    names = list(dict.fromkeys(stage for row in found for stage in row.samples))
    alone = one_network(found)
    lines = tuple(
        (
            name_of(row, alone),
            case_of(row.case),
            *(_both(row.samples.get(stage, [])) for stage in names),
        )
        for row in found
    )
    columns = ("", "case", *(f"{name.replace('_', ' ')} ms" for name in names))
    return Table(title, columns, lines, left=2, notes=("Each cell: p50 | p99.",))


def values(title: str, rows: Sequence[Row], names: Iterable[str] = ()) -> Table:
    """Return the values of rows, those called `names` first, with intervals where there are any."""
    known = [name for name in names if any(name in row.values for row in rows)]
    more = list(dict.fromkeys(name for row in rows for name in row.values if name not in known))
    alone = one_network(rows)
    lines = tuple(
        (
            name_of(row, alone),
            case_of(row.case),
            *(value_of(row, name) for name in (*known, *more)),
            remarks(row),
        )
        for row in rows
    )
    columns = ("", "case", *(label_of(name) for name in (*known, *more)), "remarks")
    return without_empty(Table(title, columns, lines, left=2))


def value_of(row: Row, name: str) -> str:
    """Return a value with its interval, in percent where it is a share."""
    if name not in row.values:
        return DASH
    value, ends = row.values[name], row.intervals.get(name)
    error = (ends[1] - ends[0]) / 2 if ends else None
    if name.startswith(RATIO):
        return f"{number(value, value * _share(row))}×"
    if _is(name, SHARES):
        shown = percent(value, error)
        if ends:
            low, high = (percent(end, error).removesuffix(" %") for end in ends)
            shown += f" ({low} to {high})"
        return shown
    if _is(name, COUNTS) and float(value).is_integer():
        return count(value)
    shown = number(value, error)
    return shown + (f" ({number(ends[0], error)} to {number(ends[1], error)})" if ends else "")


def label_of(name: str) -> str:
    """Return the head of a value's column, of a name as it is in a row.

    >>> label_of("sequences_per_s"), label_of("rank1"), label_of("peak_mb")
    ('sequences/s', 'rank-1', 'peak MB')
    """
    if name in LABELS:
        return LABELS[name]
    words = name.replace("_per_", "/").replace("rank1", "rank-1").split("_")
    units = {"mb": "MB", "gb": "GB", "fnir": "FNIR", "fpir": "FPIR", "rank5": "rank-5", "w": "W"}
    return " ".join(units.get(word, word) for word in words)


def times_as_fast(row: Row, rows: Iterable[Row], contender: str) -> str:
    """Say how often as fast as `contender` a row is in the same case of the same run."""
    for other in rows:
        same = (other.run, other.case, other.subject) == (row.run, row.case, row.subject)
        if same and other.contender == contender:
            theirs, ours = (mark(r.samples[stage_of(r) or ""], 50) for r in (other, row))
            if ours.value > 0:
                value = theirs.value / ours.value
                return f"{number(value, value * math.hypot(theirs.share, ours.share))}×"
    return DASH


def remarks(row: Row) -> str:
    """Say how a row really ran, where its name does not, and what it is in doubt for.

    Of a warning only its first words, e.g. `unstable clocks`: the chapter ends with the whole.
    """
    said = []
    ran = row.ran
    if ran is not None and ran.computed_in != ran.precision:
        said.append(f"computed in {ran.computed_in}")
    if row.subject is not None and not row.subject.trained:
        said.append("random weights")
    if row.check is not None and not row.check.ok:
        said.append(f"wrong outputs (cosine {row.check.cosine:.3g}): no time")
    said += [f"{n} samples dropped: {why}" for why, n in row.dropped.items() if n]
    doubts = (warning.partition(":")[0] for warning in row.warnings)
    return "; ".join([*said, *(doubt for doubt in doubts if doubt != MARKED)])


def ran_as(rows: Iterable[Row]) -> list[tuple[str, ...]]:
    """Return once each backend as it really ran: name, version, where, precision, threads."""
    lines: dict[tuple[str, ...], None] = {}
    for row in rows:
        if row.ran is not None:
            ran = row.ran
            options = ", ".join(f"{k} {v}" for k, v in ran.options.items())
            threads = "" if ran.threads is None else str(ran.threads)
            lines[(ran.backend, ran.version, ran.provider, ran.precision, ran.computed_in,
                   threads, options)] = None  # fmt: skip
    return sorted(lines)


def _share(row: Row) -> float:
    """Return how far the median of a row may be off, as a share of it."""
    samples = row.samples.get(stage_of(row) or "")
    return mark(samples, 50).share if samples else 0.1


def _percentile(samples: Sequence[float], q: float) -> str:
    largest = percentile(range(len(samples)), q) == len(samples) - 1
    return f"{mark(samples, q)}{'*' if q > 95 and largest else ''}"


def _both(samples: Sequence[float]) -> str:
    return f"{mark(samples, 50)} | {mark(samples, 99)}" if samples else DASH


def _is(name: str, words: Sequence[str]) -> bool:
    return any(word in name.split("_") or name.startswith(word) for word in words)


def conditions(rows: Iterable[Row]) -> Mapping[str, str]:
    """Return the power modes and clocks that rows were measured under, each name once."""
    from cstl_edge.bench.report.load import text

    found: dict[str, dict[str, None]] = {}
    for row in rows:
        for name, value in row.conditions.items():
            if text(value):
                found.setdefault(name, {})[text(value)] = None
    return {name: "; ".join(list(told)[:3]) for name, told in found.items()}
