"""OpenVINO backend: the answers of ONNX Runtime, the type of its hint, only chosen by name."""

import functools
import json
import sys
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import numpy as np
import pytest
from golden_export import GOLDEN, reseal

from cstl_edge.errors import BackendUnavailable, ConfigError, DataError, ModelError
from cstl_edge.runtime import load, model_check
from cstl_edge.runtime.backends import openvino
from cstl_edge.runtime.streaming.encoder import StreamingEncoder

WINDOW, WALKERS = 9, 3


@pytest.fixture
def ours():
    """Return the golden export in OpenVINO, in a precision; opened once for all tests."""
    pytest.importorskip("openvino", reason="needs openvino")
    return opened


@functools.cache
def opened(precision="float32"):
    return load(GOLDEN / "tiny_reduced", "openvino", 1, precision)


@pytest.fixture
def products():
    """Return the types that layers with weights of a graph of the golden export run in."""
    pytest.importorskip("openvino", reason="needs openvino")

    def types(name, hint):
        graph = (GOLDEN / "tiny_reduced" / name).read_bytes()
        layers = openvino.OpenvinoGraph(name, graph, 1, hint).model.get_runtime_model().get_ops()
        infos = [layer.get_rt_info() for layer in layers]
        return {
            str(info["runtimePrecision"].astype(str))
            for info in infos
            if str(info["layerType"].astype(str)) in ("Convolution", "FullyConnected", "MatMul")
        }

    return types


@pytest.mark.parametrize("precision", ["float32", "fp16", "int8"])
def test_openvino_agrees_with_onnx_runtime_in_every_precision(ours, expected, precision):
    onnx_runtime = load(GOLDEN / "tiny_reduced", "onnxruntime", 1, precision)
    encoder = ours(precision)
    silhouettes = expected["silhouettes"].reshape(-1, *encoder.info.size)  # [m, h, w]
    features, plain = (one.frames(silhouettes) for one in (encoder, onnx_runtime))
    # A value between two steps of int8 or float16 may be rounded to the other one.
    np.testing.assert_allclose(features, plain, atol={"float32": 1e-5}.get(precision, 0.02))
    assert encoder.info.precision == precision
    windows = plain[None].repeat(2, 0)  # [n, s, p, c]
    lengths = np.array([1, len(plain)], np.int32)
    actual, reference = (one.head(windows, lengths) for one in (encoder, onnx_runtime))
    atol = 5e-3 if precision == "fp16" else 1e-5
    np.testing.assert_allclose(actual.embedding, reference.embedding, atol=atol)
    if precision != "fp16":
        np.testing.assert_array_equal(actual.salient_frames, reference.salient_frames)


def test_encoder_info_describes_openvino(ours):
    info = ours().info
    assert (info.backend, info.provider, info.threads) == ("openvino", "CPU", 1)
    assert (info.precision, info.slides, info.model_name) == ("float32", True, "tiny")
    assert ours("int8").info.slides
    assert not ours("fp16").info.slides


@pytest.mark.parametrize("precision", ["float32", "int8"])
@pytest.mark.parametrize("hop", [1, 4])
def test_sliding_windows_agree_with_whole_windows(ours, precision, hop):
    """Windows that fill, windows that slide by one frame and by several, of several walkers."""
    encoder = ours(precision)
    stream = StreamingEncoder(encoder, WINDOW, hop, min_frames=2)
    assert stream.slides
    rng, walks, answers = np.random.default_rng(0), {w: [] for w in range(WALKERS)}, 0
    for t in range(2 * WINDOW + 2):
        seen = {w: rng.integers(0, 2, (16, 12), np.uint8) * np.uint8(255) for w in range(WALKERS)}
        if t % 5 == 3:
            del seen[0]
        for walker, silhouette in seen.items():
            walks[walker].append(silhouette)
        for walker, result in stream.push(seen).items():
            whole = encoder.encode(np.stack(walks[walker][-WINDOW:])[None])
            np.testing.assert_allclose(result.embedding, whole.embedding[0], atol=1e-4)
            np.testing.assert_array_equal(result.salient_frames, whole.salient_frames[0])
            answers += 1
    assert answers > WALKERS * WINDOW / hop


def test_several_threads_slide_at_once(ours):
    encoder, rng = ours(), np.random.default_rng(0)
    widths = {f"kept_{name}": width for name, width in (("values", 48), ("logits", 48))}
    widths |= {"kept_judged": 3, "kept_gates": 32}
    slots = np.arange(WINDOW)[None]
    given = [
        {name: rng.random((1, 4, WINDOW, width), np.float32) for name, width in widths.items()}
        for _ in range(40)
    ]
    alone = [encoder.slide(kept, slots).embedding for kept in given]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda kept: encoder.slide(kept, slots).embedding, given))
    np.testing.assert_array_equal(together, alone)


