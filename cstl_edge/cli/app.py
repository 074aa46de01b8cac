"""Command line: registers the verbs, whose heavy imports wait until one is chosen.

Results go to stdout (`--json` for machines), progress to stderr; the exit code names the kind of
error (`cstl_edge.errors`).
"""

from __future__ import annotations

import gc
import logging
import sys
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from cstl_edge import __version__
from cstl_edge.cli import (
    adapt,
    bench,
    data,
    embed,
    engines,
    evaluate,
    export,
    gallery,
    live,
    models,
    recognise,
    remote,
    reproduce,
    serve,
    train,
)
from cstl_edge.cli.console import print_demo, print_result, progress
from cstl_edge.cli.failures import json_wanted, run_verb, take_debug
from cstl_edge.cli.help import MEASURE, MODELS, PEOPLE, RESEARCH, START, style
from cstl_edge.cli.options import Json

app = typer.Typer(
    name="cstl-edge",
    help="Recognise people by their walk. Begin with `cstl-edge demo`.",
    invoke_without_command=True,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


GARBAGE_AFTER = 10_000  # new objects: of 700, as usual, imports alone would be looked through often
SWITCH_S = 0.0005  # a thread's turn while others wait: of 5 ms reading a recording would wait


def main() -> None:
    """Run the command line and exit; every expected error is one line and its exit code."""
    words = sys.argv[1:]
    debug = take_debug(words)
    logging.basicConfig(level=logging.DEBUG if debug else logging.WARNING, format="%(message)s")
    gc.set_threshold(GARBAGE_AFTER)
    sys.setswitchinterval(SWITCH_S)
    run = partial(app, words, prog_name="cstl-edge", standalone_mode=False)
    code = run_verb(run, as_json=json_wanted(words), debug=debug)
    gc.freeze()  # else the end of the interpreter looks through all that it is about to drop
    sys.exit(code)


@app.callback()
def _options(
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
    debug: Annotated[
        bool, typer.Option("--debug", help="Show tracebacks and the log; any verb takes it.")
    ] = False,
) -> None:
    """Recognise people by their walk. Begin with `cstl-edge demo`."""
    if version:
        print(f"cstl-edge {__version__}")
        raise typer.Exit


@app.command(rich_help_panel=START)
def demo(
    out: Annotated[Path, typer.Option(help="Folder for what it writes.")] = Path("runs/demo"),
    seed: Annotated[int, typer.Option(help="Number that chooses the synthetic street.")] = 0,
    service: Annotated[
        bool,
        typer.Option("--serve", help="Run the page with four synthetic cameras until Ctrl-C."),
    ] = False,
    json: Json = False,
) -> None:
    """Enroll and recognise a real walker and a synthetic street, without a camera."""
    if service:
        serve.run_demo_site(out, seed, json=json)
        return
    from cstl_edge.demo import STEPS, run_demo

    with progress("demo", steps=STEPS) as bar:
        result = run_demo(out, seed=seed, progress=bar)
    print_demo(result, as_json=json)


@app.command(rich_help_panel=START)
def doctor(json: Json = False) -> None:
    """Tell what this machine has, what will be used, and how to get what is missing."""
    from cstl_edge.doctor import report

    diagnosis = report()
    print_result(diagnosis.to_dict(), diagnosis.lines(), json)


app.command(rich_help_panel=PEOPLE)(live.live)
app.command(rich_help_panel=PEOPLE)(recognise.enroll)
app.command(rich_help_panel=PEOPLE)(recognise.identify)
app.command(rich_help_panel=PEOPLE)(embed.embed)
app.add_typer(gallery.people, name="gallery", rich_help_panel=PEOPLE)
app.command(rich_help_panel=PEOPLE)(serve.serve)
app.command(rich_help_panel=PEOPLE)(remote.events)
app.add_typer(serve.config, name="config", rich_help_panel=PEOPLE)
app.command(rich_help_panel=MODELS)(models.models)
app.command(rich_help_panel=MODELS)(adapt.adapt)
app.command(rich_help_panel=MODELS)(export.export)
app.command(rich_help_panel=MODELS)(engines.build)
app.add_typer(engines.plugins, name="plugin", rich_help_panel=MODELS)
app.command(rich_help_panel=MODELS)(export.import_released)
app.add_typer(data.data, name="data", rich_help_panel=RESEARCH)
app.command(rich_help_panel=RESEARCH)(train.train)
app.command("eval", rich_help_panel=RESEARCH)(evaluate.evaluate)
app.command(rich_help_panel=RESEARCH)(reproduce.reproduce)
app.add_typer(reproduce.figure, name="figure", rich_help_panel=RESEARCH)
app.add_typer(bench.bench, name="bench", rich_help_panel=MEASURE)
style(app)
