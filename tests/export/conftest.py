"""A small checkpoint with norms that do something, and its export."""

import pytest
import torch

from cstl_edge.export import export_model
from cstl_edge.model import Cstl, CstlConfig
from cstl_edge.training.checkpoint import save_checkpoint

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
