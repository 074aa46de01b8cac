"""The rounding twin of a mixed-precision graph, by which FP16 is judged on a CPU.

ONNX Runtime's CPU provider computes float16 nodes in float32 and may keep what lies between them
so. The twin is float32 throughout, and every float16 tensor passes through a Cast to FLOAT16 and
back: rounding and overflow show. What it cannot show is accumulation inside float16 kernels.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import onnx
from onnx import helper, numpy_helper

from cstl_edge.errors import ExportError, ModelError, one_line
from cstl_edge.export.graphs import IR_VERSION, function_body
from cstl_edge.export.precision import FLOAT, HALF, MOVES, tensor_types
from cstl_edge.runtime.base import usable_cores
from cstl_edge.runtime.check import OPSET
from cstl_edge.runtime.ort import PROVIDER, session_options

if TYPE_CHECKING:
    import onnxruntime as ort


def rounding_twin(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return the twin of a graph of `precision.to_half`: float32, rounded wherever that is half."""
    types = tensor_types(model)
    twin = onnx.ModelProto()
    twin.CopyFrom(model)
    graph, nodes = twin.graph, []
    for node in graph.node:
        nodes.append(node)
        for attribute in node.attribute:
            if attribute.t.data_type == HALF:
                attribute.t.CopyFrom(_widened(attribute.t))
            if node.op_type == "Cast" and attribute.name == "to" and attribute.i == HALF:
                attribute.i = FLOAT
        if node.op_type in MOVES or node.op_type == "Constant":
            continue  # rounded already
        for place, name in enumerate(node.output):
            if types.get(name) == HALF:
                node.output[place] = f"{name}.exact"
                nodes += _rounding(name)
    tensors = [_widened(t) if t.data_type == HALF else t for t in graph.initializer]
    del graph.node[:], graph.initializer[:], graph.value_info[:]
    graph.node.extend(nodes)
    graph.initializer.extend(tensors)
    if twin.functions:
        del twin.functions[:]
        twin.functions.append(function_body(FLOAT))
    onnx.checker.check_model(twin)
    return twin


def open_exact(name: str, model: onnx.ModelProto) -> ort.InferenceSession:
    """Open a graph so that ONNX Runtime computes it as it stands, node by node.

    Raises ExportError where even then a Cast to float16 and back leaves a number as it was.
    """
    _check_runtime()
    return _session(name, model)


def _session(name: str, model: onnx.ModelProto) -> ort.InferenceSession:
    import onnxruntime as ort

    options = session_options(usable_cores())
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    try:
        return ort.InferenceSession(
            model.SerializeToString(), sess_options=options, providers=[PROVIDER]
        )
    except Exception as err:  # its exceptions have no public base
        raise ModelError(f"{name}: ONNX Runtime refuses it: {one_line(err)}") from err


def _rounding(name: str) -> tuple[onnx.NodeProto, onnx.NodeProto]:
    return (
        helper.make_node("Cast", [f"{name}.exact"], [f"{name}.rounded"], to=HALF),
        helper.make_node("Cast", [f"{name}.rounded"], [name], to=FLOAT),
    )


def _widened(tensor: onnx.TensorProto) -> onnx.TensorProto:
    values = numpy_helper.to_array(tensor).astype(np.float32)
    return numpy_helper.from_array(values, tensor.name)


def _check_runtime() -> None:
    """Raise ExportError where this ONNX Runtime takes a pair of Casts out: no gate would see."""
    ends = [helper.make_tensor_value_info(name, FLOAT, [2]) for name in ("x", "z")]
    nodes = [
        helper.make_node("Neg", ["x"], ["y.exact"]),
        *_rounding("y"),
        helper.make_node("Neg", ["y"], ["z"]),
    ]
    graph = helper.make_graph(nodes, "rounding", ends[:1], ends[1:])
    opset = helper.make_opsetid("", OPSET)
    model = helper.make_model(graph, opset_imports=[opset], ir_version=IR_VERSION)
    given = np.array([1 + 2**-12, 7e4], np.float32)
    if _session("the test of rounding", model).run(None, {"x": given})[0].tolist() != [1, np.inf]:
        raise ExportError(
            "this ONNX Runtime leaves out Casts to float16 and back, so FP16 cannot be judged "
            "here. Export in float32, or with another version of onnxruntime"
        )
