"""Frame of a study: its command line, its errors as exit codes, its record as a line of JSON."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from cstl_edge.errors import CstlEdgeError
from cstl_edge.measure.environment import environment
from cstl_edge.output import append_line


def study_parser(doc: str | None) -> argparse.ArgumentParser:
    """Return a parser with a study's docstring as its help and an option `--out`."""
    parser = argparse.ArgumentParser(
        description=doc, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, help="append the record to this file of JSON lines")
    return parser


def run_study(
    parser: argparse.ArgumentParser,
    study: Callable[[argparse.Namespace], object],
    argv: Sequence[str] | None = None,
) -> int:
    """Run a study, print its error if there is one; return the exit code.

    Args:
        parser: Parser of its command line.
        study: Function of the arguments that measures, prints and appends records.
        argv: The arguments (default: those of this process).
    """
    args = parser.parse_args(argv)
    try:
        study(args)
    except CstlEdgeError as err:
        print(f"error: {err}", file=sys.stderr)
        return err.exit_code
    return 0


def append_record(out: Path | None, benchmark: str, record: Mapping[str, Any]) -> None:
    """Append a study's record and the machine to a file, where one is given.

    Args:
        out: File of JSON lines; None appends nothing.
        benchmark: Name of the study.
        record: Figures of the study.
    """
    if out is not None:
        append_line(out, {"benchmark": benchmark, "environment": environment(), **record})
