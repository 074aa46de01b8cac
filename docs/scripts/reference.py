"""Make docs/reference/ and the generated tables of other pages from the code.

python docs/scripts/reference.py            # write them
python docs/scripts/reference.py --check    # exit code 1 where one is not as the code has it
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from reference_cli import cli_page
from reference_python import python_page
from reference_rest import rest_page
from reference_settings import settings_page
from reference_site import site_page
from source_text import cell

from cstl_edge.errors import error_kinds

DOCS = Path(__file__).parents[1]
PAGES: dict[str, Callable[[], str]] = {
    "reference/cli.md": cli_page,
    "reference/python.md": python_page,
    "reference/rest.md": rest_page,
    "reference/settings.md": settings_page,
    "reference/site.md": site_page,
}
BLOCK = re.compile(r"(<!-- generated: ([a-z ]+) -->\n).*?(<!-- end -->)", re.DOTALL)


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def event_fields() -> str:
    """Return the table of the keys of an event, from its JSON Schema."""
    from cstl_edge.live.events import json_schema

    rows = [
        (f"`{name}`", cell(_json_type(form)), cell(form["description"]))
        for name, form in json_schema()["properties"].items()
    ]
    return table(("key", "type", "meaning"), rows)


def _json_type(form: dict[str, Any]) -> str:
    """Return the type of a key in words; every key but few may be null."""
    if "anyOf" in form:
        kinds = [_json_type(kind) for kind in form["anyOf"] if kind.get("type") != "null"]
        return " or ".join(kinds)
    if "enum" in form:
        return (
            "a [reason code](#reason-codes)"
            if len(form["enum"]) > 12
            else ", ".join(f"`{v}`" for v in form["enum"])
        )
    if "const" in form:
        return f"`{form['const']}`"
    if form.get("format") == "date-time":
        return "time (ISO 8601, UTC)"
    return (
        "numbers"
        if form.get("type") == "array"
        else {"string": "text"}.get(form["type"], form["type"])
    )


def reason_codes() -> str:
    """Return the table of reason codes and their sentences."""
    from cstl_edge.live.events import ReasonCode

    rows = [
        (f"`{code.value}`", cell(str(code.cause.value)) if code.cause else "as the error says it")
        for code in ReasonCode
    ]
    return table(("code", "sentence"), rows)


def exit_codes() -> str:
    """Return the table of exit codes, with the codes of errors that end in them."""
    from cstl_edge.cli.help import exit_code_rows

    names: dict[str, list[str]] = {}
    for kind in error_kinds():
        names.setdefault(str(kind.exit_code), []).append(f"`{kind.code}`")
    rows = [
        (f"`{code}`", meaning, ", ".join(dict.fromkeys(names.get(code, []))))
        for code, meaning in exit_code_rows()
    ]
    return table(("exit code", "meaning", "`code` of the error under `--json`"), rows)


def deprecations() -> str:
    """Return the table of what is deprecated."""
    from cstl_edge.deprecations import DEPRECATED

    rows = [(f"`{d.name}`", f"`{d.instead}`", d.since, d.goes) for d in DEPRECATED.values()]
    return table(("deprecated", "use instead", "since", "goes in"), rows)


def floor_table() -> str:
    """Return the table of floors: the first line of every room says what it is."""
    import floors

    levels, _ = floors.rooms_and_imports()
    rows = []
    for number, rooms in reversed(list(enumerate(levels))):
        holds = "<br>".join(
            f"`{floors.NAMES.get(room, room)}`: {cell(floors.first_line(room))}"
            for room in sorted(rooms)
        )
        rows.append((str(number), holds))
    return table(("floor", "rooms"), rows)


def decisions() -> str:
    """Return the table of the decisions by subject, from the headings of their pages."""
    rows = []
    for path in sorted((DOCS / "decisions").glob("*.md")):
        text = path.read_text(encoding="utf-8")
        title = re.search(r"^# Decisions: (.*)$", text, re.MULTILINE)
        if title:
            links = [
                f"[{heading}]({path.name}#{anchor(heading)})"
                for heading in re.findall(r"^## (.*)$", text, re.MULTILINE)
            ]
            subject = f"[{title[1][:1].upper()}{title[1][1:]}]({path.name})"
            rows.append((subject, "; ".join(links)))
    return table(("subject", "decisions"), rows)


def anchor(heading: str) -> str:
    """Return the anchor of a heading, the same on the site and where Markdown is shown.

    >>> anchor("Tried and left out: a last layer")
    'tried-and-left-out-a-last-layer'
    """
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


BLOCKS: dict[str, Callable[[], str]] = {
    "event fields": event_fields,
    "reason codes": reason_codes,
    "exit codes": exit_codes,
    "deprecations": deprecations,
    "floors": floor_table,
    "decisions": decisions,
}


def made() -> dict[Path, str]:
    """Return every generated file, and every page with generated blocks, as it should be."""
    texts = {DOCS / name: page() for name, page in PAGES.items()}
    for path in sorted(DOCS.rglob("*.md")):
        text = path.read_text(encoding="utf-8")
        if BLOCK.search(text):
            texts[path] = BLOCK.sub(lambda m: f"{m[1]}{BLOCKS[m[2]]()}\n{m[3]}", text)
    return texts


def main() -> int:
    """Write the files, or compare them."""
    stale = []
    for path, text in made().items():
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            stale.append(path.relative_to(DOCS.parent))
            if "--check" not in sys.argv:
                path.parent.mkdir(exist_ok=True)
                path.write_text(text, encoding="utf-8")
    for name in stale:
        print(f"{'stale' if '--check' in sys.argv else 'wrote'}: {name}")
    return 1 if stale and "--check" in sys.argv else 0


if __name__ == "__main__":
    sys.exit(main())
