"""A small checkpoint with norms that do something, its graphs and its exports."""

import functools

import numpy as np
import onnx
import pytest
import torch

from cstl_edge.checkpoint.weights import load_checkpoint, save_checkpoint
from cstl_edge.export.export_model import export_model
from cstl_edge.export.graphs import INCREMENTAL, build_graph
from cstl_edge.export.quantization.calibration_data import CalibrationData
from cstl_edge.export.quantization.context import QuantizationContext
from cstl_edge.model import Cstl, CstlConfig
from cstl_edge.walkers.collection import WalkersSet

SMALL = {"size": (16, 12), "widths": (4, 8, 16, 16), "parts": 4, "embedding": 8}


@pytest.fixture(scope="session", autouse=True)
def one_thread():
    """Networks this small only wait for a second one, and burn six times the processor's time."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


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


@pytest.fixture
def overflowing():
    """A network whose second convolution passes 65504; the next two bring it back."""
    network = small_network()
    with torch.no_grad():
        for conv, power in zip(network.backbone.convs, (9, 10, -9, -10), strict=True):
            conv.weight *= 2.0**power
    return network


@functools.cache
def _traced(graph, changes):
    return build_graph(small_network(**dict(changes)).fused(), graph).SerializeToString()


@pytest.fixture
def traced():
    """Return a graph of `network(**changes)`, one's own copy; each is traced once."""
    return lambda graph, **changes: onnx.load_model_from_string(
        _traced(graph, tuple(changes.items()))
    )


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


@pytest.fixture(scope="session")
def edge(weights, tmp_path_factory):
    """What a runtime needs of `weights`, as traced."""
    folder = tmp_path_factory.mktemp("edge") / "small"
    export_model(weights, folder, graphs=("frames", "head"), simplify=False)
    return folder


def small_data(size=(16, 12)):
    """Three people, each with blocks of their own that flicker from frame to frame."""
    rng = np.random.default_rng(8)
    names = [f"nm-{i:02d}" for i in range(1, 7)] + ["bg-01", "bg-02", "cl-01", "cl-02"]
    rows = [(p, name, view) for p in range(3) for name in names for view in (18, 90)]
    people, sequences, views = (np.array(column) for column in zip(*rows, strict=True))
    body = np.where(rng.random((3, 4, 3)) < 0.5, 0.03, 0.97)  # how often each block is white
    blocks = rng.random((len(rows), 6, 4, 3)) < body[people][:, None]
    fine = blocks.repeat(size[0] // 4, 2).repeat(size[1] // 3, 3) * np.uint8(255)
    evaluation = WalkersSet(fine, people, sequences.astype("U2"), sequences, views)
    report = {"judged_on": "blocks", "sequences": len(rows)}
    return CalibrationData(list(fine[::7]), evaluation, report)


@pytest.fixture(scope="session")
def gather():
    """Calibration data for a small network, in place of Walkers."""
    return small_data


@pytest.fixture(scope="session")
def context(weights):
    """The graphs of `weights` with calibration data; what is computed of them is kept."""
    network = load_checkpoint(weights)[0].fused()
    graphs = {graph: build_graph(network, graph) for graph in ("frames", "head", *INCREMENTAL)}
    return QuantizationContext(network, graphs, small_data())


@pytest.fixture(scope="session")
def reduced(weights, tmp_path_factory):
    """All graphs of `weights` in all precisions, as traced."""
    folder = tmp_path_factory.mktemp("reduced") / "small"
    precisions = ("fp16", "int8")
    export_model(weights, folder, simplify=False, precisions=precisions, gather=small_data)
    return folder
