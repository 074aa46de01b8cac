"""Train on a folder of silhouettes, PERSON/WALK/*.png (needs the extra `train`).

python examples/train_on_silhouettes.py silhouettes/ --iterations 2000
"""

from pathlib import Path

import typer

from cstl_edge.data.importing.prepare import prepare
from cstl_edge.data.importing.settings import PrepareSettings
from cstl_edge.training.command import run_training

CONFIG = """
model: {widths: [16, 32, 64, 64], parts: 16, embedding: 128}
sampler: {people: 2, sequences: 2, frames: 15, rule: opengait}
optimiser: {rate: 1.0e-3, schedule: cosine, warm_up: 5}
run: {iterations: 2000}
"""


def main(silhouettes: Path, iterations: int = 2000, out: Path = Path("runs/mine")) -> None:
    """Prepare SILHOUETTES, train on all of their people, and print the weights file."""
    settings = PrepareSettings(dataset="folder", size=(64, 44))
    index = prepare(silhouettes, out / "data", settings, workers=1)
    print(f"{len(index.people)} people, {index.sequences} walks, {index.frames} silhouettes")
    out.joinpath("mine.yaml").write_text(CONFIG, encoding="utf-8")
    changes = [f"run.iterations={iterations}", "data.split=all"]
    result = run_training(out / "mine.yaml", changes, data=out / "data", folder=out / "run")
    print(result.weights)


if __name__ == "__main__":
    typer.run(main)
