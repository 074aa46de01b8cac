"""Tables as the page and the Markdown share them, and how cells read."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from cstl_edge.bench.record import Case, Row

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
