"""Table of figures as text, for a terminal, a page or Markdown."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

DASH = "–"  # stands for a figure that there is none of


@dataclass(frozen=True)
class Cell:
    """Text, and its kind: `best`, `faster`, `slower`, `faint` or none."""

    text: str
    kind: str = ""

    def __str__(self) -> str:
        return self.text


Line = tuple[Cell | str, ...]


@dataclass(frozen=True)
class Table:
    """Lines of cells; the first `left` columns are aligned left, all others right."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[Line, ...]
    left: int = 1
    notes: tuple[str, ...] = ()
    folded: bool = False  # whether the page shows its title alone until it is opened

    def without_empty_columns(self) -> Table:
        """Return the table without the columns, but the first, that have no text."""
        keep = [
            k
            for k in range(len(self.columns))
            if k == 0 or any(str(row[k]) not in ("", DASH) for row in self.rows)
        ]
        columns = tuple(self.columns[k] for k in keep)
        rows = tuple(tuple(row[k] for k in keep) for row in self.rows)
        return replace(self, columns=columns, rows=rows, left=sum(k < self.left for k in keep))

    def with_column(self, name: str, cells: Sequence[Cell | str]) -> Table:
        """Return the table with one more column behind those that are aligned left."""
        at = self.left
        lines = zip(self.rows, cells, strict=True)
        rows = tuple((*row[:at], cell, *row[at:]) for row, cell in lines)
        return replace(self, columns=(*self.columns[:at], name, *self.columns[at:]), rows=rows)

    def markdown(self, write: Callable[[str], str] = str) -> str:
        """Return the table in Markdown.

        write: Function that escapes a text; none is needed for texts that are our own.

        >>> print(Table("Rank-1", ("Probe", "Mean"), (("NM", "97.8"),)).markdown())
        **Rank-1**
        <BLANKLINE>
        | Probe | Mean |
        |---|---:|
        | NM | 97.8 |
        """
        rule = "|".join("---" if k < self.left else "---:" for k in range(len(self.columns)))
        lines = (self.columns, *self.rows)
        head, *body = ("| " + " | ".join(write(str(cell)) for cell in x) + " |" for x in lines)
        notes = [line for note in self.notes for line in ("", write(note))]
        return "\n".join([f"**{write(self.title)}**", "", head, f"|{rule}|", *body, *notes])
