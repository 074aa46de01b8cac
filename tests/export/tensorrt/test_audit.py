"""The audit sees what an engine is, and not what it was asked to be."""

import json

import pytest

from cstl_edge.errors import ExportError
from cstl_edge.export.tensorrt.checks import check_types, count_inspected_types


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
def test_an_engine_is_what_it_is_called(precision, layers, message):
    if message is None:
        check_types("frames", precision, layers)
        return
    with pytest.raises(ExportError, match=message):
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
    assert count_inspected_types(json.dumps({"Layers": old})) == {
        "layers": 3,
        "outputs": {"HALF": 1, "INT8": 1},
    }
    assert count_inspected_types(json.dumps({"Layers": new})) == {
        "layers": 2,
        "outputs": {"HALF": 1},
    }
