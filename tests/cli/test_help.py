"""Help pages: verbs in groups, whole sentences, examples that parse, `--json` everywhere."""

import os
import re
import shlex
import subprocess
import sys

import pytest
import typer
from command_line import call

from cstl_edge.cli.app import app
from cstl_edge.cli.examples import EXAMPLES
from cstl_edge.cli.help import PANELS
from cstl_edge.errors import EXIT_CODES

TOP = typer.main.get_command(app)


def verbs(command=TOP, path=()):
    """Every command by its path, groups among them."""
    yield " ".join(path), command
    for name, inner in getattr(command, "commands", {}).items():
        yield from verbs(inner, (*path, name))


COMMANDS = dict(verbs())
LEAVES = {path: c for path, c in COMMANDS.items() if not hasattr(c, "commands") or path == "bench"}


def options(command):
    return [name for parameter in command.params for name in parameter.opts]


@pytest.mark.parametrize("path", LEAVES)
def test_every_verb_takes_json(path):
    assert "--json" in options(LEAVES[path])


@pytest.mark.parametrize("path", COMMANDS)
def test_every_verb_has_examples_and_whole_sentences(path):
    command = COMMANDS[path]
    assert EXAMPLES[path]
    summary = " ".join((command.help or "").split("\n\n")[0].split())
    assert re.fullmatch(r"[A-Z].*\.", summary), summary
    for parameter in command.params:
        text = parameter.help or ""
        if "--help" not in parameter.opts and "completion" not in parameter.name:
            assert re.match(r"[A-Z.]", text), (parameter.name, text)
            assert text.endswith("."), (parameter.name, text)


@pytest.mark.parametrize(
    "words", [shlex.split(line) for examples in EXAMPLES.values() for line, _ in examples], ids=str
)
def test_examples_parse(words):
    words = words[words.index("cstl_edge" if words[0] == "torchrun" else "cstl-edge") + 1 :]
    command, context = TOP, None
    while words and words[0] in getattr(command, "commands", {}):
        context = typer.Context(command, info_name=words[0], parent=context)
        command, words = command.commands[words[0]], words[1:]
    command.make_context("cstl-edge", list(words), parent=context)


def test_the_first_page_has_groups_examples_and_exit_codes():
    text = call("--help").stdout
    titles = [line[:-1] for line in text.splitlines() if re.fullmatch(r"\S.*:", line)]
    assert titles == ["Options", *PANELS, "Examples", "Exit codes"]
    assert "..." not in text.split("\n", 1)[1]
    assert all(
        re.search(rf"^  {code} +{meaning}", text, re.M) for code, meaning in EXIT_CODES.items()
    )
    assert "--install-completion" in text
    for name in TOP.commands:
        assert re.search(rf"^  {name} +[A-Z]", text, re.M), name


@pytest.mark.parametrize("words", [[], ["gallery"]])
def test_without_a_verb_the_help_is_shown(words):
    done = call(*words)
    assert done.returncode == 2
    assert "Usage: cstl-edge" in done.stderr


def test_shells_complete_verbs_and_names():
    def complete(text):
        environment = {
            "_CSTL_EDGE_COMPLETE": "complete_bash",
            "COMP_WORDS": text,
            "COMP_CWORD": str(len(text.split(" ")) - 1),
        }
        command = [sys.executable, "-c", "from cstl_edge.cli.app import main; main()"]
        done = subprocess.run(
            command, env=os.environ | environment, capture_output=True, text=True, timeout=60
        )
        return done.stdout.split()

    assert complete("cstl-edge en") == ["enroll"]
    assert complete("cstl-edge live 0 --segmenter b") == ["background"]
