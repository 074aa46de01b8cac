"""A small checkpoint with norms that do something, and its export."""

import numpy as np
import pytest
import torch

from cstl_edge.checkpoint.weights import save_checkpoint
from cstl_edge.export.export_model import export_model
from cstl_edge.export.quantization.calibration_data import Evidence
from cstl_edge.model import Cstl, CstlConfig
from cstl_edge.walkers.collection import WalkersSet

SMALL = {"size": (16, 12), "widths": (4, 8, 16, 16), "parts": 4, "embedding": 8}


def small_network(seed=0, **changes):
    torch.manual_seed(seed)
    network = Cstl(CstlConfig(**{**SMALL, **changes})).eval()
    if network.short is not None:
        for norm in network.short.norms:
            norm.running_mean.normal_(0, 0.3)
            norm.running_var.uniform_(0.5, 2)
            norm.weight.data.uniform_(0.5, 1.5)
            norm.bias.data.normal_(0, 0.1)
    return network


@pytest.fixture
def network():
    """Make a small network; keyword arguments change its configuration."""
    return small_network


@pytest.fixture(scope="session")
def weights(tmp_path_factory):
    """A checkpoint rounded to float16."""
    path = tmp_path_factory.mktemp("weights") / "small.safetensors"
    save_checkpoint(path, small_network(), {"name": "small"}, half=True)
    return path


@pytest.fixture(scope="session")
def exported(weights, tmp_path_factory):
    """All graphs of `weights`."""
    folder = tmp_path_factory.mktemp("exported") / "small"
    export_model(weights, folder)
    return folder


def small_evidence(size=(16, 12)):
    """Three people, each with blocks of their own that flicker from frame to frame."""
    rng = np.random.default_rng(8)
    names = [f"nm-{i:02d}" for i in range(1, 7)] + ["bg-01", "bg-02", "cl-01", "cl-02"]
    rows = [(p, name, view) for p in range(3) for name in names for view in (18, 90)]
    people, sequences, views = (np.array(column) for column in zip(*rows, strict=True))
    body = np.where(rng.random((3, 4, 3)) < 0.5, 0.03, 0.97)  # how often each block is white
    blocks = rng.random((len(rows), 6, 4, 3)) < body[people][:, None]
    fine = blocks.repeat(size[0] // 4, 2).repeat(size[1] // 3, 3) * np.uint8(255)
    walks = WalkersSet(fine, people, sequences.astype("U2"), sequences, views)
    return Evidence(list(fine[::7]), walks, {"judged_on": "blocks", "sequences": len(rows)})


@pytest.fixture(scope="session")
def gather():
    """Evidence for a small network, in place of Walkers."""
    return small_evidence


@pytest.fixture(scope="session")
def reduced(weights, tmp_path_factory):
    """All graphs of `weights` in all precisions, as traced."""
    folder = tmp_path_factory.mktemp("reduced") / "small"
    wanted = ("fp16", "int8")
    export_model(weights, folder, simplify=False, precisions=wanted, gather=small_evidence)
    return folder
