"""The audit sees what an engine is, and not what it was asked to be."""

import json

import numpy as np
import pytest

from cstl_edge.errors import ExportError
from cstl_edge.export.engine_audit import check_types, inspected_layers, parity
from cstl_edge.runtime import Embedded, EncoderInfo

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


def test_equal_answers_pass_and_are_told():
    told = parity(Fixed(), Fixed(), "float32", 10)
    assert told["min_cosine"] == pytest.approx(1.0)
    assert (told["max_abs_error"], told["flips"], told["choices"]) == (0.0, 0, 26)


def test_windows_are_ragged_and_one_frame_long_too():
    engine = Fixed()
    parity(engine, Fixed(), "fp16", 10)
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
def test_answers_that_differ(bent, precision, passes):
    """The flips are made in each of four cases, so there are 4 or 8 of 26."""
    if passes:
        assert parity(Fixed(**bent), Fixed(), precision, 10)["min_cosine"] < 1
        return
    with pytest.raises(ExportError, match="differ from ONNX Runtime"):
        parity(Fixed(**bent), Fixed(), precision, 10)


def test_a_part_that_another_frame_gave_is_not_compared():
    class Other(Fixed):
        def encode(self, silhouettes, lengths=None):
            embedded = super().encode(silhouettes, lengths)
            if len(silhouettes) == 8:
                embedded.salient_frames[0, 0] = 5
                embedded.embedding[0, 0] = -embedded.embedding[0, 0]
            return embedded

    assert parity(Other(), Fixed(), "fp16", 10)["flips"] == 1


@pytest.mark.parametrize(
    ("precision", "layers", "told"),
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
def test_an_engine_is_what_it_is_called(precision, layers, told):
    if told is None:
        check_types("frames", precision, layers)
        return
    with pytest.raises(ExportError, match=told):
        check_types("frames", precision, layers)


def test_a_quantised_model_has_a_float16_head():
    check_types("head", "int8", {"MATRIX_MULTIPLY": {"HALF": 15}})
    with pytest.raises(ExportError):
        check_types("head", "int8", {"MATRIX_MULTIPLY": {"FLOAT": 15}})


def test_both_tongues_of_the_inspector():
    old = [
        {"Name": "a", "Outputs": [{"Format/Datatype": "Row major linear FP16 format"}]},
        {"Name": "b", "Outputs": [{"Format/Datatype": "Four wide channel vectorized Int8 format"}]},
        "only a name",
    ]  # fmt: skip
    new = [{"Outputs": [{"Format": "Row major linear", "Datatype": "Half"}]}, {"Outputs": []}]
    assert inspected_layers(json.dumps({"Layers": old})) == {
        "layers": 3,
        "outputs": {"HALF": 1, "INT8": 1},
    }
    assert inspected_layers(json.dumps({"Layers": new})) == {"layers": 2, "outputs": {"HALF": 1}}
