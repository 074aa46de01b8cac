"""Tables as the page and the Markdown share them, and how cells read."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from cstl_edge.bench.record import Case, Row
from cstl_edge.bench.report.compare import stage_of
from cstl_edge.bench.report.formatting import count, mark, number, percent
from cstl_edge.measure.stats import percentile

USUAL = "pytorch float32"
"""What people do today: eager PyTorch, the whole window anew for every answer, batch 1."""
RATIO = "times_as_fast_as_"
FAST = "times_as_fast_as_usual"
LABELS = {
    FAST: "× usual way",
    "times_as_fast_as_usual_at_every_frame": "× usual way at every frame",
    "sequences_per_core_minute": "sequences/core-minute",
    "casia_b_test_minutes": "CASIA-B's test half, minutes",
}
RATE = "_per_s$|_minute|^joules"  # as sure as the times that it is made of
DIFFERENCE = "_difference"
TOLD = "remarks"
MARKED = "few samples"  # a warning that the star at p99 tells
MARKS = (50, 90, 95, 99)
SHARES = ("rank1", "fnir", "fpir", "share", "loss")
COUNTS = ("walkers", "people", "parameters", "count", "sequences", "frames", "searches")


def times(title: str, rows: Sequence[Row], names: Sequence[str] | None = None) -> Table:
    """Return the percentiles of each row of times, and its values called `names`.

    Without names: how often as fast as the usual way it is, in the same case of the same run.
    """
    alone = one_network(rows)
    shared, own = cases_of(rows)
    marks = [_marks(row) for row in rows]
    if not any(own):
        medians = [mark(row.samples[stage_of(row) or ""], 50).value for row in rows]
        for k in best(medians, largest=False):
            marks[k][0] = Cell(str(marks[k][0]), "best")
    lines = tuple(
        (
            name_of(row, alone),
            own[k],
            *marks[k],
            count(len(row.samples[stage_of(row) or ""])),
            *([times_as_fast(row, rows, USUAL)] if names is None else []),
            *(value_of(row, name) for name in names or ()),
            str(mark(row.samples["late"], 99)) if row.samples.get("late") else "",
            remarks(row),
        )
        for k, row in enumerate(rows)
    )
    ratio = ["× usual way"] if names is None else map(label_of, names)
    columns = (*("", "case"), *(f"p{q} ms" for q in MARKS), "samples", *ratio, "late p99 ms", TOLD)
    return without_empty(Table(_titled(title, shared), columns, lines, 2, _notes(rows, marks)))


def stages(title: str, rows: Sequence[Row]) -> Table | None:
    """Return the median and p99 of every stage of rows that have more than one, or None."""
    found = [row for row in rows if len(set(row.samples) - {"late"}) > 1]
    if not found:
        return None
    names = list(dict.fromkeys(stage for row in found for stage in row.samples))
    alone = one_network(found)
    shared, own = cases_of(found)
    lines = tuple(
        (name_of(row, alone), own[k], *(_both(row.samples.get(stage, [])) for stage in names))
        for k, row in enumerate(found)
    )
    columns = ("", "case", *(f"{name.replace('_', ' ')} ms" for name in names))
    notes = ("Each cell: p50 | p99.",)
    return without_empty(Table(_titled(title, shared), columns, lines, left=2, notes=notes))


def values(title: str, rows: Sequence[Row], first: Sequence[str] = (), only: bool = False) -> Table:
    """Return the values of rows with intervals, those of `first` first, or `only` those."""
    there = dict.fromkeys(name for row in rows for name in row.values)
    names = [name for name in first if name in there]
    names += [] if only else [name for name in there if name not in first]
    alone = one_network(rows)
    shared, own = cases_of(rows)
    lines = tuple(
        (name_of(row, alone), own[k], *(value_of(row, name) for name in names), remarks(row))
        for k, row in enumerate(rows)
    )
    columns = ("", "case", *map(label_of, names), TOLD)
    return without_empty(Table(_titled(title, shared), columns, lines, left=2))


def value_of(row: Row, name: str) -> str:
    """Return a value with its interval, in percent where it is a share."""
    if name not in row.values:
        return DASH
    value, ends = row.values[name], row.intervals.get(name)
    error = (ends[1] - ends[0]) / 2 if ends else None
    if name.startswith(RATIO):
        return f"{number(value, value * _share(row))}×"
    if name.endswith(DIFFERENCE):
        return _points(value, ends)
    if _is(name, SHARES):
        shown = percent(value, error)
        if ends:
            low, high = (percent(end, error).removesuffix(" %") for end in ends)
            shown += f" ({low} to {high})"
        return shown
    if _is(name, COUNTS) and float(value).is_integer():
        return count(value)
    if error is None and re.search(RATE, name):
        error = value * _share(row)
    shown = number(value, error)
    return shown + (f" ({number(ends[0], error)} to {number(ends[1], error)})" if ends else "")


def label_of(name: str) -> str:
    """Return the head of a value's column, of a name as it is in a row.

    >>> label_of("sequences_per_s"), label_of("rank1"), label_of("peak_mb")
    ('sequences/s', 'rank-1', 'peak MB')
    """
    if name in LABELS:
        return LABELS[name]
    if name.endswith(DIFFERENCE):
        return f"{label_of(name.removesuffix(DIFFERENCE))} less float32's, points"
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


def _points(value: float, ends: tuple[float, float] | None) -> str:
    """Return a difference of shares in points of percent."""
    shown = f"{100 * value:+.1f}"
    return shown + (f" ({100 * ends[0]:+.1f} to {100 * ends[1]:+.1f})" if ends else "")


def _share(row: Row) -> float:
    """Return how far the median of a row may be off, as a share of it."""
    samples = row.samples.get(stage_of(row) or "")
    return mark(samples, 50).share if samples else 0.1


def _titled(title: str, shared: str) -> str:
    return title if shared in ("", title) else f"{title}: {shared}"


def _marks(row: Row) -> list[Cell | str]:
    """Return the percentiles of a row, the 99th with a star where it is the largest sample."""
    samples = row.samples[stage_of(row) or ""]
    largest = percentile(range(len(samples)), 99) == len(samples) - 1
    return [f"{mark(samples, q)}{'*' if q == 99 and largest else ''}" for q in MARKS]


def _notes(rows: Iterable[Row], marks: Iterable[Sequence[Cell | str]]) -> tuple[str, ...]:
    notes = []
    if any("*" in str(cells[-1]) for cells in marks):
        notes.append("* of so few samples the 99th percentile is the largest.")
    checks = (row.check.reference.partition(",")[0] for row in rows if row.check is not None)
    if checked := ", ".join(sorted(set(checks))):
        notes.append(f"Outputs were compared with those of {checked} while measuring.")
    return tuple(notes)


def _both(samples: Sequence[float]) -> str:
    return f"{mark(samples, 50)} | {mark(samples, 99)}" if samples else DASH


def _is(name: str, words: Sequence[str]) -> bool:
    return any(word in name.split("_") or name.startswith(word) for word in words)


DASH = "–"
MARKUP = re.compile(r"([\\`*\[\]<>|&]|:(?=//)|(?<=www)\.)")  # the last two make links of bare words


@dataclass(frozen=True)
class Cell:
    """Text, and what it is: `best`, `faster`, `slower`, `faint` or nothing in particular."""

    text: str
    kind: str = ""

    def __str__(self) -> str:
        return self.text


Line = tuple[Cell | str, ...]


@dataclass(frozen=True)
class Table:
    """Rows of cells; the first `left` columns are aligned left, all others right."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[Line, ...]
    left: int = 1
    notes: tuple[str, ...] = ()
    folded: bool = False
    """Whether the page shows its title alone until it is opened."""


