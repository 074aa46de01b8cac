"""Export trained weights to ONNX: `python export/run_export.py WEIGHTS -o FOLDER`."""

from __future__ import annotations

import argparse
import json
import sys

from cstl_edge.errors import CstlEdgeError
from cstl_edge.export import export_model

GRAPHS = ("frames", "head", "full")


def main(argv: list[str] | None = None) -> int:
    """Export, and print the files with their sha256 and the largest errors."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("weights", help="a .safetensors checkpoint")
    parser.add_argument("-o", "--output", required=True, help="a new folder, or an earlier export")
    parser.add_argument("--graphs", nargs="+", choices=GRAPHS, default=GRAPHS)
    parser.add_argument("--no-simplify", action="store_true", help="leave the graphs as traced")
    args = parser.parse_args(argv)
    try:
        manifest = export_model(
            args.weights,
            args.output,
            graphs=args.graphs,
            simplify=not args.no_simplify,
            progress=lambda text: print(text, file=sys.stderr),
        )
    except CstlEdgeError as err:
        print(f"error: {err}", file=sys.stderr)
        return err.exit_code
    told = {"files": manifest.files, "parity": manifest.parity["graphs"]}
    print(json.dumps(told, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
