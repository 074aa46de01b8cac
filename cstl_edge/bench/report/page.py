"""One report as a page of HTML that stands alone, or as Markdown.

The page loads nothing and runs nothing: styles and pictures are inside, a policy in its head
forbids the rest, and every text of a result is escaped by the template.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import resources

from cstl_edge.bench.report.charts.plots import Picture
from cstl_edge.bench.report.tables import Cell, Table, inert, markdown

WORDS = ("remarks", "why", "for example")  # columns of sentences, which may wrap


@dataclass(frozen=True)
class Section:
    """One scenario, or one side of it."""

    id: str
    title: str
    lead: tuple[str, ...] = ()
    tables: tuple[Table, ...] = ()
    pictures: tuple[Picture, ...] = ()


@dataclass(frozen=True)
class Headline:
    """One figure that the chapter leads with."""

    figure: str
    what: str
    where: str
    """What ran, so that the figure never stands alone."""


@dataclass(frozen=True)
class Part:
    """A chapter: one machine at one commit, or one comparison."""

    id: str
    title: str
    facts: tuple[tuple[str, str], ...] = ()
    headlines: tuple[Headline, ...] = ()
    sections: tuple[Section, ...] = ()


@dataclass(frozen=True)
class Report:
    """All that is shown."""

    title: str
    lead: str
    parts: tuple[Part, ...]
    method: tuple[str, ...]
    made: str


def html(report: Report) -> str:
    """Return the page."""
    from jinja2 import Environment, StrictUndefined

    inside = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    template = resources.files(__package__).joinpath("page.html.j2").read_text(encoding="utf-8")
    return inside.from_string(template, {"kind": _kind, "words": WORDS}).render(report=report)


def text(report: Report) -> str:
    """Return the report in Markdown, for a README: the same tables, without pictures."""
    lines = [f"# {inert(report.title)}", "", inert(report.lead), ""]
    for part in report.parts:
        lines += [f"## {inert(part.title)}", ""]
        lines += [f"- {inert(name)}: {inert(told)}" for name, told in part.facts]
        lines += [""] * bool(part.facts)
        for one in part.headlines:
            lines.append(f"- **{inert(one.figure)}** {inert(one.what)} ({inert(one.where)})")
        lines += [""] * bool(part.headlines)
        for section in part.sections:
            lines += [f"### {inert(section.title)}", ""]
            lines += [line for told in section.lead for line in (inert(told), "")]
            lines += [line for table in section.tables for line in (*markdown(table), "")]
    lines += ["## How it was measured", ""]
    lines += [line for told in report.method for line in (inert(told), "")]
    return "\n".join([*lines, inert(report.made), ""])


def _kind(table: Table, column: int, cell: Cell | str) -> str:
    """Return the classes of a cell."""
    kinds = [cell.kind] if isinstance(cell, Cell) and cell.kind else []
    if table.columns[column] in WORDS:
        kinds.append("words")
    elif column < table.left:
        kinds.append("left")
    return " ".join(kinds)
