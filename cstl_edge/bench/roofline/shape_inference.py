"""Shape inference: sizes of every tensor of an ONNX graph for given inputs, and bytes moved.

A view (`Reshape`, ...) is no copy, and a tensor that passes through Q/DQ is its int8 form: so the
runtimes have it, which fuse such pairs. What depends on constants alone is a constant.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from cstl_edge.errors import ModelError, one_line

if TYPE_CHECKING:
    import onnx


VIEWS = {"Reshape", "Unsqueeze", "Squeeze", "Flatten", "Identity"}
ROUNDING = {"QuantizeLinear", "DequantizeLinear"}
COMPUTED = {"Conv", "MatMul", "Gemm", "Einsum", "DequantizeLinear"}
"""Never folded, however small: they are counted, or distinguish int8 from float32."""
SMALL = 4096  # most elements of a constant that is folded with what follows from it and from sizes


class SizedGraph:
    """A graph with the size of every tensor, its weights folded."""

    def __init__(self, model: onnx.ModelProto, sizes: Mapping[str, Sequence[int]]) -> None:
        fixed = _fix(model, sizes)
        self._known = _infer(fixed)
        self._sizes = _fold_sizes(fixed, self._known)
        if self._sizes:
            self._known = _infer(fixed)
        graph = fixed.graph
        self.inputs = [value.name for value in graph.input if value.name in sizes]
        self.outputs = [value.name for value in graph.output]
        self.weights = {tensor.name for tensor in graph.initializer}
        self.weights.update(value.name for value in graph.input if value.name not in sizes)
        self.nodes = []
        self._producers: dict[str, Any] = {}
        for node in graph.node:
            if all(name in self.weights for name in node.input if name):
                self.weights.update(node.output)
            else:
                self.nodes.append(node)
            self._producers.update(dict.fromkeys(node.output, node))

    def size(self, name: str) -> tuple[int, ...]:
        """Return the sizes of a tensor (ModelError)."""
        sizes = self._known[name][1] if name in self._known else None
        known = [n for n in sizes or () if n is not None]
        if sizes is None or len(known) < len(sizes):
            raise ModelError(
                f"cannot count: the size of {one_line(name)} does not follow from the inputs. "
                "Expected a graph of `cstl-edge export`"
            )
        return tuple(known)

    def kind(self, name: str) -> np.dtype[Any]:
        """Return the type of a tensor's elements."""
        from onnx import helper

        return helper.tensor_dtype_to_np_dtype(self._known[name][0])

    def nbytes(self, name: str) -> int:
        """Return the bytes of a tensor, as it stands in the graph."""
        return self.kind(name).itemsize * math.prod(self.size(name))

    def traffic(self) -> tuple[int, int, int, int]:
        """Return the bytes of inputs, of weights, of outputs, and of the tensors between."""
        forms: dict[str, str] = {}  # of a view's or Q/DQ's output the tensor that it is a form of
        for node in self.nodes:
            if node.op_type in VIEWS | ROUNDING:
                forms[node.output[0]] = forms.get(node.input[0], node.input[0])
        moving = [node for node in self.nodes if node.op_type not in VIEWS | ROUNDING]
        read = [
            forms.get(name, name)
            for node in moving
            for name in dict.fromkeys(node.input)
            if name and name not in self.weights
        ]
        written = {forms.get(name, name) for node in moving for name in node.output if name}
        ends = {forms.get(name, name) for name in (*self.inputs, *self.outputs)}
        widths = self._widths(forms)
        constants = {name for node in self.nodes for name in node.input} & self.weights
        return (
            sum(map(self.nbytes, self.inputs)),
            # Of the constants that are read, those behind a DQ as int8.
            sum(self.nbytes(self.source(name)) for name in constants - self._sizes),
            sum(map(self.nbytes, self.outputs)),
            sum(widths[name] for name in (*read, *written) if name not in ends),
        )

    def source(self, name: str) -> str:
        """Return the tensor from which one is dequantised, or itself."""
        node = self._producers.get(name)
        return node.input[0] if node is not None and node.op_type == "DequantizeLinear" else name

    def _widths(self, forms: Mapping[str, str]) -> dict[str, int]:
        """Return the bytes of every tensor in the narrowest of its forms."""
        widths: dict[str, int] = {}
        for name in (*self.inputs, *(out for node in self.nodes for out in node.output if out)):
            form = forms.get(name, name)
            widths[form] = min(self.nbytes(name), widths.get(form, self.nbytes(name)))
        return widths


