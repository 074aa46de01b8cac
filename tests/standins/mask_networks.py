"""Small mask networks of other forms than the shipped one: every pixel by itself."""

import hashlib
import json

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

SIDE = 64
BLUE_ABOVE = 128  # a pixel is of a person where its blue is above


def student(folder, presence=True, batch="m", name="student.onnx", **changes):
    """Write a network [m, 3, 64, 64] in BGR and its manifest; return the manifest's path."""
    weights = numpy_helper.from_array(np.array([8, 0, 0], np.float32).reshape(1, 3, 1, 1), "w")
    shape = ["m" if batch is None else batch, 3, SIDE, SIDE]
    inputs = [helper.make_tensor_value_info("crop", TensorProto.FLOAT, shape)]
    outputs = [helper.make_tensor_value_info("who", TensorProto.FLOAT, [batch, 1, SIDE, SIDE])]
    nodes = [
        helper.make_node("Conv", ["crop", "w"], ["raw"]),
        helper.make_node("Sigmoid", ["raw"], ["who"]),
    ]
    if presence:
        nodes += [
            helper.make_node("GlobalMaxPool", ["raw"], ["most"]),
            helper.make_node("Flatten", ["most"], ["there"]),
        ]
        outputs.append(helper.make_tensor_value_info("there", TensorProto.FLOAT, [batch, 1]))
    graph = helper.make_graph(nodes, "student", inputs, outputs, [weights])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    data = model.SerializeToString()
    (folder / name).write_bytes(data)
    manifest = {
        "format": 1,
        "name": "student",
        "licence": "Apache-2.0",
        "file": name,
        "sha256": hashlib.sha256(data).hexdigest(),
        "input": {
            "name": "crop",
            "layout": "NCHW",
            "side": SIDE,
            "colours": "BGR",
            "mean": [float(BLUE_ABOVE), 0.0, 0.0],
            "std": [64.0, 1.0, 1.0],
        },
        "mask": {"name": "who", "meaning": "probability"},
        "presence": {"name": "there", "meaning": "logit"} if presence else None,
    } | changes
    path = folder / "student.json"
    path.write_text(json.dumps(manifest))
    return path


def blue_squares(count):
    """Return crops uint8 [m, 64, 64, 3] and the masks that the student has to give."""
    crops = np.zeros((count, SIDE, SIDE, 3), np.uint8)
    crops[..., 2] = 255  # red everywhere: an order of RGB would see people everywhere
    for i in range(1, count):  # nobody is in the first
        crops[i, 4 * i : 4 * i + 20, 10:30, 0] = 200
    return crops, crops[..., 0] > BLUE_ABOVE


def onnx_with(path, change):
    """Change the network that a manifest names, and its sha256 with it."""
    manifest = json.loads(path.read_text())
    file = path.parent / manifest["file"]
    model = onnx.load(file)
    change(model)
    data = model.SerializeToString()
    file.write_bytes(data)
    manifest["sha256"] = hashlib.sha256(data).hexdigest()
    path.write_text(json.dumps(manifest))
