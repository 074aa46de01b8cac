"""Make tests/golden/tiny: a small network with random weights, exported, and its expected outputs.

tiny.safetensors is its checkpoint.

And tiny_reduced: the same network in float32, fp16 and int8, evaluated on the data of tests/export.

Run from the project root where torch is: python tests/golden/make_tiny_export.py
The tests that read it need neither torch nor the network's code.
"""

from __future__ import annotations

import runpy
import shutil
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch

from cstl_edge.checkpoint.weights import load_checkpoint, save_checkpoint
from cstl_edge.export.export_model import export_model
from cstl_edge.export.folder import attach
from cstl_edge.model import Cstl, CstlConfig
from cstl_edge.runtime.backends.pytorch import TorchEncoder

FOLDER = Path(__file__).parent / "tiny"
REDUCED = Path(__file__).parent / "tiny_reduced"
SMALL_DATA = Path(__file__).parents[1] / "export" / "conftest.py"
EXPECTED = Path(__file__).parent / "tiny_expected.npz"
CONFIG = CstlConfig(size=(16, 12), widths=(4, 8, 16, 16), parts=4, embedding=8)
IMPOSTORS = {"sizes": [1, 2], "fpir": [0.01, 0.1], "threshold": [[1.0, 2.0], [0.5, 1.0]], "data": "made up"}  # fmt: skip # noqa: E501


def main() -> int:
    torch.manual_seed(0)
    network = Cstl(CONFIG)
    with torch.no_grad():
        for norm in network.short.norms:
            norm.running_mean.normal_(0, 0.3)
            norm.running_var.uniform_(0.5, 2)
    with tempfile.TemporaryDirectory() as folder:
        weights = Path(folder) / "tiny.safetensors"
        save_checkpoint(weights, network, half=True)
        shutil.copy(weights, FOLDER.with_suffix(".safetensors"))
        export_model(weights, FOLDER)
        export_model(
            weights,
            REDUCED,
            graphs=("frames", "head", "full"),
            precisions=("fp16", "int8"),
            gather=runpy.run_path(str(SMALL_DATA))["small_data"],
        )
        network, _ = load_checkpoint(weights)
    attach(FOLDER, impostors=IMPOSTORS)
    rng = np.random.default_rng(0)
    silhouettes = rng.integers(0, 2, (3, 9, 16, 12), dtype=np.uint8) * np.uint8(255)
    lengths = np.array([9, 4, 1], np.int32)
    embedded = TorchEncoder(network).encode(silhouettes, lengths)
    np.savez_compressed(
        EXPECTED,
        silhouettes=silhouettes,
        lengths=lengths,
        embedding=embedded.embedding,
        salient_frames=embedded.salient_frames,
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
