"""Command line reference: every verb with its arguments, options and examples."""

from __future__ import annotations

import typing
from collections.abc import Iterator
from typing import Any

import typer
from source_text import cell, code_cell

from cstl_edge.cli.app import app
from cstl_edge.cli.examples import EXAMPLES

HEAD = """# Command line

Made from the code by `python docs/scripts/reference.py`; `cstl-edge VERB --help` prints the same.
`python -m cstl_edge` is `cstl-edge`. Exit codes: [the table](../events.md#exit-codes).
"""
WORDS = {"str": "TEXT", "string": "TEXT", "Path": "PATH", "int": "NUMBER", "integer": "NUMBER"}
WORDS |= {"float": "NUMBER", "text": "TEXT", "path": "PATH", "bool": "", "boolean": ""}


def verbs() -> Iterator[tuple[str, Any]]:
    """Yield every verb as it is typed after `cstl-edge` ("" for the program), and its command."""
    yield from _below("", typer.main.get_command(app))


def _below(path: str, command: Any) -> Iterator[tuple[str, Any]]:
    if not command.hidden:
        yield path, command
        for name, child in getattr(command, "commands", {}).items():
            yield from _below(f"{path} {name}".strip(), child)


def option_names(param: Any) -> list[str]:
    """Return the spellings of an option, or the name of an argument in capitals."""
    if param.param_type_name == "argument":
        return [(param.metavar or param.name).upper()]
    return [*param.opts, *param.secondary_opts]


def cli_page() -> str:
    """Return the page."""
    panels: dict[str, list[str]] = {}
    for path, command in verbs():
        if path and " " not in path:
            panel = getattr(command, "rich_help_panel", None)
            title = panel if isinstance(panel, str) else "Verbs"
            panels.setdefault(title, []).append(f"[{path}](#cstl-edge-{path})")
    overview = "\n".join(f"| {title} | {', '.join(names)} |" for title, names in panels.items())
    parts = [HEAD, f"| group | verbs |\n|---|---|\n{overview}\n"]
    parts += [_verb(path, command) for path, command in verbs()]
    return "\n".join(parts)


def _verb(path: str, command: Any) -> str:
    name = f"cstl-edge {path}".strip()
    parts = [f"## {name}\n", f"{_prose(command.help or '')}\n"]
    params = [p for p in command.params if not getattr(p, "hidden", False)]
    if rows := [_row(param) for param in params if param.name != "help"]:
        parts.append("\n".join(["| option | default | meaning |", "|---|---|---|", *rows]) + "\n")
    if examples := EXAMPLES.get(path):
        lines = "\n".join(f"# {sentence}\n{command}" for command, sentence in examples)
        reason = "examples of the help, parsed by a test of their own"
        parts.append(f"<!-- not run: {reason} -->\n```sh\n{lines}\n```\n")
    return "\n".join(parts)


def _prose(text: str) -> str:
    paragraphs = text.replace("\b", "").strip().split("\n\n")
    return "\n\n".join(cell(" ".join(p.split())) for p in paragraphs)


def _row(param: Any) -> str:
    names = ", ".join(f"`{name}`" for name in option_names(param))
    value = "" if param.param_type_name == "argument" else _value(param)
    shown = f"{names} {code_cell(value)}".strip()
    default = "required" if param.required else code_cell(_default(param))
    return f"| {shown} | {default} | {cell(param.help or '')} |"


def _value(param: Any) -> str:
    """Return what an option takes: its choices, its metavar or a word for its type."""
    if getattr(param, "is_flag", False):
        return ""
    if param.metavar:
        return str(param.metavar).strip("<>")
    annotation = getattr(getattr(param, "type_descriptor", None), "annotation", None)
    choices = typing.get_args(annotation) or getattr(getattr(param, "type", None), "choices", ())
    words = [choice for choice in choices if isinstance(choice, str)]
    if words:
        return "|".join(words)
    plain = [choice for choice in choices if isinstance(choice, type) and choice is not type(None)]
    kind = plain[0] if plain else annotation
    name: str = getattr(kind, "__name__", "") or getattr(getattr(param, "type", None), "name", "")
    return WORDS.get(name, name.upper())


def _default(param: Any) -> str:
    default = param.default
    empty = default is None or default is False or default in ((), []) or callable(default)
    return "" if empty else str(default)
