"""GPU backends under test, on stand-ins: the answers of ONNX Runtime, and timed stages."""

import contextlib
import importlib
import shutil
import sys
import types
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from standin_cuda import Device, NumpyBuffers
from standin_engines import WINDOW, seal
from standin_tensorrt import State, make

from cstl_edge.bench import inputs
from cstl_edge.bench.backends import onnxruntime, pytorch, tensorrt, tensorrt_rtx
from cstl_edge.bench.backends.base import BASELINE, Backend, Unavailable
from cstl_edge.errors import BackendUnavailable, ExportError, ModelError
from cstl_edge.runtime.tensorrt import encoder as trt_encoder

GOLDEN = Path(__file__).parents[2] / "golden"
FRAMES = inputs.feed("frames", 3, 1, (16, 12))
STAGES = {"device", "h2d", "compute", "d2h", "enqueue"}


@pytest.fixture
def state(monkeypatch):
    """An Orin with TensorRT 10.3.0."""
    state = State(Device())
    monkeypatch.setitem(sys.modules, "tensorrt", make(state))
    monkeypatch.setattr(
        "cstl_edge.runtime.tensorrt.encoder.open_buffers", lambda: NumpyBuffers(state.device)
    )
    return state


@pytest.fixture
def engines(plain, tmp_path, state):
    """A context whose folder has engines without the plugin."""
    folder = Path(shutil.copytree(GOLDEN / "tiny", tmp_path / "tiny"))
    seal(folder)
    return replace(plain, folder=folder)


def by_name(backends):
    """Return backends of graphs by name, and the reasons of those that are missing."""
    backends = list(backends)
    here = {one.name: one for one in backends if isinstance(one, Backend) and one.graphs}
    return here, {one.name: one.reason for one in backends if isinstance(one, Unavailable)}


def expected(context, graph, feed):
    """Return the outputs of ONNX Runtime."""
    backend = by_name(onnxruntime.backends(context))[0]["onnxruntime float32"]
    call = backend.open_graph(graph, feed)
    call.run()
    return call.outputs()


def test_engines_agree_with_onnxruntime_and_time_their_stages(engines):
    here, missing = by_name(tensorrt.backends(engines))
    assert {*here} == {"tensorrt float32, no plugin", "tensorrt float32, no plugin, cuda graph"}
    assert {*missing} == {"tensorrt float16"}
    features = expected(engines, "frames", FRAMES)["features"]
    window = inputs.windows(np.concatenate([features] * 2), 1, WINDOW)
    for graph, feed in (("frames", FRAMES), ("head", window)):
        call = here["tensorrt float32, no plugin"].open_graph(graph, feed)
        for _ in range(2):
            stages = call.run()
        assert {*stages} == STAGES
        whole = stages["h2d"] + stages["compute"] + stages["d2h"]
        assert stages["device"] == pytest.approx(whole)
        for name, array in expected(engines, graph, feed).items():
            np.testing.assert_allclose(call.outputs()[name], array, atol=1e-5)
        call.close()
    assert call.ran.options["part gather"] == "function body"
    assert (call.ran.provider, call.ran.version) == ("Orin", "10.3.0")


def test_a_cuda_graph_is_replayed_and_has_no_inner_stages(engines, state):
    here, _ = by_name(tensorrt.backends(engines))
    call = here["tensorrt float32, no plugin, cuda graph"].open_graph("frames", FRAMES)
    before = state.device.replays
    assert {*call.run()} == {"device", "enqueue"}
    assert state.device.replays == before + 1
    features = expected(engines, "frames", FRAMES)["features"]
    np.testing.assert_allclose(call.outputs()["features"], features, atol=1e-5)
    call.close()
    assert not state.device.memory


def test_a_graph_that_cannot_be_captured_is_unavailable(engines, state):
    state.device.graphs_allowed = False
    here, _ = by_name(tensorrt.backends(engines))
    with pytest.raises(BackendUnavailable, match="call by call"):
        here["tensorrt float32, no plugin, cuda graph"].open_graph("frames", FRAMES)
    assert not state.device.memory


def test_engines_for_another_machine_are_reported_and_not_opened(engines, state):
    seal(engines.folder, gpu="Thor", sm=110)
    here, missing = by_name(tensorrt.backends(engines))
    assert not here
    assert "sm_110" in missing["tensorrt float16"]
    assert state.deserialised == 0


def test_engines_of_the_shipped_folder_serve_an_export_made_for_the_suite(engines, reduced):
    here, _ = by_name(tensorrt.backends(replace(reduced, engines=engines.folder)))
    assert "tensorrt float32, no plugin" in here


@pytest.fixture
def card(monkeypatch):
    """Make a machine with TensorRT-RTX and a GPU of some compute capability."""

    def make_machine(sm):
        state = State(Device(name="a card", sm=sm))
        monkeypatch.setitem(sys.modules, "tensorrt_rtx", make(state, "1.7.1"))
        for module in (tensorrt_rtx, trt_encoder):
            monkeypatch.setattr(module, "open_buffers", lambda: NumpyBuffers(state.device))
        tensorrt_rtx._build.cache_clear()
        return state

    return make_machine


