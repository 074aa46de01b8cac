"""The report as one self-contained page of HTML, or as Markdown.

The page loads nothing and runs nothing: styles and pictures are inside, a policy in its head
forbids the rest, and every text of a result is escaped by the template.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from importlib import resources
from itertools import count

from cstl_edge.bench.report.charts.svg import ID_PREFIX, Picture
from cstl_edge.bench.report.tables import escape
from cstl_edge.measure.tables import Cell, Table

SENTENCES = ("remarks", "why", "for example")  # columns that may wrap


@dataclass(frozen=True)
class Section:
    """One scenario, or one side of it."""

    title: str
    lead: tuple[str, ...] = ()
    tables: tuple[Table, ...] = ()
    pictures: tuple[Picture, ...] = ()
    id: str = ""  # anchor in the page


@dataclass(frozen=True)
class Headline:
    """One figure that the chapter leads with."""

    figure: str
    what: str
    where: str  # what ran, so that the figure never stands alone


@dataclass(frozen=True)
class PageChapter:
    """A chapter: one machine and network, or one comparison."""

    id: str
    title: str
    facts: tuple[tuple[str, str], ...] = ()
    headlines: tuple[Headline, ...] = ()
    sections: tuple[Section, ...] = ()


@dataclass(frozen=True)
class ReportPage:
    """All content of a page."""

    title: str
    lead: str
    chapters: tuple[PageChapter, ...]
    method: tuple[str, ...]
    created: str


def html_page(report: ReportPage) -> str:
    """Return the page."""
    from jinja2 import Environment, StrictUndefined

    numbers = count(1)

    def inline(picture: Picture) -> str:
        return picture.svg.replace(ID_PREFIX, f"p{next(numbers)}-")

    inside = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    template = resources.files(__package__).joinpath("page.html.j2").read_text(encoding="utf-8")
    page = inside.from_string(
        template, {"classes": _classes, "sentences": SENTENCES, "inline": inline}
    )
    return page.render(report=report)


def markdown_page(report: ReportPage) -> str:
    """Return the report in Markdown, for a README: the same tables, without pictures."""
    lines = [f"# {escape(report.title)}", "", escape(report.lead), ""]
    for chapter in report.chapters:
        lines += [f"## {escape(chapter.title)}", ""]
        lines += [f"- {escape(name)}: {escape(fact)}" for name, fact in chapter.facts]
        lines += [""] * bool(chapter.facts)
        for line in chapter.headlines:
            lines.append(f"- **{escape(line.figure)}** {escape(line.what)} ({escape(line.where)})")
        lines += [""] * bool(chapter.headlines)
        for section in chapter.sections:
            lines += [f"### {escape(section.title)}", "", *_paragraphs(section.lead)]
            lines += [line for table in section.tables for line in (table.markdown(escape), "")]
    lines += ["## How it was measured", "", *_paragraphs(report.method)]
    return "\n".join([*lines, escape(report.created), ""])


def _paragraphs(texts: Iterable[str]) -> list[str]:
    return [line for text in texts for line in (escape(text), "")]


def _classes(table: Table, column: int, cell: Cell | str) -> str:
    """Return the CSS classes of a cell."""
    classes = [cell.kind] if isinstance(cell, Cell) and cell.kind else []
    if table.columns[column] in SENTENCES:
        classes.append("words")
    elif column < table.left:
        classes.append("left")
    return " ".join(classes)
