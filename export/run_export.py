"""Export trained weights to ONNX: `python export/run_export.py WEIGHTS -o FOLDER`."""

from __future__ import annotations

import argparse
import json
import sys

from cstl_edge.errors import CstlEdgeError
from cstl_edge.export.export_model import export_model
from cstl_edge.export.quantization import calibration_data
from cstl_edge.export.tensorrt.build import build_engines
from cstl_edge.runtime.manifest import PRECISIONS

GRAPHS = ("frames", "head", "full")


def main(argv: list[str] | None = None) -> int:
    """Export, and print the files with their sha256 and the largest errors."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("weights", help="a .safetensors checkpoint")
    parser.add_argument("-o", "--output", required=True, help="a new folder, or an earlier export")
    parser.add_argument("--graphs", nargs="+", choices=GRAPHS, default=GRAPHS)
    parser.add_argument("--no-simplify", action="store_true", help="leave the graphs as traced")
    parser.add_argument("--precision", nargs="+", choices=PRECISIONS, default=["float32"])
    parser.add_argument("--calibrate", help="silhouettes of one walk, or a folder of such folders")
    parser.add_argument(
        "--people",
        type=int,
        default=calibration_data.PEOPLE,
        help="Walkers to judge fp16 and int8 on",
    )
    parser.add_argument("--build", action="store_true", help="then build TensorRT engines here")
    args = parser.parse_args(argv)
    try:
        manifest = export_model(
            args.weights,
            args.output,
            graphs=args.graphs,
            simplify=not args.no_simplify,
            precisions=args.precision,
            gather=lambda size: calibration_data.gather(size, args.people, args.calibrate),
            progress=lambda text: print(text, file=sys.stderr),
        )
        built = build_engines(args.output) if args.build else {}
    except CstlEdgeError as err:
        print(f"error: {err}", file=sys.stderr)
        return err.exit_code
    told = {
        "files": manifest.files,
        "parity": manifest.parity["graphs"],
        "precisions": {name: one.judged for name, one in manifest.precisions.items()},
        "cpu_default": manifest.cpu_default,
        "engines": {graph: record.plan_sha256 for graph, record in built.items()},
    }
    print(json.dumps(told, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
