"""Engine checks: layer types, and outputs beside ONNX Runtime.

TensorRT and the GPU are stand-ins where engines are built.
"""

import json

import numpy as np
import pytest
import standin_tensorrt

from cstl_edge.errors import ExportError
from cstl_edge.export.tensorrt.build import BuildOptions, build_engines
from cstl_edge.export.tensorrt.checks import check_types, count_inspected_types, engine_parity
from cstl_edge.export.tensorrt.sources import Sizes
from cstl_edge.runtime.base import Embedded, EncoderInfo

ALL = ("frames", "head", "full")
INFO = EncoderInfo("standin", "numpy", "float32", 1, "standin", "0" * 64, (8, 4), 2, 3, 4)


class Fixed:
    """An encoder whose answers follow from the lengths, bent as a test likes."""

    info = INFO

    def __init__(self, noise=0.0, flips=0, nan=False):
        self.noise, self.flips, self.nan = noise, flips, nan
        self.lengths = []

    def encode(self, silhouettes, lengths=None):
        assert silhouettes.flags.c_contiguous
        assert silhouettes.dtype == np.uint8
        self.lengths.append(lengths)
        n = len(silhouettes)
        embedding = np.random.default_rng(n).normal(size=(n, 2, 4)).astype(np.float32)
        bend = np.random.default_rng(1).normal(size=embedding.shape).astype(np.float32)
        embedding = embedding + np.float32(self.noise) * bend
        if self.nan:
            embedding[0, 0, 0] = np.nan
        salient = np.zeros((n, 2), np.int32)
        salient.flat[: self.flips] = 1
        return Embedded(embedding, salient)


def test_equal_outputs_pass_and_are_reported():
    report = engine_parity("the pair", Fixed().encode, Fixed(), "float32", 10)
    assert report["min_cosine"] == pytest.approx(1.0)
    assert (report["max_abs_error"], report["flips"], report["choices"]) == (0.0, 0, 26)


def test_windows_are_ragged_and_one_frame_long_too():
    engine = Fixed()
    engine_parity("the pair", engine.encode, Fixed(), "fp16", 10)
    assert engine.lengths[0].tolist() == [1]
    assert any(len(set(lengths.tolist())) > 1 for lengths in engine.lengths)
    assert max(lengths.max() for lengths in engine.lengths) <= 10


@pytest.mark.parametrize(
    ("bent", "precision", "passes"),
    [
        ({"noise": 1e-2}, "float32", False),
        ({"noise": 3e-3}, "fp16", True),
        ({"noise": 1.0}, "fp16", False),
        ({"noise": 1.0}, "int8", False),
        ({"flips": 1}, "float32", False),
        ({"flips": 2}, "fp16", False),
        ({"flips": 2}, "int8", False),
        ({"nan": True}, "int8", False),
    ],
)
def test_differing_outputs_are_refused(bent, precision, passes):
    """The flips are made in each of four cases, so there are 4 or 8 of 26."""
    if passes:
        assert (
            engine_parity("the pair", Fixed(**bent).encode, Fixed(), precision, 10)["min_cosine"]
            < 1
        )
        return
    with pytest.raises(ExportError, match="the pair differs from ONNX Runtime"):
        engine_parity("the pair", Fixed(**bent).encode, Fixed(), precision, 10)


def test_a_part_that_another_frame_gave_is_not_compared():
    class Other(Fixed):
        def encode(self, silhouettes, lengths=None):
            embedded = super().encode(silhouettes, lengths)
            if len(silhouettes) == 8:
                embedded.salient_frames[0, 0] = 5
                embedded.embedding[0, 0] = -embedded.embedding[0, 0]
            return embedded

    assert engine_parity("the pair", Other().encode, Fixed(), "fp16", 10)["flips"] == 1


# Types of layers