def without_empty(table: Table) -> Table:
    """Return the table without columns in which nothing stands."""
    keep = [
        k
        for k in range(len(table.columns))
        if k == 0 or any(str(row[k]) not in ("", DASH) for row in table.rows)
    ]
    return Table(
        table.title,
        tuple(table.columns[k] for k in keep),
        tuple(tuple(row[k] for k in keep) for row in table.rows),
        sum(k < table.left for k in keep),
        table.notes,
        table.folded,
    )


def with_column(table: Table, at: int, name: str, cells: Sequence[Cell | str]) -> Table:
    """Return the table with one more column before the one with index `at`."""
    rows = tuple((*row[:at], cell, *row[at:]) for row, cell in zip(table.rows, cells, strict=True))
    return replace(table, columns=(*table.columns[:at], name, *table.columns[at:]), rows=rows)


def markdown(table: Table) -> list[str]:
    """Return a table as lines of Markdown, its text inert."""
    rule = "|".join("---" if k < table.left else "---:" for k in range(len(table.columns)))
    lines = [table.columns, *table.rows]
    head, *body = ("| " + " | ".join(inert(str(cell)) for cell in line) + " |" for line in lines)
    notes = [line for note in table.notes for line in ("", inert(note))]
    return [f"**{inert(table.title)}**", "", head, f"|{rule}|", *body, *notes]


