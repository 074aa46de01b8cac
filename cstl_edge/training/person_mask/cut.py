"""The smaller shipped person network: BlazePose lite on smaller crops, its last rows left out.

Lite takes crops of 256 x 256 pixels and doubles its mask twice at the end, which is a third of its
cost. Here it sees 192 x 192, ends before the last doubling, and one filter of 3 x 3 gives four
logits for each of its pixels. That filter is fitted to the teacher's masks by least squares, so
nothing has to be trained; all other weights are lite's. Letters: `m` crops, `h w` pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
from onnx import helper, numpy_helper

from cstl_edge.arrays import Bytes, Doubles, Floats, Image
from cstl_edge.errors import ModelError, one_line
from cstl_edge.opencv import import_cv2
from cstl_edge.runtime.backends.ort_session import open_session
from cstl_edge.training.person_mask.clips import FRAMED, LabelledCrop

cv2 = import_cv2()

SIDE = 192  # pixels of a crop
FEATURES, CHANNELS = "t346", 8  # of lite: what goes into its last doubling, at half resolution
SURE = 0.98  # probability at which a logit of the teacher is cut off
RIDGE = 1e-2  # keeps the least squares solvable where a channel is always 0
OPSET, IR_VERSION = 13, 8


def cut_graph(lite: Path) -> onnx.ModelProto:
    """Return lite up to `FEATURES`, taking crops float32 BGR 0..255 [m, 3, SIDE, SIDE].

    Raises ModelError for another file than `person_mask.onnx` of the package.
    """
    graph = onnx.load(str(lite)).graph
    arrays = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    by_output = {name: node for node in graph.node for name in node.output}
    if FEATURES not in by_output:
        raise ModelError(f"{one_line(lite)}: expected BlazePose lite with a tensor {FEATURES}")
    needed, open_names = set[int](), [FEATURES]
    while open_names:
        node = by_output.get(open_names.pop())
        if node is not None and id(node) not in needed:
            needed.add(id(node))
            open_names += node.input
    nodes = []
    for node in graph.node:
        if node.op_type == "Cast" and node.input[0] in arrays:
            arrays[node.output[0]] = arrays[node.input[0]].astype(np.float32)
        elif id(node) in needed:
            nodes.append(node)
    _take_bytes(nodes, arrays)
    return _model(nodes, arrays, FEATURES, [CHANNELS, SIDE // 2, SIDE // 2])


def fit_last(trunk: onnx.ModelProto, crops: Sequence[LabelledCrop]) -> Floats:
    """Return the last filter [4, CHANNELS * 9 + 1] that comes nearest to the teacher's logits.

    trunk: result of `cut_graph`
    crops: labelled ones; those that are held out are left out
    """
    session = open_session("trunk", trunk.SerializeToString(), threads=1)
    columns = CHANNELS * 9 + 1
    left: Doubles = np.zeros((columns, columns))
    right: Doubles = np.zeros((columns, 4))
    for crop in crops:
        if crop.held_out:
            continue
        image, share = framed(crop)
        features = session.run([FEATURES], {"image": as_input(image)})[0][0]
        rows = neighbourhoods(features)  # [h*w, columns]
        likely = np.clip(share.astype(np.float64) / 255, 1 - SURE, SURE)
        logits = np.log(likely / (1 - likely))
        quarters = [logits[i // 2 :: 2, i % 2 :: 2].ravel() for i in range(4)]
        left += rows.T @ rows
        right += rows.T @ np.stack(quarters, axis=1)
    last = np.linalg.solve(left + RIDGE * np.eye(columns), right)
    return np.asarray(last.T, np.float32)


def with_last(trunk: onnx.ModelProto, last: Floats) -> onnx.ModelProto:
    """Return the whole network: `mask_logits` [m, 1, SIDE, SIDE].

    trunk: result of `cut_graph`
    last: result of `fit_last`
    """
    arrays = {t.name: numpy_helper.to_array(t) for t in trunk.graph.initializer}
    arrays["last.weight"] = np.ascontiguousarray(last[:, :-1].reshape(4, CHANNELS, 3, 3))
    arrays["last.bias"] = np.ascontiguousarray(last[:, -1])
    inputs = [FEATURES, "last.weight", "last.bias"]
    nodes = [
        *trunk.graph.node,
        helper.make_node("Conv", inputs, ["quarters"], kernel_shape=[3, 3], pads=[1, 1, 1, 1]),
        helper.make_node("DepthToSpace", ["quarters"], ["mask_logits"], blocksize=2, mode="CRD"),
    ]
    return _model(nodes, arrays, "mask_logits", [1, SIDE, SIDE])


def framed(crop: LabelledCrop) -> tuple[Image, Bytes]:
    """Return the square that a segmenter would cut out, and the teacher's mask in it."""
    x, y, w, h = crop.box
    zoom = SIDE / (FRAMED * max(w, h))
    shift = SIDE / 2 - zoom * (x + w / 2), SIDE / 2 - zoom * (y + h / 2)
    matrix = np.array([[zoom, 0, shift[0]], [0, zoom, shift[1]]], np.float32)
    image, mask = (cv2.warpAffine(a, matrix, (SIDE, SIDE)) for a in (crop.image, crop.mask))
    return image, mask


