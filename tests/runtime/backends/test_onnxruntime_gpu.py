"""ONNX Runtime's GPU providers: what computed is told, and the CPU in their place is refused.

No GPU is here: the CPU's provider stands for theirs, and the real code around it runs.
"""

import sys
import types

import numpy as np
import onnxruntime as ort
import pytest
from golden_export import GOLDEN

from cstl_edge.errors import BackendUnavailable, ConfigError
from cstl_edge.runtime import load
from cstl_edge.runtime.backends import onnxruntime_gpu
from cstl_edge.runtime.backends.onnxruntime_gpu import CUDA, RTX_PACKAGE

CPU = "CPUExecutionProvider"


@pytest.fixture
def cpu_as_cuda(monkeypatch):
    monkeypatch.setattr(onnxruntime_gpu, "CUDA", CPU)


def test_embeddings_are_those_of_the_cpu_and_the_provider_is_told(cpu_as_cuda, expected):
    encoder = load(GOLDEN / "tiny", "onnxruntime-cuda")
    embedded = encoder.encode(expected["silhouettes"], expected["lengths"])
    np.testing.assert_allclose(embedded.embedding, expected["embedding"], atol=1e-5)
    np.testing.assert_array_equal(embedded.salient_frames, expected["salient_frames"])
    assert encoder.info.backend == "onnxruntime-cuda"
    frames, head = encoder.info.provider.split("; ")
    assert frames.startswith(f"frames: {CPU} (")
    assert head.startswith(f"head: {CPU} (")
    assert not encoder.info.slides
    assert "GPU" in onnxruntime_gpu.NO_INCREMENTAL_HEAD


def test_float16_is_the_default_where_the_folder_has_it(cpu_as_cuda):
    assert load(GOLDEN / "tiny_reduced", "onnxruntime-cuda").info.precision == "fp16"
    reduced = load(GOLDEN / "tiny_reduced", "onnxruntime-cuda", precision="float32")
    assert reduced.info.precision == "float32"
    with pytest.raises(ConfigError, match="fp8"):
        load(GOLDEN / "tiny_reduced", "onnxruntime-cuda", precision="fp8")


def test_a_session_that_falls_back_to_the_cpu_is_refused(monkeypatch):
    """As ONNX Runtime does where CUDA's libraries are missing: with a warning at most."""
    session = ort.InferenceSession
    monkeypatch.setattr(ort, "get_available_providers", lambda: [CUDA, CPU])
    monkeypatch.setattr(
        ort, "InferenceSession", lambda data, options, providers: session(data, options, [CPU])
    )
    with pytest.raises(BackendUnavailable, match=f"expected {CUDA} to compute .* Conv on {CPU}"):
        load(GOLDEN / "tiny", "onnxruntime-cuda")


def test_a_runtime_without_the_provider_names_the_package(monkeypatch):
    monkeypatch.setattr(ort, "get_available_providers", lambda: [CPU])
    with pytest.raises(BackendUnavailable, match="pip install onnxruntime-gpu"):
        load(GOLDEN / "tiny", "onnxruntime-cuda")
    monkeypatch.setitem(sys.modules, RTX_PACKAGE, None)
    with pytest.raises(BackendUnavailable, match="onnxruntime-ep-nv-tensorrt-rtx"):
        load(GOLDEN / "tiny", "onnxruntime-rtx")


def test_the_rtx_plugin_is_registered_once_and_needs_a_card(monkeypatch):
    plugin = types.SimpleNamespace(get_ep_name=lambda: "Rtx", get_library_path=lambda: "rtx.so")
    registered, devices = [], []
    monkeypatch.setitem(sys.modules, RTX_PACKAGE, plugin)
    monkeypatch.setattr(ort, "get_ep_devices", lambda: devices, raising=False)
    monkeypatch.setattr(
        ort,
        "register_execution_provider_library",
        lambda *pair: registered.append(pair),
        raising=False,
    )
    with pytest.raises(BackendUnavailable, match="finds no RTX card"):
        load(GOLDEN / "tiny", "onnxruntime-rtx")
    assert registered == [("Rtx", "rtx.so")]
    devices.append(types.SimpleNamespace(ep_name="Rtx"))
    monkeypatch.setattr(
        ort.SessionOptions, "add_provider_for_devices", lambda *_: None, raising=False
    )
    with pytest.raises(BackendUnavailable, match=f"expected Rtx to compute .* on {CPU}"):
        load(GOLDEN / "tiny", "onnxruntime-rtx")
    assert registered == [("Rtx", "rtx.so")]
