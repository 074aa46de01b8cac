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

from cstl_edge.bench.roofline.shape_inference import SizedGraph
from cstl_edge.errors import ModelError, one_line

if TYPE_CHECKING:
    import onnx


CONVOLUTIONS = {"Conv": 1, "ConvInteger": 1, "QLinearConv": 3}
"""Place of their weights among the inputs."""
PRODUCTS = {"MatMul": 1, "MatMulInteger": 1, "QLinearMatMul": 3, "Gemm": 1}
"""Place of their second operand among the inputs."""


@dataclass(frozen=True)
class Cost:
    """Least work of one call of a graph, and the bytes that it moves if no two nodes are fused."""

    macs: Mapping[str, int]
    """Multiply-adds by the type of what is multiplied: `float32`, `float16`, `int8`."""
    input_bytes: int
    weight_bytes: int
    output_bytes: int
    intermediate_bytes: int
    """Tensors between nodes, each written once and read by every node that takes it."""
    nodes: Mapping[str, int] = field(default_factory=dict)  # multiply-adds by name of the node

    @property
    def total_macs(self) -> int:
        """Return all multiply-adds."""
        return sum(self.macs.values())

    @property
    def least_bytes(self) -> int:
        """Return the bytes that go through memory even if everything between stays in registers."""
        return self.input_bytes + self.weight_bytes + self.output_bytes


def count_cost(model: onnx.ModelProto, sizes: Mapping[str, Sequence[int]]) -> Cost:
    """Return the cost of one call with inputs of `sizes` (ModelError).

    sizes: of every input by name, in the graph's order of axes
    """
    graph = SizedGraph(model, sizes)
    macs: Counter[str] = Counter()
    nodes = {}
    for node in graph.nodes:
        if product := _macs(node, graph):
            macs[_multiplied(node, graph)] += product
            nodes[node.name or node.output[0]] = product
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


def _macs(node: Any, graph: SizedGraph) -> int:
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


def _einsum(node: Any, graph: SizedGraph) -> int:
    """Return the product of the sizes of all its letters."""
    equation = next(a.s.decode() for a in node.attribute if a.name == "equation")
    terms = equation.replace(" ", "").split("->")[0].split(",")
    if "." in equation:
        raise ModelError(f"cannot count: Einsum {one_line(equation)}; expected letters only")
    pairs = zip(terms, node.input, strict=True)
    letters = {x: n for term, name in pairs for x, n in zip(term, graph.size(name), strict=True)}
    return math.prod(letters.values())


def _multiplied(node: Any, graph: SizedGraph) -> str:
    """Return the type that a node multiplies: int8 where both operands come from it."""
    second = {**CONVOLUTIONS, **PRODUCTS}.get(node.op_type, 1)
    kinds = {str(graph.kind(graph.source(node.input[place]))) for place in (0, second)}
    return "int8" if kinds <= {"int8", "uint8"} else str(graph.kind(node.input[0]))
