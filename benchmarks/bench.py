"""The benchmark suite without an installed command: what `cstl-edge bench` does.

python benchmarks/bench.py --short
"""

from __future__ import annotations

import sys

from cstl_edge.cli.app import main as cstl_edge


def main(argv: list[str] | None = None) -> int:
    """Run the verb `bench`; return its exit code."""
    sys.argv = ["cstl-edge", "bench", *(sys.argv[1:] if argv is None else argv)]
    try:
        cstl_edge()
    except SystemExit as end:
        return int(end.code or 0)
    return 0


if __name__ == "__main__":
    sys.exit(main())