@pytest.mark.parametrize("name", ["frames.onnx", "head.onnx", "taps.onnx"])
def test_float32_is_computed_in_float32(products, name):
    """Left alone, OpenVINO computes in bfloat16 wherever a processor has it."""
    assert products(name, openvino.HINT) == {"f32"}


def test_int8_is_computed_in_int8(products):
    assert products("frames.int8.onnx", openvino.HINT) & {"u8", "i8"}


def test_one_stream_without_pinned_cores(ours):
    graph = (GOLDEN / "tiny" / "frames.onnx").read_bytes()
    setting = openvino.OpenvinoGraph("frames.onnx", graph, 1).model.get_property
    assert "LATENCY" in str(setting("PERFORMANCE_HINT"))
    assert (setting("INFERENCE_NUM_THREADS"), setting("ENABLE_CPU_PINNING")) == (1, False)


def test_another_type_than_the_hint_is_refused(monkeypatch):
    class Core:
        def read_model(self, graph):
            return graph

        def compile_model(self, model, device, settings):
            assert settings["INFERENCE_PRECISION_HINT"] == "f32"
            chosen = SimpleNamespace(get_type_name=lambda: "bf16")
            return SimpleNamespace(get_property=lambda name: chosen)

    monkeypatch.setattr(openvino, "core", Core)
    graph = (GOLDEN / "tiny" / "frames.onnx").read_bytes()
    with pytest.raises(
        BackendUnavailable, match="expected OpenVINO to compute in f32; it chose bf"
    ):
        openvino.OpenvinoGraph("frames.onnx", graph, 1)


def test_a_missing_openvino_is_an_error_not_a_fallback(folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(BackendUnavailable, match="'openvino' is not on this machine: pip install"):
        load(folder, "openvino")


def test_auto_never_opens_openvino():
    assert load(GOLDEN / "tiny").info.backend == "onnxruntime"


def test_an_unreadable_graph_is_a_model_error(ours, folder, monkeypatch):
    import onnx

    monkeypatch.setattr(model_check, "probe", lambda *given: None)
    model = onnx.load(folder / "frames.onnx")
    model.graph.node[-1].op_type = "Unheard"
    reseal(folder, "frames.onnx", model.SerializeToString())
    with pytest.raises(ModelError, match=r"frames\.onnx: OpenVINO refuses it: Exception"):
        load(folder, "openvino")


def test_a_failed_run_is_a_model_error(ours):
    graph = (GOLDEN / "tiny" / "frames.onnx").read_bytes()
    run = openvino.OpenvinoGraph("frames.onnx", graph, 1)
    with pytest.raises(ModelError, match="OpenVINO failed"):
        run({"silhouettes": np.zeros((1, 3), np.uint8)})
    assert run({"silhouettes": np.zeros((2, 16, 12), np.uint8)})["features"].shape == (2, 4, 16)


def test_inputs_are_checked(ours, expected):
    with pytest.raises(DataError, match="expected silhouettes as uint8"):
        ours().frames(expected["silhouettes"])
    with pytest.raises(ModelError, match=r"not all of taps\.onnx, mix\.onnx, slide\.onnx"):
        ours("fp16").taps(np.zeros((4, 2, 16), np.float32))


def with_bfloat16(folder):
    """Write into a manifest that bfloat16 was judged."""
    path = folder / "manifest.json"
    manifest = json.loads(path.read_text())
    heads = {"openvino": "head.onnx"}
    manifest["precisions"]["bfloat16"] = {"frames": "frames.onnx", "heads": heads}
    path.write_text(json.dumps(manifest))
    return folder


def test_bfloat16_is_computed_only_where_it_was_judged_and_asked_for(folder, expected):
    pytest.importorskip("openvino", reason="needs openvino")
    with pytest.raises(ModelError, match=r"expected bfloat16 graphs for openvino.*--precision bfl"):
        load(folder, "openvino", 1, "bfloat16")
    with pytest.raises(ConfigError, match="bfloat16 is OpenVINO's alone"):
        load(with_bfloat16(folder), "onnxruntime", 1, "bfloat16")
    assert load(folder, "openvino", 1).info.precision == "float32"  # never by itself
    if "BF16" not in openvino.core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        pytest.skip("this processor has no bfloat16")
    encoder = load(folder, "openvino", 1, "bfloat16")
    assert (encoder.info.precision, encoder.info.slides) == ("bfloat16", True)
    plain = load(folder, "onnxruntime", 1).frames(expected["silhouettes"][0])
    rounded = encoder.frames(expected["silhouettes"][0])
    error = np.abs(rounded - plain).max() / np.abs(plain).max()
    assert 1e-5 < error < 0.05


def test_a_processor_without_bfloat16_is_named(folder, monkeypatch):
    core = SimpleNamespace(get_property=lambda *_: ["FP32", "INT8"])
    monkeypatch.setattr(openvino, "core", lambda: core)
    with pytest.raises(BackendUnavailable, match=r"avx512_bf16.*FP32, INT8"):
        load(with_bfloat16(folder), "openvino", 1, "bfloat16")
