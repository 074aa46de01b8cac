"""Sample graphs for peaks: one kind of layer, large enough to keep all cores busy.

Letters: n images, c channels, h w pixels.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import onnx


CONVOLUTION = (4, 128, 32, 32)  # n, c, h, w of a convolution 3 by 3 that gives as many channels
DEPTH = 3  # convolutions in a row: the rounding of both ends to int8 and back weighs less
CONVOLUTION_MACS = DEPTH * math.prod(CONVOLUTION) * CONVOLUTION[1] * 9
PRODUCT = 1024  # rows and columns of both matrices
PRODUCT_MACS = PRODUCT**3
OPSET, IR_VERSION = 17, 9
SCALE = np.float32(0.05)


def convolution_graph(precision: str) -> onnx.ModelProto:
    """Return convolutions in a row, in float32 or between Q/DQ pairs like our int8 graphs."""
    from onnx import TensorProto, helper

    channels, rounded = CONVOLUTION[1], precision != "float32"
    sizes, rng = (channels, channels, 3, 3), np.random.default_rng(0)
    constants: dict[str, Any] = {}
    nodes, name = [], "x"
    if rounded:
        constants |= {"steps": rng.integers(-63, 64, sizes, dtype=np.int8)}
        constants |= {"scales": np.full(channels, SCALE), "zeros": np.zeros(channels, np.int8)}
        constants |= {"scale": SCALE, "zero": np.int8(0)}
        nodes += [helper.make_node("DequantizeLinear", ["steps", "scales", "zeros"], ["w"], axis=0)]
        nodes += _pair(name)
        name += ".int8"
    else:
        constants["w"] = (rng.random(sizes, np.float32) - np.float32(0.5)) / np.float32(channels)
    for output in (f"y{i}" for i in range(DEPTH)):
        conv = helper.make_node("Conv", [name, "w"], [output], kernel_shape=[3, 3], pads=[1] * 4)
        nodes += [conv, *(_pair(output) if rounded else ())]
        name = f"{output}.int8" if rounded else output
    kind = TensorProto.FLOAT
    return _model(nodes, ("x", kind), (name, kind), CONVOLUTION, constants)


def product_graph(precision: str) -> onnx.ModelProto:
    """Return a product of two matrices in float32, or of uint8 with int8 into int32."""
    from onnx import TensorProto, helper

    sizes, rng = (PRODUCT, PRODUCT), np.random.default_rng(0)
    if precision == "float32":
        operation, input_type, output_type = "MatMul", TensorProto.FLOAT, TensorProto.FLOAT
        weight: Any = rng.random(sizes, np.float32)
    else:
        operation, input_type, output_type = "MatMulInteger", TensorProto.UINT8, TensorProto.INT32
        weight = rng.integers(-63, 64, sizes, dtype=np.int8)
    node = helper.make_node(operation, ["x", "w"], ["y"])
    return _model([node], ("x", input_type), ("y", output_type), sizes, {"w": weight})


def _pair(name: str) -> list[Any]:
    """Return the nodes that round a tensor to int8 and back."""
    from onnx import helper

    return [
        helper.make_node("QuantizeLinear", [name, "scale", "zero"], [f"{name}.q"]),
        helper.make_node("DequantizeLinear", [f"{name}.q", "scale", "zero"], [f"{name}.int8"]),
    ]


def sample_inputs(model: onnx.ModelProto) -> dict[str, Any]:
    """Return an input that the graph can be run with."""
    from onnx import helper

    value = model.graph.input[0]
    tensor = value.type.tensor_type
    sizes = [axis.dim_value for axis in tensor.shape.dim]
    kind = helper.tensor_dtype_to_np_dtype(tensor.elem_type)
    rng = np.random.default_rng(1)
    values = rng.random(sizes, np.float32) if kind.kind == "f" else rng.integers(0, 100, sizes)
    return {value.name: values.astype(kind)}


def _model(nodes: Any, x: Any, y: Any, sizes: Any, constants: dict[str, Any]) -> onnx.ModelProto:
    """Return a graph whose ends `x` and `y` (name, type) are of the same sizes."""
    from onnx import helper, numpy_helper

    tensors = [numpy_helper.from_array(np.asarray(v), name) for name, v in constants.items()]
    start, end = (helper.make_tensor_value_info(n, kind, sizes) for n, kind in (x, y))
    graph = helper.make_graph(nodes, "layer", [start], [end], tensors)
    opset = [helper.make_opsetid("", OPSET)]
    return helper.make_model(graph, opset_imports=opset, ir_version=IR_VERSION)
