"""Make one page of result files: tables, pictures, and a comparison of machines or commits.

python benchmarks/report.py benchmarks/results/MACHINE/*.jsonl -o bench.html --markdown bench.md
python benchmarks/report.py runs/bench/*.jsonl --against COMMIT -o bench.html

The same as `cstl-edge bench report`.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

import typer

from cstl_edge.cli_bench_report import report
from cstl_edge.errors import CstlEdgeError


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code."""
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command()(report)
    try:
        app(list(sys.argv[1:] if argv is None else argv), standalone_mode=False)
    except CstlEdgeError as err:
        print(f"error: {err}", file=sys.stderr)
        return err.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