def test_a_card_unknown_to_rtx_is_tried_once_and_reported(plain, card, monkeypatch):
    card(90)
    tried = []

    def refuse(folder, options):
        tried.append(options.target)
        raise ExportError("no such compute capability")

    monkeypatch.setattr("cstl_edge.export.tensorrt.build.build_engines", refuse)
    (backend,) = tensorrt_rtx.backends(plain)
    assert backend.reason == (
        "not supported on this architecture (sm_90); tried: no such compute capability"
    )
    assert tried == ["rtx-sm90"]


def test_rtx_runs_the_engines_that_it_built(plain, card, monkeypatch):
    card(89)

    def build(folder, options):
        place = seal(folder, version="1.7.1", gpu=None, sm=89, library="tensorrt_rtx")
        place.rename(place.with_name(options.target))

    monkeypatch.setattr("cstl_edge.export.tensorrt.build.build_engines", build)
    (backend,) = tensorrt_rtx.backends(plain)
    call = backend.open_graph("frames", FRAMES)
    assert {*call.run()} == STAGES
    features = expected(plain, "frames", FRAMES)["features"]
    np.testing.assert_allclose(call.outputs()["features"], features, atol=1e-5)
    assert (call.ran.backend, call.ran.provider) == ("tensorrt-rtx", "a card")
    call.close()


def test_without_rtx_the_row_has_the_reason(plain, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorrt_rtx", None)
    (backend,) = tensorrt_rtx.backends(plain)
    assert "not here" in backend.reason


class Moment:
    """torch.cuda.Event of a machine without a GPU."""

    clock = 0.0

    def __init__(self, enable_timing):
        assert enable_timing
        self.at = None

    def record(self):
        Moment.clock += 1.0
        self.at = Moment.clock

    def elapsed_time(self, later):
        return later.at - self.at


@pytest.fixture
def cuda(monkeypatch):
    """Let PyTorch's GPU be the CPU: its events count, its graphs keep what was recorded."""
    torch = pytest.importorskip("torch", reason="needs torch")
    module = importlib.import_module("cstl_edge.bench.backends.pytorch_cuda")
    graphs = types.SimpleNamespace(replayed=0)

    class Graph:
        def replay(self):
            graphs.replayed += 1

    stand_in = {
        "is_available": lambda: True,
        "Stream": lambda: types.SimpleNamespace(synchronize=lambda: None),
        "stream": lambda stream: contextlib.nullcontext(),
        "Event": Moment,
        "CUDAGraph": Graph,
        "graph": lambda graph, stream: contextlib.nullcontext(),
        "get_device_name": lambda: "a GPU",
        "get_device_capability": lambda: (9, 0),
        "empty_cache": lambda: None,
    }
    for name, value in stand_in.items():
        monkeypatch.setattr(torch.cuda, name, value)
    monkeypatch.setattr(module, "DEVICE", "cpu")
    monkeypatch.setattr(module, "_pinned", lambda tensor: tensor.clone())
    return types.SimpleNamespace(backends=module.backends, graphs=graphs)


@pytest.mark.parametrize("graph", ["frames", "head", "full"])
@pytest.mark.parametrize("mode", ["", ", cuda graph"])
@pytest.mark.parametrize("precision", ["float32", "float16"])
def test_pytorch_on_a_gpu_agrees_with_the_cpu_and_times_its_stages(
    cuda, trained, graph, mode, precision
):
    baseline = by_name(pytorch.backends(trained))[0][BASELINE]
    trunk = baseline.open_graph("frames", inputs.feed("frames", 5, 1, (16, 12)))
    trunk.run()
    feed = {
        "frames": FRAMES,
        "head": inputs.windows(trunk.outputs()["features"], 2, 5),
        "full": inputs.feed("full", 2, 5, (16, 12)),
    }[graph]
    backend = by_name(cuda.backends(trained))[0][f"pytorch {precision}, cuda{mode}"]
    call = backend.open_graph(graph, feed)
    stages = call.run()
    assert {*stages} == STAGES
    assert stages["device"] == stages["h2d"] + stages["compute"] + stages["d2h"] == 3
    assert (cuda.graphs.replayed > 0) == bool(mode)
    reference = baseline.open_graph(graph, feed)
    reference.run()
    for name, array in reference.outputs().items():
        assert call.outputs()[name].dtype == array.dtype
        if name != "salient_frames":
            tolerance = 1e-5 if precision == "float32" else 0.02
            np.testing.assert_allclose(call.outputs()[name], array, atol=tolerance)
    computed = {"float32": "tfloat32", "float16": "float16"}[precision]
    assert (call.ran.provider, call.ran.computed_in) == ("a GPU", computed)
    call.close()


def test_a_gpu_with_too_little_memory_is_a_model_error(cuda, trained, monkeypatch):
    import torch

    def full(*arguments, **named):
        raise torch.cuda.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr("cstl_edge.bench.backends.pytorch_cuda.CudaRun", full)
    backend = by_name(cuda.backends(trained))[0]["pytorch float16, cuda"]
    with pytest.raises(ModelError, match="memory is too small"):
        backend.open_graph("frames", FRAMES)
