"""Multiply-adds and bytes of a graph, counted from its ONNX for given sizes of its inputs.

Counted are the multiply-adds of convolutions and matrix products; all else (activations, pooling,
sums, the part gather) is 0, as in the paper's field. What depends on weights alone is computed
once by every runtime, so it counts as a weight and costs nothing. Bytes are those of the runtime's
view: a view (`Reshape`, ...) is no copy, and a tensor that passes through Q/DQ is its int8 form.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from cstl_edge.errors import ModelError, one_line

if TYPE_CHECKING:
    import onnx

VIEWS = {"Reshape", "Unsqueeze", "Squeeze", "Flatten", "Identity"}
ROUNDING = {"QuantizeLinear", "DequantizeLinear"}
CONVOLUTIONS = {"Conv": 1, "ConvInteger": 1, "QLinearConv": 3}  # where their weights stand
PRODUCTS = {"MatMul": 0, "MatMulInteger": 0, "QLinearMatMul": 0, "Gemm": 0}
SMALL = 4096  # elements up to which what depends on sizes and constants alone is computed


@dataclass(frozen=True)
class Cost:
    """What one call of a graph needs at least, and what it moves if no two nodes are fused."""

    macs: Mapping[str, int]
    """Multiply-adds by the type of what is multiplied: `float32`, `float16`, `int8`."""
    input_bytes: int
    weight_bytes: int
    output_bytes: int
    intermediate_bytes: int
    """Tensors between nodes, each written once and read by every node that takes it."""
    nodes: Mapping[str, int] = field(default_factory=dict)
    """Multiply-adds by name of the node."""

    @property
    def total_macs(self) -> int:
        """Return all multiply-adds."""
        return sum(self.macs.values())

    @property
    def least_bytes(self) -> int:
        """Return what goes through memory even if everything between stays in registers."""
        return self.input_bytes + self.weight_bytes + self.output_bytes


def count(model: onnx.ModelProto, sizes: Mapping[str, Sequence[int]]) -> Cost:
    """Return the cost of one call with inputs of `sizes` (ModelError).

    sizes: of every input by name, in the graph's order of axes
    """
    graph = _Graph(model, sizes)
    macs: Counter[str] = Counter()
    nodes = {}
    for node in graph.nodes:
        found = _macs(node, graph)
        if found:
            macs[graph.multiplied(node)] += found
            nodes[node.name or node.output[0]] = found
    return Cost(dict(macs), *graph.traffic(), nodes)


def compose(first: Cost, second: Cost) -> Cost:
    """Return the cost of a call of `first` and one of `second`, which takes all its outputs."""
    between = first.output_bytes
    return Cost(
        dict(Counter(first.macs) + Counter(second.macs)),
        first.input_bytes + second.input_bytes - between,
        first.weight_bytes + second.weight_bytes,
        second.output_bytes,
        first.intermediate_bytes + second.intermediate_bytes + 2 * between,
        {**first.nodes, **second.nodes},
    )


class _Graph:
    """A graph with the size of every tensor, its weights folded."""

    def __init__(self, model: onnx.ModelProto, sizes: Mapping[str, Sequence[int]]) -> None:
        fixed = _fix(model, sizes)
        self._known = _infer(fixed)
        self._sizes = _fold_sizes(fixed, self._known)
        if self._sizes:
            self._known = _infer(fixed)
        graph = fixed.graph
        self.inputs = [value.name for value in graph.input]
        self.outputs = [value.name for value in graph.output]
        self.weights = {tensor.name for tensor in graph.initializer}
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
        found = self._known.get(name, (None, None))[1]
        if found is None or None in found:
            raise ModelError(
                f"cannot count: the size of {one_line(name)} does not follow from the inputs. "
                "Expected a graph of `cstl-edge export`"
            )
        return found

    def kind(self, name: str) -> str:
        """Return the type of a tensor's elements, as numpy names it."""
        from onnx import helper

        return str(helper.tensor_dtype_to_np_dtype(self._known[name][0]))

    def nbytes(self, name: str) -> int:
        """Return the bytes of a tensor, as it stands in the graph."""
        from onnx import helper

        element: int = helper.tensor_dtype_to_np_dtype(self._known[name][0]).itemsize
        return element * math.prod(self.size(name))

    def multiplied(self, node: Any) -> str:
        """Return what a convolution or product multiplies: int8 where both operands come so."""
        operands = (0, CONVOLUTIONS.get(node.op_type, 3 if node.op_type == "QLinearMatMul" else 1))
        kinds = {self.kind(self._source(node.input[place])) for place in operands}
        if kinds <= {"int8", "uint8"}:
            return "int8"
        return self.kind(node.input[0])

    def traffic(self) -> tuple[int, int, int, int]:
        """Return the bytes of inputs, weights, outputs, and of all that is between."""
        forms = self._forms()
        read = [
            forms.get(name, name)
            for node in self.nodes
            if node.op_type not in VIEWS | ROUNDING
            for name in dict.fromkeys(node.input)
            if name and name not in self.weights
        ]
        made = {
            forms.get(name, name)
            for node in self.nodes
            if node.op_type not in VIEWS | ROUNDING
            for name in node.output
            if name
        }
        ends = {forms.get(name, name) for name in (*self.inputs, *self.outputs)}
        widths = self._widths(forms)
        between = sum(widths[name] for name in (*read, *made) if name not in ends)
        return (
            sum(self.nbytes(name) for name in self.inputs),
            self._weight_bytes(),
            sum(self.nbytes(name) for name in self.outputs),
            between,
        )

    def _weight_bytes(self) -> int:
        """Return the bytes of the constants that are read, those behind a DQ as int8."""
        read = {name for node in self.nodes for name in node.input}
        return sum(self.nbytes(self._source(name)) for name in read & self.weights - self._sizes)

    def _source(self, name: str) -> str:
        """Return what a tensor is dequantised from, or itself."""
        node = self._producers.get(name)
        return node.input[0] if node is not None and node.op_type == "DequantizeLinear" else name

    def _forms(self) -> dict[str, str]:
        """Return for every output of a view or of Q/DQ the tensor that it is a form of."""
        forms: dict[str, str] = {}
        for node in self.nodes:
            if node.op_type in VIEWS | ROUNDING:
                forms[node.output[0]] = forms.get(node.input[0], node.input[0])
        return forms

    def _widths(self, forms: Mapping[str, str]) -> dict[str, int]:
        """Return the bytes of every tensor in the narrowest of its forms."""
        widths: dict[str, int] = {}
        for name in (*self.inputs, *(out for node in self.nodes for out in node.output if out)):
            form = forms.get(name, name)
            widths[form] = min(self.nbytes(name), widths.get(form, self.nbytes(name)))
        return widths


