"""Export of the released form: graphs, parity, precisions, streaming."""

import numpy as np
import pytest
from onnx import TensorProto
from standin_released import released_state

from cstl_edge.checkpoint.import_released import convert_state
from cstl_edge.checkpoint.weights import save_checkpoint
from cstl_edge.export.export_model import export_model
from cstl_edge.export.graphs import build_graph
from cstl_edge.export.quantization.fp16 import islands, tensor_types, to_half
from cstl_edge.export.weight_storage import MIN_ELEMENTS, folded_factors, store_as_half
from cstl_edge.model import Cstl, CstlConfig
from cstl_edge.runtime import load
from cstl_edge.runtime.manifest import read_manifest
from cstl_edge.runtime.streaming.encoder import StreamingEncoder

SMALL = {"size": (16, 12), "widths": (4, 8, 16, 32), "parts": 8, "embedding": 8}


@pytest.fixture(scope="module")
def network():
    """A small released network whose weights are float16 numbers."""
    config = CstlConfig(**SMALL, variant="released")
    state = released_state(config.parts, config.widths, config.embedding, 3)
    halves = {k: t.half().float() if t.is_floating_point() else t for k, t in state.items()}
    network = Cstl(config)
    network.load_state_dict(convert_state(halves, config))
    return network.eval()


@pytest.fixture(scope="module")
def weights(network, tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "released.safetensors"
    save_checkpoint(path, network, half=True)
    return path


@pytest.fixture
def exported(weights, tmp_path, gather):
    precisions = ("float32", "fp16")
    export_model(weights, tmp_path / "m", simplify=False, precisions=precisions, gather=gather)
    return tmp_path / "m"


def test_every_runtime_computes_the_same(weights, exported):
    manifest = read_manifest(exported)
    assert manifest.config["variant"] == "released"
    for graph in ("head.onnx", "full.onnx"):
        assert manifest.parity["graphs"][graph]["embedding"]["max_abs_error"] < 1e-5
        assert manifest.parity["graphs"][graph]["salient_frames"]["wrong"] == 0
    fp16 = manifest.precisions["fp16"].judged["rounding twin"]
    assert fp16["cosine"]["smallest"] >= fp16["limits"]["cosine"]
    rng = np.random.default_rng(5)
    silhouettes = rng.integers(0, 256, (4, 11, 16, 12), dtype=np.uint8)
    lengths = np.array([11, 1, 7, 10], np.int32)
    reference, runtime = load(weights), load(exported)
    ours, theirs = (encoder.encode(silhouettes, lengths) for encoder in (runtime, reference))
    np.testing.assert_allclose(ours.embedding, theirs.embedding, atol=1e-5)
    np.testing.assert_array_equal(ours.salient_frames, theirs.salient_frames)
    half = load(exported, precision="fp16").encode(silhouettes, lengths)
    assert 0 < np.abs(half.embedding - ours.embedding).max() < 0.05

    stream = StreamingEncoder(runtime, 8, 1)
    for frame in silhouettes[0]:
        answer = stream.push({"a": frame})
    window = runtime.encode(silhouettes[:1, 3:])
    np.testing.assert_allclose(answer["a"].embedding, window.embedding[0], atol=1e-4)


def test_every_large_weight_is_half(network):
    model = build_graph(network.fused(), "head")
    store_as_half(model, folded_factors(network))
    kinds = {
        t.name: t.data_type for t in model.graph.initializer if np.prod(t.dims) >= MIN_ELEMENTS
    }
    assert len(kinds) == 15  # two convolutions, four concatenations, the embedding
    assert set(kinds.values()) == {TensorProto.FLOAT16}


def test_what_leads_to_the_embedding_stays_float32(network):
    model = build_graph(network.fused(), "head")
    types, home = tensor_types(to_half(model)), islands(model)
    leaks = [node.output[0] for node in model.graph.node if node.op_type == "LeakyRelu"]
    wide = [name for name in leaks if types[name] == TensorProto.FLOAT]
    assert len(leaks) == 4  # the MLPs of Eq. 1, 3 and 6, and T
    assert wide == [name for name in leaks if home.get(name) == "ratios"]
    assert len(wide) == 1
