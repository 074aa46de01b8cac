"""Fixtures of the peers: the modules of benchmarks/peers, narrow networks."""

import importlib
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

ROOT = Path(__file__).parents[3]
ROOMS = {  # the networks are the package's, their costs and the comparison the benchmark's
    "cstl_edge.reproduce.peers": ("blocks", "gaitset", "gaitpart", "gln", "mt3d_style", "encoder"),
    "peers": tuple(
        path.stem for path in (ROOT / "benchmarks" / "peers").glob("*.py") if path.stem[0] != "_"
    ),
}
WIDTHS = (4, 8, 8)


@pytest.fixture(scope="module")
def torch():
    torch = pytest.importorskip("torch")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # networks this small only wait for a second one
    yield torch
    torch.set_num_threads(threads)


@pytest.fixture(autouse=True)
def _seed(torch):
    """The seed of the weights."""
    torch.manual_seed(0)


@pytest.fixture(scope="module")
def peers(torch):
    """All modules by name."""
    modules = [(name, room) for room, names in ROOMS.items() for name in names]
    return SimpleNamespace(
        **{name: importlib.import_module(f"{room}.{name}") for name, room in modules}
    )


@pytest.fixture
def tiny(peers):
    """A narrow network of each kind."""
    return {
        "gaitset": peers.gaitset.GaitSet(WIDTHS, 5),
        "gaitpart": peers.gaitpart.GaitPart(WIDTHS, 5),
        "gln": peers.gln.Gln(WIDTHS, 6, 5),
        "mt3d_style": peers.mt3d_style.Mt3dStyle((2, 3, 4), 5),
    }


@pytest.fixture
def walk(torch):
    """Silhouettes of two sequences of seven frames."""
    drawn = np.random.default_rng(0).integers(0, 2, (2, 7, 16, 11), np.uint8)
    return torch.from_numpy(drawn.repeat(4, 2).repeat(4, 3) * np.uint8(255))
