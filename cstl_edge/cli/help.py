"""Help pages: verbs in groups with whole sentences, examples of each, and the exit codes."""

from __future__ import annotations

from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

from cstl_edge.cli.examples import EXAMPLES
from cstl_edge.errors import EXIT_CODES, SIGNAL_BASE

START = "Begin here"
PEOPLE = "Recognise people"
MODELS = "Models and engines"
RESEARCH = "Train and evaluate"
MEASURE = "Measure this machine"
PANELS = (START, PEOPLE, MODELS, RESEARCH, MEASURE)  # in the order of the help page
OTHER = "Verbs"  # of a group whose verbs are in no panel


class Verb(TyperCommand):
    """A verb whose help ends with examples."""

    def format_epilog(self, ctx: Any, formatter: Any) -> None:
        """Write the examples of the verb."""
        _write_examples(ctx, formatter)


class VerbGroup(TyperGroup):
    """A group of verbs, listed by panel and each with its whole first sentence."""

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write a section for each panel."""
        panels: dict[str, list[tuple[str, str]]] = {title: [] for title in PANELS}
        names = self.list_commands(ctx)
        width = max(map(len, names), default=0)
        for name in names:
            command = self.get_command(ctx, name)
            if command is not None and not command.hidden:
                title = getattr(command, "rich_help_panel", None)
                title = title if isinstance(title, str) else OTHER
                row = (name.ljust(width), summary(command.help or ""))
                panels.setdefault(title, []).append(row)
        for title, rows in panels.items():
            if rows:
                with formatter.section(title):
                    formatter.write_dl(rows)

    def format_epilog(self, ctx: Any, formatter: Any) -> None:
        """Write the examples, and at the top the exit codes."""
        _write_examples(ctx, formatter)
        if ctx.parent is None:
            with formatter.section("Exit codes"):
                formatter.write_dl(exit_code_rows())


def style(app: typer.Typer) -> None:
    """Let all verbs of an app and of its groups have our help pages."""
    app.info.cls = VerbGroup
    for command in app.registered_commands:
        command.cls = Verb
    for group in app.registered_groups:
        group.cls = VerbGroup
        if group.typer_instance is not None:
            style(group.typer_instance)


def summary(text: str) -> str:
    """Return the first paragraph of a help text on one line."""
    return " ".join(text.strip().split("\n\n")[0].split())


def exit_code_rows() -> list[tuple[str, str]]:
    """Return the exit codes and what each means, for help and docs."""
    rows = [(str(code), meaning) for code, meaning in EXIT_CODES.items()]
    signal = f"signal N ended the run ({SIGNAL_BASE + 2}: Ctrl-C); what there was is written"
    return [*rows, (f"{SIGNAL_BASE}+N", signal)]


def verb_path(ctx: Any) -> str:
    """Return a verb as it is typed after `cstl-edge`, such as `gallery list`; empty at the top."""
    words: list[str] = []
    while ctx.parent is not None:
        words.insert(0, ctx.info_name)
        ctx = ctx.parent
    return " ".join(words)


def _write_examples(ctx: Any, formatter: Any) -> None:
    examples = EXAMPLES.get(verb_path(ctx), ())
    if examples:
        with formatter.section("Examples"):
            for command, sentence in examples:
                formatter.write(f"  # {sentence}\n  {command}\n")