@pytest.mark.parametrize(
    ("precision", "layers", "message"),
    [
        ("float32", {"CONVOLUTION": {"FLOAT": 6}}, None),
        ("fp16", {"CONVOLUTION": {"HALF": 6}, "MATRIX_MULTIPLY": {"HALF": 4}}, None),
        ("fp16", {"CONVOLUTION": {"HALF": 19, "FLOAT": 1}}, None),
        ("fp16", {"CONVOLUTION": {"FLOAT": 6}}, "only 0 of 6"),
        ("fp16", {"CONVOLUTION": {"HALF": 6}, "MATRIX_MULTIPLY": {"FLOAT": 4}}, "only 6 of 10"),
        ("float32", {"CONVOLUTION": {"HALF": 6}}, "only 0 of 6"),
        ("int8", {"CONVOLUTION": {"FLOAT": 6}, "QUANTIZE": {"INT8": 12}}, None),
        ("int8", {"CONVOLUTION": {"FLOAT": 6}}, "expected quantised"),
    ],
)
def test_layer_types_match_the_precision(precision, layers, message):
    if message is None:
        check_types("frames", precision, layers)
        return
    with pytest.raises(ExportError, match=message):
        check_types("frames", precision, layers)


def test_a_quantised_model_has_a_float16_head():
    check_types("head", "int8", {"MATRIX_MULTIPLY": {"HALF": 15}})
    with pytest.raises(ExportError):
        check_types("head", "int8", {"MATRIX_MULTIPLY": {"FLOAT": 15}})


def test_inspector_wording_of_both_versions_is_read():
    old = [
        {"Name": "a", "Outputs": [{"Format/Datatype": "Row major linear FP16 format"}]},
        {"Name": "b", "Outputs": [{"Format/Datatype": "Four wide channel vectorized Int8 format"}]},
        "only a name",
    ]  # fmt: skip
    new = [{"Outputs": [{"Format": "Row major linear", "Datatype": "Half"}]}, {"Outputs": []}]
    assert count_inspected_types(json.dumps({"Layers": old})) == {
        "layers": 3,
        "outputs": {"HALF": 1, "INT8": 1},
    }
    assert count_inspected_types(json.dumps({"Layers": new})) == {
        "layers": 2,
        "outputs": {"HALF": 1},
    }


# Whole builds


def options(**changes):
    options = {"sizes": Sizes(walkers=4, window=6, frames=12), "plugin": "off", "graphs": ALL}
    return BuildOptions(**options | changes)


def test_full_is_compared_too(folder, here):
    """Eight walkers go through an engine for four in pieces."""
    built = build_engines(folder, options())
    assert built["frames"].parity == built["head"].parity
    for graph in ("head", "full"):
        assert built[graph].parity["against"] == "onnxruntime, float32"
        assert built[graph].parity["choices"] == 13 * 4
        assert built[graph].parity["min_cosine"] > 0.99999


@pytest.mark.parametrize("precision", ["float32", "fp16"])
def test_full_in_every_precision_that_has_it(reduced, here, precision):
    built = build_engines(reduced, options(precision=precision))
    assert built["full"].precision == precision
    assert (built["full"].parity["max_abs_error"] > 1e-5) == (precision == "fp16")


@pytest.mark.parametrize("graph", ["head", "full"])
def test_engine_with_other_outputs_is_not_kept(folder, here, monkeypatch, graph):
    what = {"head": "frames and head", "full": "full"}[graph]
    compute = standin_tensorrt.Context._compute

    def bent(self):
        compute(self)
        name = "silhouettes" if graph == "full" else "features"
        if name in self.engine.inputs and "embedding" in self.outputs:
            self._array("embedding", self.outputs["embedding"])[:, 0] *= -1

    monkeypatch.setattr(standin_tensorrt.Context, "_compute", bent)
    with pytest.raises(ExportError, match=f"^{what} differs from ONNX Runtime: cosine -1"):
        build_engines(folder, options())
    assert not (folder / "engines").exists()


def test_full_alone_needs_no_other(folder, here):
    built = build_engines(folder, options(graphs=("full",)))
    assert built["full"].parity["flips"] == 0


def test_half_of_a_pair_is_not_compared_with_a_warning(folder, here, caplog):
    assert build_engines(folder, options(graphs=("frames",)))["frames"].parity is None
    assert "frames is not compared with ONNX Runtime" in caplog.text


def test_int8_has_no_full_graph(reduced, here):
    with pytest.raises(ExportError, match="int8 is of frames and head"):
        build_engines(reduced, options(precision="int8"))