def as_input(image: Image) -> Floats:
    """Return a crop uint8 BGR [h, w, 3] as the network takes it, [1, 3, h, w]."""
    return np.ascontiguousarray(image.transpose(2, 0, 1)[None], np.float32)


def neighbourhoods(features: Floats) -> Doubles:
    """Return the 3 x 3 surroundings of each pixel and a 1: [c, h, w] to [h*w, c*9 + 1]."""
    channels, height, width = features.shape
    padded = np.pad(features, ((0, 0), (1, 1), (1, 1)))
    moved = [padded[:, y : y + height, x : x + width] for y in range(3) for x in range(3)]
    rows = np.stack(moved, axis=1).reshape(channels * 9, height * width).T  # [h*w, c*9]
    return np.concatenate([rows, np.ones((len(rows), 1))], axis=1)


def _take_bytes(nodes: list[onnx.NodeProto], arrays: dict[str, Floats]) -> None:
    """Put layout, order of colours and scale of the input into the first layer, in place."""
    first = next(node for node in nodes if node.op_type == "Conv")
    before = [node for node in nodes if node.op_type in ("Pad", "Transpose")][:2]
    for node in before:
        nodes.remove(node)
    arrays[first.input[1]] = np.ascontiguousarray(arrays[first.input[1]][:, ::-1] / 255)
    first.input[0] = "image"
    kept = [
        attribute for attribute in first.attribute if attribute.name not in ("pads", "auto_pad")
    ]
    del first.attribute[:]
    first.attribute.extend([*kept, helper.make_attribute("pads", [1, 1, 1, 1])])


def _model(
    nodes: Sequence[onnx.NodeProto], arrays: dict[str, Floats], output: str, sizes: list[int]
) -> onnx.ModelProto:
    """Return a checked model of nodes.

    Args:
        nodes: In order.
        arrays: Weights and constants by name; others are left out.
        output: Name of the one output.
        sizes: Of the output, without the number of crops.
    """
    used = {name for node in nodes for name in node.input}
    graph = helper.make_graph(
        list(nodes),
        "person_mask_small",
        [helper.make_tensor_value_info("image", 1, ["m", 3, SIDE, SIDE])],
        [helper.make_tensor_value_info(output, 1, ["m", *sizes])],
        [numpy_helper.from_array(array, name) for name, array in arrays.items() if name in used],
    )
    opset = helper.make_opsetid("", OPSET)
    model = helper.make_model(graph, opset_imports=[opset], ir_version=IR_VERSION)
    model.producer_name = "cstl_edge"
    onnx.checker.check_model(model)
    return model
