"""Make one page of result files: tables, pictures, and a comparison of machines or commits.

python benchmarks/report.py benchmarks/results/MACHINE/*.jsonl -o bench.html --markdown bench.md
python benchmarks/report.py runs/bench/*.jsonl --against COMMIT -o bench.html

The same as `cstl-edge bench report`.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from cstl_edge.cli.bench import report
from cstl_edge.errors import CstlEdgeError


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("files", nargs="+", type=Path, help="as for cstl-edge bench report")
    parser.add_argument("-o", "--output", type=Path, default=Path("bench.html"), help="the page")
    parser.add_argument("--markdown", type=Path, help="write the tables in Markdown too")
    parser.add_argument("--against", help="a file of results, or a commit in the files")
    args = parser.parse_args(argv)
    try:
        report(args.files, args.output, args.markdown, args.against)
    except CstlEdgeError as err:
        print(f"error: {err}", file=sys.stderr)
        return err.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