def inert(text: str) -> str:
    """Escape what Markdown or HTML would take for its own.

    >>> inert("a|b <script>")
    'a\\\\|b \\\\<script\\\\>'
    """
    return MARKUP.sub(r"\\\1", " ".join(text.split()))


def case_of(case: Case) -> str:
    """Say in a few words what was asked.

    >>> case_of(Case(graph="full", batch=1, frames=30))
    'full, batch 1, 30 frames'
    """
    return ", ".join(_words(case))


def cases_of(rows: Sequence[Row]) -> tuple[str, list[str]]:
    """Return what the cases of all rows share, and of each row what is its own.

    >>> cases_of([Row(run="", scenario="graph", contender="", case=Case(batch=1, frames=s))
    ...           for s in (10, 30)])
    ('batch 1', ['10 frames', '30 frames'])
    """
    words = [_words(row.case) for row in rows]
    shared = [word for word in words[0] if all(word in one for one in words)] if words else []
    own = [", ".join(word for word in one if word not in shared) for one in words]
    return ", ".join(shared), own


def _words(case: Case) -> list[str]:
    said = [
        case.graph or "",
        f"batch {case.batch}" if case.batch is not None else "",
        _counted(case.frames, "frame"),
        f"hop {case.hop}" if case.hop is not None else "",
        _counted(None if case.graph and case.walkers == 1 else case.walkers, "walker"),
        f"paced at {case.paced_hz:g} Hz" if case.paced_hz is not None else "",
        case.source or "",
    ]
    return [word for word in said if word]


def name_of(row: Row, alone: bool = True) -> str:
    """Name a row: its contender, and its network unless all rows share it."""
    if alone or row.subject is None:
        return row.contender
    height, width = row.subject.size
    return f"{row.contender} ({row.subject.name}, {height}×{width})"


def one_network(rows: Iterable[Row]) -> bool:
    """Tell whether all rows are of the same network."""
    networks = {(r.subject.name, r.subject.size) for r in rows if r.subject is not None}
    return len(networks) <= 1


def best(values: Sequence[float | None], *, largest: bool) -> set[int]:
    """Return where the best value stands, if there is more than one to choose from."""
    known = [x for x in values if x is not None]
    if len(known) < 2:
        return set()
    wanted = max(known) if largest else min(known)
    return {k for k, x in enumerate(values) if x == wanted}


def _counted(count: int | None, what: str) -> str:
    if count is None:
        return ""
    return f"{count} {what}" + ("" if count == 1 else "s")
