"""Export of the unshuffled trunk: one more node, and every graph, precision and window as usual."""

import numpy as np
import onnx
import pytest
import torch

from cstl_edge.checkpoint.weights import load_checkpoint, save_checkpoint
from cstl_edge.export.export_model import export_model
from cstl_edge.export.quantization.fp16 import tensor_types, to_half
from cstl_edge.runtime import load
from cstl_edge.runtime.manifest import read_manifest
from cstl_edge.runtime.streaming.encoder import StreamingEncoder

UNSHUFFLED = {"trunk": "unshuffled", "widths": (8, 8, 16, 16)}
RNG = np.random.default_rng(5)
SILHOUETTES = RNG.integers(0, 2, (4, 11, 16, 12), np.uint8) * np.uint8(255)
LENGTHS = np.array([11, 1, 7, 10], np.int32)


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    from .conftest import small_network

    path = tmp_path_factory.mktemp("weights") / "unshuffled.safetensors"
    save_checkpoint(path, small_network(**UNSHUFFLED), {"name": "unshuffled"}, half=True)
    return path


@pytest.fixture(scope="module")
def exported(weights, tmp_path_factory):
    """All graphs in all precisions, simplified as `cstl-edge export` does."""
    from .conftest import small_data

    folder = tmp_path_factory.mktemp("exported") / "unshuffled"
    export_model(weights, folder, precisions=("fp16", "int8"), gather=small_data)
    return folder


def test_every_runtime_computes_the_same(weights, exported):
    manifest = read_manifest(exported)
    assert manifest.config["trunk"] == "unshuffled"
    for graph in ("frames.onnx", "head.onnx", "full.onnx"):
        figures = manifest.parity["graphs"][graph]
        assert all(x.get("max_abs_error", 0) < 1e-5 for x in figures.values()), figures
    reference, runtime = load(weights), load(exported, precision="float32")
    theirs, ours = (x.encode(SILHOUETTES, LENGTHS) for x in (reference, runtime))
    np.testing.assert_allclose(ours.embedding, theirs.embedding, atol=1e-5)
    assert (ours.salient_frames == theirs.salient_frames).all()


def test_openvino_computes_the_same(exported):
    pytest.importorskip("openvino", reason="needs OpenVINO")
    plain, other = (load(exported, x, precision="float32") for x in ("onnxruntime", "openvino"))
    ours, theirs = (x.encode(SILHOUETTES, LENGTHS) for x in (plain, other))
    np.testing.assert_allclose(ours.embedding, theirs.embedding, atol=1e-5)


@pytest.mark.parametrize(("precision", "atol"), [("fp16", 0.01), ("int8", 0.1)])
def test_every_precision_is_near(exported, precision, atol):
    plain, other = (load(exported, precision=x) for x in ("float32", precision))
    expected, actual = (x.encode(SILHOUETTES, LENGTHS) for x in (plain, other))
    same = expected.salient_frames == actual.salient_frames
    assert same.mean() > 0.7
    np.testing.assert_allclose(actual.embedding[same], expected.embedding[same], atol=atol)
    assert (actual.embedding != expected.embedding).any()


def test_gates_have_judged_every_precision(exported):
    precisions = read_manifest(exported).precisions
    assert set(precisions) == {"fp16", "int8"}
    half = precisions["fp16"].judged["rounding twin"]
    assert half["cosine"]["smallest"] >= half["limits"]["cosine"]
    assert set(precisions["int8"].judged) == {"onnxruntime", "tensorrt"}


@pytest.mark.parametrize("slide", [True, False])
def test_windows_that_slide_equal_whole_windows(exported, slide):
    encoder = load(exported, precision="float32")
    stream = StreamingEncoder(encoder, 5, 2, 5, slide=slide)
    walk = SILHOUETTES[0]
    answers = [x for frame in walk for x in stream.push({7: frame}).values()]
    assert len(answers) > 2
    starts = range(0, len(walk) - 4, 2)
    expected = [encoder.encode(walk[None, i : i + 5]).embedding[0] for i in starts]
    for answer, whole in zip(answers, expected, strict=False):
        np.testing.assert_allclose(answer.embedding, whole, atol=1e-5)


def test_folding_is_one_node_that_moves_numbers(traced):
    model = traced("frames", **UNSHUFFLED)
    nodes = [node.op_type for node in model.graph.node]
    assert nodes.count("SpaceToDepth") == 1
    assert "Reshape" not in nodes[: nodes.index("Conv")]
    types = tensor_types(half := to_half(model))
    folded = next(n.output[0] for n in half.graph.node if n.op_type == "SpaceToDepth")
    assert types[folded] == onnx.TensorProto.FLOAT16


def test_checkpoint_keeps_the_form(weights):
    network, _ = load_checkpoint(weights)
    assert network.config.trunk == "unshuffled"
    assert network.backbone.convs[0].weight.shape == (8, 4, 3, 3)
    assert torch.isfinite(network.embed.weight).all()
