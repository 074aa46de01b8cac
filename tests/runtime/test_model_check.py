"""Model check: changed files are refused, graphs from outside are checked in a child process."""

import numpy as np
import onnx
import pytest
from golden_export import edit_manifest, point_outside, reseal, weight
from onnx import TensorProto, helper, numpy_helper

from cstl_edge.errors import ModelError
from cstl_edge.runtime import load, model_check
from cstl_edge.runtime.base import model_folder
from cstl_edge.runtime.manifest import read_manifest

SHIPPED = model_check.SHIPPED_SHA256


@pytest.mark.parametrize(
    "spoil",
    [lambda data: data[:-9], lambda data: data[:999] + bytes([data[999] ^ 4]) + data[1000:]],
    ids=["truncated", "a flipped bit"],
)
def test_a_changed_file_is_refused(folder, spoil):
    (folder / "head.onnx").write_bytes(spoil((folder / "head.onnx").read_bytes()))
    with pytest.raises(ModelError, match=r"head\.onnx: expected sha256.*export the model again"):
        load(folder)


@pytest.mark.parametrize("name", ["head.onnx", "slide.onnx"])
def test_a_missing_file_is_refused(folder, name):
    (folder / name).unlink()
    with pytest.raises(ModelError, match=rf"{name} is missing"):
        load(folder)


def test_a_graph_outside_the_manifest_is_refused(folder):
    edit_manifest(folder, lambda manifest: manifest["files"].pop("head.onnx"))
    with pytest.raises(ModelError, match=r"expected head\.onnx in the manifest"):
        load(folder)


def test_the_full_graph_is_not_needed(folder):
    (folder / "full.onnx").unlink()
    load(folder).close()


def test_exported_graphs_pass_in_a_child(untrusted, folder):
    load(folder, threads=1).close()


def test_a_sealed_graph_from_outside_is_checked_in_a_child(folder):
    model = onnx.load(folder / "head.onnx")
    point_outside(weight(model))
    reseal(folder, "head.onnx", model.SerializeToString())
    with pytest.raises(ModelError, match=r"model refused: head\.onnx.*pointer to another file"):
        load(folder)


def test_outputs_that_are_not_finite_are_refused_after_a_run(folder):
    model = onnx.load(folder / "frames.onnx")
    bias = numpy_helper.from_array(np.float32(3e38), "huge")
    model.graph.initializer.append(bias)
    last = next(n for n in model.graph.node if n.output[0] == "features")
    last.output[0] = "before"
    model.graph.node.append(helper.make_node("Add", ["before", "huge"], ["once"]))
    model.graph.node.append(helper.make_node("Add", ["once", "huge"], ["features"]))
    reseal(folder, "frames.onnx", model.SerializeToString())
    with pytest.raises(ModelError, match="expected finite outputs"):
        load(folder)


def test_a_child_that_dies_is_a_model_error(untrusted, folder, tmp_path, monkeypatch):
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\nkill -ABRT $$\n")  # what ONNX Runtime 1.23 does on mutated files
    python.chmod(0o755)
    monkeypatch.setattr("sys.executable", str(python))
    with pytest.raises(ModelError, match=r"model refused: the runtime died on it \(exit -6"):
        load(folder)


def test_a_child_that_hangs_is_stopped(folder):
    manifest = read_manifest(folder)
    with pytest.raises(ModelError, match="takes too long"):
        model_check.probe({}, manifest.shape, timeout_s=0.001)


def loop(count):
    """A model of `count` empty rounds."""
    body = helper.make_graph(
        [helper.make_node("Identity", ["go"], ["on"]), helper.make_node("Identity", ["x"], ["y"])],
        "body",
        [
            helper.make_tensor_value_info("i", TensorProto.INT64, []),
            helper.make_tensor_value_info("go", TensorProto.BOOL, []),
            helper.make_tensor_value_info("x", TensorProto.FLOAT, [1]),
        ],
        [
            helper.make_tensor_value_info("on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("y", TensorProto.FLOAT, [1]),
        ],
    )
    return [
        helper.make_node("Constant", [], ["n"], value_ints=[count]),
        helper.make_node("Constant", [], ["yes"], value=numpy_helper.from_array(np.array(True))),
        helper.make_node("Constant", [], ["start"], value_floats=[0.0]),
        helper.make_node("Loop", ["n", "yes", "start"], ["end"], body=body),
    ]


def test_an_endless_loop_is_ended_by_its_processor_time(folder, monkeypatch):
    model = onnx.load(folder / "frames.onnx")
    last = next(n for n in model.graph.node if n.output[0] == "features")
    last.output[0] = "before"
    model.graph.node.extend(loop(2**62))
    model.graph.node.append(helper.make_node("Add", ["before", "end"], ["features"]))
    reseal(folder, "frames.onnx", model.SerializeToString())
    monkeypatch.setattr(model_check, "PROBE_CPU_S", 1)
    with pytest.raises(ModelError, match="takes too long"):
        load(folder)


def test_a_graph_that_asks_for_much_memory_is_refused(folder):
    model = onnx.load(folder / "frames.onnx")
    last = next(n for n in model.graph.node if n.output[0] == "features")
    last.output[0] = "before"
    size = helper.make_node("Constant", [], ["size"], value_ints=[3 * 2**28])
    rest = [
        helper.make_node("ConstantOfShape", ["size"], ["large"]),
        helper.make_node("ReduceSum", ["large"], ["none"], keepdims=0),
        helper.make_node("Add", ["before", "none"], ["features"]),
    ]
    model.graph.node.extend([size, *rest])
    reseal(folder, "frames.onnx", model.SerializeToString())
    with pytest.raises(ModelError, match="model refused"):
        load(folder)


def test_shipped_graphs_need_no_child(folder, monkeypatch):
    files = read_manifest(folder).files.values()
    monkeypatch.setattr(model_check, "SHIPPED_SHA256", frozenset(files))
    monkeypatch.setattr(model_check, "probe", lambda *_: pytest.fail("a child was started"))
    load(folder).close()


def test_the_hashes_for_the_code_are_printed(folder, capsys):
    assert model_check.main([str(folder)]) == 0
    printed = capsys.readouterr().out
    for digest in read_manifest(folder).files.values():
        assert f'"{digest}",' in printed


@pytest.mark.parametrize("seed", range(3))
def test_mutated_graphs_end_in_one_error(folder, seed):
    rng = np.random.default_rng(seed)
    data = bytearray((folder / "head.onnx").read_bytes())
    for place in rng.integers(0, len(data), 40):
        data[place] = rng.integers(256)
    reseal(folder, "head.onnx", bytes(data))
    with pytest.raises(ModelError, match="model refused"):
        load(folder)


def test_hashes_of_the_shipped_model_are_in_the_code():
    try:
        files = read_manifest(model_folder(None)).files
    except ModelError as err:
        pytest.skip(str(err))
    assert set(files.values()) <= SHIPPED