def _macs(node: Any, graph: _Graph) -> int:
    """Return the multiply-adds of one node."""
    kind = node.op_type
    if kind in CONVOLUTIONS:  # weights [c out, c in / groups, ..]
        weights = graph.size(node.input[CONVOLUTIONS[kind]])
        return math.prod(graph.size(node.output[0])) * math.prod(weights[1:])
    if kind == "ConvTranspose":  # weights [c in, c out / groups, ..]
        return math.prod(graph.size(node.input[0])) * math.prod(graph.size(node.input[1])[1:])
    if kind in PRODUCTS:
        inner = graph.size(node.input[0])
        transposed = any(a.name == "transA" and a.i for a in node.attribute)
        return math.prod(graph.size(node.output[0])) * inner[0 if transposed else -1]
    if kind == "Einsum":
        return _einsum(node, graph)
    if any(a.HasField("g") for a in node.attribute):
        raise ModelError(f"cannot count: {one_line(kind)} has branches; expected none")
    return 0


def _einsum(node: Any, graph: _Graph) -> int:
    """Return the product of the sizes of all its letters."""
    equation = next(a.s.decode() for a in node.attribute if a.name == "equation")
    terms = equation.replace(" ", "").split("->")[0].split(",")
    if "." in equation:
        raise ModelError(f"cannot count: Einsum {one_line(equation)}; expected letters only")
    pairs = zip(terms, node.input, strict=True)
    letters = {x: n for term, name in pairs for x, n in zip(term, graph.size(name), strict=True)}
    return math.prod(letters.values())


