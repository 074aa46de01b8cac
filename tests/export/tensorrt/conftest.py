"""A machine of stand-ins for those who build engines: TensorRT, CUDA, and a golden export."""

import json
import shutil
import sys
from pathlib import Path

import pytest
import standin_site
import standin_tensorrt
from standin_cuda import NumpyBuffers

from cstl_edge.export.tensorrt import child

GOLDEN = Path(__file__).parents[2] / "golden"


@pytest.fixture
def folder(tmp_path):
    """A copy of the golden export."""
    return Path(shutil.copytree(GOLDEN / "tiny", tmp_path / "tiny"))


@pytest.fixture
def reduced(tmp_path):
    """A copy of the golden export in three precisions."""
    return Path(shutil.copytree(GOLDEN / "tiny_reduced", tmp_path / "reduced"))


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """Make this process and its children run on a stand-in; call it to say which."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.syspath_prepend(tmp_path / "site")

    def make(**what):
        standin_site.site(tmp_path / "site", **what)
        state = standin_site.state_of(what)
        module = standin_tensorrt.make(state, what.get("version", "10.3.0"))
        monkeypatch.setitem(sys.modules, "tensorrt", module)
        buffers = lambda: NumpyBuffers(state.device)  # noqa: E731
        monkeypatch.setattr("cstl_edge.runtime.tensorrt.encoder.open_buffers", buffers)
        monkeypatch.setattr("cstl_edge.export.tensorrt.child.open_buffers", buffers)
        monkeypatch.setattr("cstl_edge.runtime.tensorrt.masks.open_buffers", buffers)
        return state

    make()
    return make


@pytest.fixture
def here(machine, monkeypatch):
    """Build in this process, and take the golden graphs as checked: seconds less per test."""

    def run(graph, request, progress):
        step = lambda phase, n, count: progress(phase, n / count) or True  # noqa: E731
        report, plan = child.build_requested(request, graph, step)
        return json.loads(json.dumps(report)), plan

    def unchecked(folder, manifest, names):
        return {name: (folder / name).read_bytes() for name in names}

    monkeypatch.setattr("cstl_edge.export.tensorrt.build.run_child", run)
    monkeypatch.setattr("cstl_edge.export.tensorrt.sources.checked_graphs", unchecked)
    monkeypatch.setattr("cstl_edge.runtime.backends.onnx_folder.checked_graphs", unchecked)
    return machine
