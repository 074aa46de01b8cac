"""Export weights to ONNX, and build engines where TensorRT is (needs the extra `export`).

python examples/export_and_build.py weights.safetensors model/
"""

from pathlib import Path

import typer

import cstl_edge as ce
from cstl_edge.errors import BackendUnavailable
from cstl_edge.export.export_model import export_model
from cstl_edge.export.tensorrt.build import BuildOptions, Sizes, build_engines


def main(weights: Path, folder: Path, walkers: int = 8) -> None:
    """Write FOLDER from WEIGHTS, then engines for at most so many walkers in one call."""
    manifest = export_model(weights, folder, progress=print)
    print("wrote", ", ".join(manifest.files))
    try:
        engines = build_engines(folder, BuildOptions(sizes=Sizes(walkers, 30, 240)))
        print("engines:", ", ".join(engines))
    except BackendUnavailable as err:
        print(f"no engines here, copy the folder to the GPU's machine and build there: {err}")
    print("runs on:", ce.load(folder).info.backend)


if __name__ == "__main__":
    typer.run(main)