def _fix(model: onnx.ModelProto, sizes: Mapping[str, Sequence[int]]) -> onnx.ModelProto:
    """Return the graph with its functions in place and its inputs of given sizes (ModelError).

    Large weights become inputs: 36 MB need not be copied at every step.
    """
    from onnx import ModelProto, helper, inliner

    inputs = {value.name for value in model.graph.input}
    if inputs != set(sizes):
        raise ModelError(f"expected sizes of {', '.join(inputs)}; got {one_line(', '.join(sizes))}")
    light = ModelProto()
    light.CopyFrom(model)
    large = [x for x in model.graph.initializer if math.prod(x.dims) > SMALL]
    del light.graph.initializer[:]
    light.graph.initializer.extend(x for x in model.graph.initializer if math.prod(x.dims) <= SMALL)
    light.graph.input.extend(
        helper.make_tensor_value_info(x.name, x.data_type, x.dims) for x in large
    )
    fixed: onnx.ModelProto = inliner.inline_local_functions(light)
    for value in fixed.graph.input:
        if value.name in sizes:
            _set_size(value, sizes[value.name])
    del fixed.graph.value_info[:]
    for value in fixed.graph.output:  # known again after inference
        for axis in value.type.tensor_type.shape.dim:
            axis.ClearField("dim_param")
    return fixed


def _set_size(value: onnx.ValueInfoProto, size: Sequence[int]) -> None:
    """Give an input its size (ModelError where it cannot have it)."""
    axes = value.type.tensor_type.shape.dim
    fixed = [axis.dim_value if axis.HasField("dim_value") else None for axis in axes]
    if len(fixed) != len(size) or any(x not in (None, n) for x, n in zip(fixed, size, strict=True)):
        raise ModelError(f"expected sizes that {one_line(value.name)} can have; got {list(size)}")
    for axis, n in zip(axes, size, strict=True):
        axis.dim_value = n


def _infer(model: onnx.ModelProto) -> dict[str, tuple[int, tuple[int | None, ...] | None]]:
    """Return type and sizes of every tensor, None where a size does not follow (ModelError)."""
    from onnx import shape_inference

    try:
        inferred = shape_inference.infer_shapes(model, strict_mode=True, data_prop=True).graph
    except shape_inference.InferenceError as err:
        raise ModelError(f"cannot count: {one_line(err)}") from err
    known: dict[str, Any] = {
        tensor.name: (tensor.data_type, tuple(tensor.dims)) for tensor in inferred.initializer
    }
    for value in (*inferred.input, *inferred.value_info, *inferred.output):
        tensor = value.type.tensor_type
        sizes = tuple(d.dim_value if d.HasField("dim_value") else None for d in tensor.shape.dim)
        known[value.name] = (tensor.elem_type, sizes if tensor.HasField("shape") else None)
    return known


def _fold_sizes(model: onnx.ModelProto, known: Mapping[str, Any]) -> set[str]:
    """Fold nodes that depend on sizes and small constants alone; return those that took a size.

    Shape inference gives up where a size is the value of a tensor (`Range` over the frames).
    """
    from onnx import numpy_helper
    from onnx.reference import ReferenceEvaluator

    values: dict[str, Any] = {
        tensor.name: numpy_helper.to_array(tensor)
        for tensor in model.graph.initializer
        if math.prod(tensor.dims) <= SMALL
    }
    remaining: list[onnx.NodeProto] = []
    folded: list[str] = []
    sized: set[str] = set()
    for node in model.graph.node:
        if node.op_type == "Shape" and None not in (known[node.input[0]][1] or (None,)):
            outputs: Iterable[Any] = [np.array(known[node.input[0]][1], np.int64)]
        elif all(name in values for name in node.input if name) and node.op_type not in COMPUTED:
            feed = {name: values[name] for name in node.input if name}
            outputs = ReferenceEvaluator(node).run(None, feed)
        else:
            remaining.append(node)
            continue
        values |= zip(node.output, outputs, strict=True)
        folded += node.output
        if node.op_type == "Shape" or sized & set(node.input):
            sized.update(node.output)
    del model.graph.node[:]
    model.graph.node.extend(remaining)
    tensors = (numpy_helper.from_array(np.asarray(values[name]), name) for name in folded)
    model.graph.initializer.extend(tensors)
    return sized
