"""Teacher: a converted network for one crop becomes a mask network for any number."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from cstl_edge.errors import ModelError
from cstl_edge.runtime.masks.open import open_mask_network
from cstl_edge.training.person_mask.teacher import INPUT, MASK, PRESENCE, SIDE, write_teacher


def converted(mask: str = MASK) -> onnx.ModelProto:
    """Return a graph as tf2onnx writes it: a bright pixel is a person, for one crop."""
    sizes = {"shape": [1, SIDE, SIDE, 1], "flat": [-1, 1], "half": [0.5]}
    nodes = [
        helper.make_node("ReduceMean", [INPUT], ["grey"], axes=[3], keepdims=0),
        helper.make_node("Sub", ["grey", "half"], ["away"]),
        helper.make_node("Reshape", ["away", "shape"], [mask]),
        helper.make_node("ReduceMean", ["grey"], ["bright"], axes=[1, 2], keepdims=0),
        helper.make_node("Reshape", ["bright", "flat"], [PRESENCE]),
    ]
    graph = helper.make_graph(
        nodes,
        "converted",
        [helper.make_tensor_value_info(INPUT, 1, [1, SIDE, SIDE, 3])],
        [
            helper.make_tensor_value_info(PRESENCE, 1, [1, 1]),
            helper.make_tensor_value_info(mask, 1, [1, SIDE, SIDE, 1]),
        ],
        [
            numpy_helper.from_array(np.array(v, np.float32 if k == "half" else np.int64), k)
            for k, v in sizes.items()
        ],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)


def test_a_teacher_masks_any_number_of_crops(tmp_path) -> None:
    onnx.save(converted(), tmp_path / "converted.onnx")
    manifest = write_teacher(tmp_path / "converted.onnx", tmp_path / "teacher.onnx")
    network = open_mask_network(tmp_path / "teacher.json")
    crops = np.zeros((3, SIDE, SIDE, 3), np.uint8)
    crops[1, 40:80] = 255
    logits, presence = network(crops)
    network.close()
    assert manifest.input.side == logits.shape[1] == SIDE
    np.testing.assert_array_equal(logits[1, :, 0] > 0, crops[1, :, 0, 0] > 0)
    assert not (logits[[0, 2]] > 0).any()
    assert presence == pytest.approx([0, 40 / SIDE, 0])


def test_another_graph_is_refused(tmp_path) -> None:
    onnx.save(converted("heatmap"), tmp_path / "converted.onnx")
    with pytest.raises(ModelError, match=r"expected a BlazePose landmark network.*Identity_2"):
        write_teacher(tmp_path / "converted.onnx", tmp_path / "teacher.onnx")
    (tmp_path / "text.onnx").write_text("no graph")
    with pytest.raises(ModelError, match=r"text\.onnx: expected an ONNX file"):
        write_teacher(tmp_path / "text.onnx", tmp_path / "teacher.onnx")
