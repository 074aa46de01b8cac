"""Graph format: a graph of another form is refused before it runs."""

import numpy as np
import onnx
import pytest
from golden_export import GOLDEN, point_outside, weight
from onnx import TensorProto, helper, numpy_helper

from cstl_edge.errors import ModelError
from cstl_edge.runtime.graph_format import check_graph
from cstl_edge.runtime.manifest import read_manifest


@pytest.fixture(scope="module")
def check():
    """Change a graph of the golden export and put it before `check_graph`."""
    shape = read_manifest(GOLDEN / "tiny").shape

    def check(name, change):
        model = onnx.load(GOLDEN / "tiny" / name)
        change(model)
        check_graph(name, model.SerializeToString(), shape)

    return check


GRAPHS = ["frames.onnx", "head.onnx", "full.onnx", "taps.onnx", "mix.onnx", "slide.onnx"]


@pytest.mark.parametrize("name", GRAPHS)
def test_exported_graphs_pass(check, name):
    check(name, lambda model: None)


def external_constant(model):
    tensor = numpy_helper.from_array(np.zeros(4, np.float32), "x")
    point_outside(tensor)
    model.graph.node.append(helper.make_node("Constant", [], ["spare"], value=tensor))


def external_branch(model):
    tensor = numpy_helper.from_array(np.zeros(4, np.float32), "x")
    point_outside(tensor)
    branch = helper.make_graph([], "branch", [], [], [tensor])
    model.graph.node.append(
        helper.make_node("If", ["a"], ["b"], then_branch=branch, else_branch=branch)
    )


def spoil_weight(value):
    def change(model):
        tensor = weight(model)
        array = numpy_helper.to_array(tensor).copy()
        array.flat[3] = value
        tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))

    return change


def rename_input(model):
    model.graph.input[0].name = "image"


def fix_batch(model):
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 3


def retype_input(model):
    model.graph.input[0].type.tensor_type.elem_type = TensorProto.FLOAT


def drop_output(model):
    del model.graph.output[-1]


def add_function(model):
    body = helper.make_function(
        "cstl_edge", "Other", ["x"], ["y"], [], [helper.make_opsetid("", 17)]
    )
    model.functions.append(body)


def foreign_node(model):
    model.graph.node.append(helper.make_node("Inverse", ["a"], ["b"], domain="com.microsoft"))


def opset(version, domain=""):
    def change(model):
        entries = [e for e in model.opset_import if e.domain == domain]
        (entries[0] if entries else model.opset_import.add(domain=domain)).version = version

    return change


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("head.onnx", lambda m: point_outside(weight(m)), "pointer to another file"),
        ("head.onnx", external_constant, "pointer to another file"),
        ("head.onnx", external_branch, "pointer to another file"),
        ("head.onnx", spoil_weight(np.nan), "NaN or infinite weights"),
        ("frames.onnx", spoil_weight(np.inf), "NaN or infinite weights"),
        ("frames.onnx", rename_input, "expected inputs.*silhouettes.*got.*image"),
        ("frames.onnx", fix_batch, "expected inputs"),
        ("frames.onnx", retype_input, "expected inputs.*UINT8.*got.*FLOAT"),
        ("head.onnx", drop_output, "expected outputs.*salient_frames"),
        ("mix.onnx", drop_output, "expected outputs.*judged"),
        ("slide.onnx", rename_input, "expected inputs.*kept_values.*got.*image"),
        (
            "head.onnx",
            lambda m: m.ClearField("functions"),
            "for TensorRT with the plugin only. Use the plain export",
        ),
        ("head.onnx", add_function, "at most the function CstlPartGather"),
        ("head.onnx", foreign_node, "com.microsoft.Inverse"),
        ("head.onnx", opset(13), "expected opset 17.*got.*13"),
        ("head.onnx", opset(1, "com.microsoft"), "com.microsoft"),
        ("head.onnx", lambda m: setattr(m, "ir_version", 99), "expected IR"),
    ],
)
def test_changed_graphs_are_refused(check, name, change, message):
    with pytest.raises(ModelError, match=rf"{name}.*{message}"):
        check(name, change)


def test_bytes_that_are_no_graph_are_refused():
    with pytest.raises(ModelError, match=r"frames\.onnx: expected"):
        check_graph("frames.onnx", b"not a graph", read_manifest(GOLDEN / "tiny").shape)


def test_weights_that_do_not_fit_their_shape_are_one_line(folder):
    model = onnx.load(folder / "frames.onnx")
    model.graph.initializer[0].dims[:] = [7, 7, 7]
    with pytest.raises(ModelError, match=r"frames\.onnx: expected an ONNX file; got"):
        check_graph("frames.onnx", model.SerializeToString(), read_manifest(folder).shape)