def _fix(model: onnx.ModelProto, sizes: Mapping[str, Sequence[int]]) -> onnx.ModelProto:
    """Return the graph with its functions in place and its inputs of given sizes (ModelError)."""
    from onnx import inliner

    fixed: onnx.ModelProto = inliner.inline_local_functions(model)
    inputs = {value.name: value for value in fixed.graph.input}
    if set(inputs) != set(sizes):
        raise ModelError(f"expected sizes of {', '.join(inputs)}; got {one_line(', '.join(sizes))}")
    for name, value in inputs.items():
        axes = value.type.tensor_type.shape.dim
        given = sizes[name]
        wrong = len(axes) != len(given) or any(
            d.HasField("dim_value") and d.dim_value != n for d, n in zip(axes, given, strict=True)
        )
        if wrong:
            raise ModelError(f"expected sizes that {one_line(name)} can have; got {list(given)}")
        for axis, n in zip(axes, given, strict=True):
            axis.dim_value = n
    del fixed.graph.value_info[:]
    for value in fixed.graph.output:  # known again after inference
        for axis in value.type.tensor_type.shape.dim:
            axis.ClearField("dim_param")
    return fixed


def _infer(model: onnx.ModelProto) -> dict[str, tuple[int, tuple[int | None, ...] | None]]:
    """Return type and sizes of every tensor; None is a size that does not follow."""
    from onnx import shape_inference

    inferred = shape_inference.infer_shapes(model, strict_mode=True, data_prop=True).graph
    known: dict[str, Any] = {
        tensor.name: (tensor.data_type, tuple(tensor.dims)) for tensor in inferred.initializer
    }
    for value in (*inferred.input, *inferred.value_info, *inferred.output):
        tensor = value.type.tensor_type
        sizes = tuple(d.dim_value if d.HasField("dim_value") else None for d in tensor.shape.dim)
        known[value.name] = (tensor.elem_type, sizes if tensor.HasField("shape") else None)
    return known


def _fold_sizes(model: onnx.ModelProto, known: Mapping[str, Any]) -> set[str]:
    """Compute what follows from sizes and small constants alone; return the names of it.

    Shape inference gives up where a size is the value of a tensor (`Range` over the frames).
    """
    from onnx import numpy_helper
    from onnx.reference import ReferenceEvaluator

    values: dict[str, Any] = {
        tensor.name: numpy_helper.to_array(tensor)
        for tensor in model.graph.initializer
        if math.prod(tensor.dims) <= SMALL
    }
    kept, folded = [], []
    for node in model.graph.node:
        if node.op_type == "Shape" and None not in (known[node.input[0]][1] or (None,)):
            import numpy as np

            values[node.output[0]] = np.array(known[node.input[0]][1], np.int64)
        elif node.op_type in VIEWS | {
            "Constant",
            "Gather",
            "Cast",
            "Range",
            "Concat",
            "Slice",
        } and (all(name in values for name in node.input if name)):
            feed = {name: values[name] for name in node.input if name}
            values[node.output[0]] = ReferenceEvaluator(node).run(None, feed)[0]
        else:
            kept.append(node)
            continue
        folded.append(node.output[0])
    del model.graph.node[:]
    model.graph.node.extend(kept)
    made = (numpy_helper.from_array(values[name], name) for name in folded)
    model.graph.initializer.extend(made)
    return set(folded)
