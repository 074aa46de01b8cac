"""Simplifier in a child process: crashes, hangs and wrong graphs do not stop an export."""

import sys

import numpy as np
import onnx
import pytest
from onnx import helper

from cstl_edge.export import simplify as module
from cstl_edge.export.simplify import TOOLS, simplify
from cstl_edge.runtime.graph_format import OPERATOR


@pytest.fixture
def model(traced):
    return traced("head")


@pytest.fixture
def feeds():
    rng = np.random.default_rng(0)
    features = rng.random((3, 4, 4, 16), dtype=np.float32)
    return [{"features": features, "lengths": np.array([4, 1, 2], np.int32)}]


@pytest.mark.parametrize("tool", TOOLS)
def test_node_attributes_and_function_survive(model, feeds, tool):
    pytest.importorskip(tool, reason=f"{tool} is not installed")
    simpler, report = simplify(model, feeds, tool)
    assert report["tool"].startswith(tool)
    assert len(simpler.graph.node) < len(model.graph.node)
    (node,) = [n for n in simpler.graph.node if n.op_type == OPERATOR]
    attributes = {a.name: helper.get_attribute_value(a) for a in node.attribute}
    assert attributes == {"plugin_version": b"2", "plugin_namespace": b"cstl_edge"}
    assert simpler.functions == model.functions
    assert simpler.ir_version == model.ir_version


def spoilt(change):
    def in_child(model, tool, timeout_s):
        copy = onnx.ModelProto()
        copy.CopyFrom(model)
        change(copy)
        return copy.SerializeToString()

    return in_child


def rescale(model):
    weight = max(model.graph.initializer, key=lambda t: len(t.raw_data))
    array = onnx.numpy_helper.to_array(weight) * np.float32(1.01)
    weight.CopyFrom(onnx.numpy_helper.from_array(array, weight.name))


def drop_attribute(model):
    node = next(n for n in model.graph.node if n.op_type == OPERATOR)
    del node.attribute[0]


def rename_axis(model):
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 2


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (rescale, "it changed the numbers of embedding"),
        (drop_attribute, f"it changed the {OPERATOR} node"),
        (rename_axis, "it changed the inputs"),
        (lambda model: model.Clear(), "onnxslim: "),
    ],
)
def test_a_changed_graph_is_not_taken(model, feeds, monkeypatch, change, reason):
    monkeypatch.setattr(module, "_in_child", spoilt(change))
    kept, report = simplify(model, feeds, "onnxslim")
    assert kept is model
    assert report["tool"] is None
    assert report["reason"].startswith("onnxslim: ")
    assert reason in report["reason"]


@pytest.mark.parametrize(
    ("script", "reason"),
    [("kill -SEGV $$", "exit -11"), ("sleep 30", "took more than"), ("echo garbage", "")],
)
def test_a_crash_and_a_hang_stay_in_the_child(model, feeds, monkeypatch, tmp_path, script, reason):
    python = tmp_path / "python"
    python.write_text(f"#!/bin/sh\n{script}\n")
    python.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(python))
    kept, report = simplify(model, feeds, "onnxsim", timeout_s=1)
    assert kept is model
    assert reason in report["reason"]


def test_a_missing_simplifier_is_reported(model, feeds, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    kept, report = simplify(model, feeds)
    assert kept is model
    assert report["reason"] == "neither onnxsim nor onnxslim is installed"
