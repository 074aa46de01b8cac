"""How the command line speaks: results to stdout, narration and progress to stderr."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

from cstl_edge.errors import ConfigError

if TYPE_CHECKING:
    from cstl_edge.runtime.tensorrt.plugin import Library


FILE_WIDTH = 120  # characters, where no terminal says
MARKS = {"ok": "✓", "missing": "–", "broken": "✗"}


def say(text: str) -> None:
    """Print one line of narration."""
    print(text, file=sys.stderr, flush=True)


def show(result: Any, text: str, as_json: bool) -> None:
    """Print a result for machines or for people."""
    print(json.dumps(result, ensure_ascii=False) if as_json else text)


@contextmanager
def needs_torch(verb: str, extra: str = "train") -> Iterator[None]:
    """Name the extra where what a verb imports is not installed (ConfigError)."""
    try:
        yield
    except ImportError as err:
        raise ConfigError(f'{verb} needs torch: pip install "cstl-edge[{extra}]"') from err


@contextmanager
def progress(text: str) -> Iterator[Callable[[str], None]]:
    """Show on a terminal that something goes on; yields a function that tells what."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield lambda told: None
        return
    with console.status(text) as status:
        yield status.update


def print_doctor(report: dict[str, Any], as_json: bool) -> None:
    """Print what `doctor.report` found."""
    lines = [f"cstl_edge {report['cstl_edge']}, {report['environment']['cpu']}"]
    for finding in report["findings"]:
        remedy = f" → {finding['remedy']}" if finding["remedy"] else ""
        lines.append(f"{MARKS[finding['state']]} {finding['what']}: {finding['detail']}{remedy}")
    show(report, "\n".join(lines), as_json)


def print_libraries(libraries: Sequence[Library], as_json: bool) -> None:
    """Print what `plugin.build` built, what for, and what its tests said."""
    lines = []
    for built in libraries:
        what = "kernel" if built.tensorrt is None else f"plugin, TensorRT {built.tensorrt} headers"
        lines.append(f"{built.path}: {what}, CUDA {built.cuda}, {built.architectures}")
        lines.append(f"  {built.checked}")
    show([asdict(library) for library in libraries], "\n".join(lines), as_json)


def print_demo(result: dict[str, Any], as_json: bool) -> None:
    """Print the table of a demo and where its files are."""
    if as_json:
        print(json.dumps(result, ensure_ascii=False))
        return
    console = Console()
    if not console.is_terminal:
        console = Console(width=FILE_WIDTH)
    console.print(_walkers(result), _latencies(result))
    for line in result["lines"]:
        console.print(line, highlight=False, markup=False)


def _walkers(result: dict[str, Any]) -> Table:
    table = Table(title="Who is who", title_justify="left")
    for column in ("scene", "walker", "truth", "answer", "distance", "threshold", "verdict"):
        table.add_column(column)
    for row in result["walkers"]:
        distance, threshold = (
            "" if row[key] is None else f"{row[key]:.3f}" for key in ("distance", "threshold")
        )
        table.add_row(
            row["scene"], row["walker"], row["truth"], row["answer"], distance, threshold,
            row["verdict"],
        )  # fmt: skip
    return table


def _latencies(result: dict[str, Any]) -> Table:
    table = Table(title="Milliseconds per stage", title_justify="left")
    for column in ("scene", "stage", "count", "p50", "p99"):
        table.add_column(column, justify="left" if column in ("scene", "stage") else "right")
    for scene, stages in result["stages"].items():
        for stage, row in stages.items():
            table.add_row(
                scene, stage, str(row["count"]), f"{row['p50_ms']:.2f}", f"{row['p99_ms']:.2f}"
            )
    return table
