"""FP16 form of a graph, in mixed precision, and its rounding twin, by which a CPU evaluates it.

Convolutions and matrix products are float16. Islands stay in float32: operators whose values do not
fit float16, or would lose what matters. Every tensor of numbers has one type, with one Cast where
the two meet. Inputs and outputs keep float32, so that every graph of a model fits every other,
whatever its precision.

ONNX Runtime's CPU provider computes float16 nodes in float32 and may keep what lies between them
so. The rounding twin is float32 throughout, and every float16 tensor passes through a Cast to
FLOAT16 and back: rounding and overflow show. What it cannot show is accumulation inside float16
kernels.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper, shape_inference

from cstl_edge.errors import ExportError, ModelError, one_line
from cstl_edge.export.graphs import IR_VERSION, function_body
from cstl_edge.runtime.backends.ort_session import PROVIDER, session_options
from cstl_edge.runtime.base import usable_cores
from cstl_edge.runtime.graph_format import OPSET

if TYPE_CHECKING:
    import onnxruntime as ort

FLOAT, HALF = TensorProto.FLOAT, TensorProto.FLOAT16
LARGEST_HALF = 65504.0
TO_HALF, TO_FLOAT = ".fp16", ".fp32"  # what a Cast appends to the name of its tensor

MOVES = frozenset({"Concat", "Expand", "Flatten", "Gather", "Identity", "Pad", "Reshape", "Slice", "SpaceToDepth", "Split", "Squeeze", "Transpose", "Unsqueeze"})  # fmt: skip # noqa: E501
"""Operators that move numbers without computing any."""


@dataclass(frozen=True)
class Island:
    """Operators that are computed in float32, and why."""

    name: str
    operators: frozenset[str]
    reason: str


ISLANDS = (
    Island(
        "gates",
        frozenset({"Clip", "Exp", "Max", "Reciprocal", "ReduceMax", "Sigmoid", "Sub"}),
        "1 / (exp(m - z) + exp(m)) of Eq. 1, 5 and 6: a closed gate is as small as exp(-60), "
        "9e-27, and its inverse 1e26; float16 spans 6e-8 to 65504",
    ),
    Island(
        "sums",
        frozenset({"ReduceMean", "ReduceSum"}),
        "sums over frames of gates and of what they weigh (Eq. 1 and 5): a float16 sum of s equal "
        "terms is off by up to s / 4096 of itself, and stops growing at 2048 terms",
    ),
    Island(
        "ratios",
        frozenset({"Div"}),
        "the ratios of Eq. 1 and 5: where all gates are closed both sides are below float16; and "
        "in the released form the Leaky ReLU on the latter's way to the embedding's island",
    ),
    Island(
        "norms",
        frozenset({"BatchNormalization", "LpNormalization", "ReduceL2"}),
        "variances and lengths are sums of squares, and 256 squared is infinite; the norms of our "
        "graphs are folded into their convolutions in float32 before, so this is usually empty",
    ),
    Island(
        "embedding",
        frozenset(),  # traced back from the output `embedding`
        "the last product: distances of embeddings are held against thresholds, templates of "
        "different precisions are compared, and it runs once per window",
    ),
)
"""The float32 islands. The range of their values is measured at every export, for the manifest."""

_BY_OPERATOR = {op: island.name for island in ISLANDS for op in island.operators}
# Further arithmetic stays in these islands, until a ratio closes them.
_OPEN = ("gates", "sums", "norms")
_PASSES = MOVES | {"Cast"}  # from float32 to float32, where a graph was not simplified
_SPREADS = _PASSES | {"Add", "Mul"}


def to_half(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return the mixed-precision form of a float32 graph of ours, its islands in float32.

    Raises ExportError for a weight that float16 cannot hold.
    """
    types = tensor_types(model)
    home = islands(model)
    half = copy.deepcopy(model)
    casting = _Casting(half.graph, types)
    for node in model.graph.node:
        casting.take(node, FLOAT if node.output[0] in home else HALF)
    casting.finish()
    if half.functions:
        del half.functions[:]
        half.functions.append(function_body(HALF))
    onnx.checker.check_model(half)
    return half


def islands(model: onnx.ModelProto) -> dict[str, str]:
    """Return the tensors that are computed in float32, with the name of their island."""
    graph = model.graph
    constants = {tensor.name for tensor in graph.initializer}
    constants |= {node.output[0] for node in graph.node if node.op_type == "Constant"}
    types = tensor_types(model)
    home: dict[str, str] = {}
    for node in graph.node:  # in the order of computation
        if types.get(node.output[0]) != FLOAT:
            continue
        name = _BY_OPERATOR.get(node.op_type)
        if node.op_type == "Div" and node.input[1] in constants:
            name = None  # a scaling, such as that of silhouettes by 255
        if name is None and node.op_type in _SPREADS:
            name = next((home[x] for x in node.input if home.get(x, "") in _OPEN), None)
        if node.op_type == "LeakyRelu" and home.get(node.input[0]) == "ratios":
            name = "ratios"
        if name is not None:
            home[node.output[0]] = name
    return home | dict.fromkeys(_embedding(graph), "embedding")


def half_tensors(model: onnx.ModelProto) -> list[str]:
    """Return the computed tensors of float16 in a mixed graph, by their names in the float32 one.

    Constants are left out: a weight beyond float16 was refused.
    """
    nodes = [node for node in model.graph.node if node.op_type != "Constant"]
    types = tensor_types(model)
    halves = [x for node in nodes for x in node.output if types.get(x) == HALF]
    return list(dict.fromkeys(x.removesuffix(TO_HALF) for x in halves))


def tensor_types(model: onnx.ModelProto) -> dict[str, int]:
    """Return the element type of every tensor (ExportError when one cannot be inferred)."""
    graph = shape_inference.infer_shapes(model).graph
    values = [*graph.input, *graph.output, *graph.value_info]
    types = {value.name: int(value.type.tensor_type.elem_type) for value in values}
    types |= {tensor.name: int(tensor.data_type) for tensor in graph.initializer}
    missing = [x for node in graph.node for x in node.output if x and not types.get(x)]
    if missing:
        raise ExportError(f"expected a graph of known types; {one_line(missing[0])} has none")
    return types


def _embedding(graph: onnx.GraphProto) -> list[str]:
    """Return the tensors from the last product's inputs to the output `embedding`."""
    producers = {name: node for node in graph.node for name in node.output}
    waiting, island, product = ["embedding"], [], False
    while waiting:
        name = waiting.pop()
        node = producers.get(name)
        last = node is not None and node.op_type == "MatMul" and not product
        if node is None or not (node.op_type in _PASSES or last):
            continue
        product = product or last
        island.append(name)
        waiting += node.input
    return island


@dataclass
class _Casting:
    """A graph while it is rewritten from float32 to mixed precision."""

    graph: onnx.GraphProto
    types: dict[str, int]  # element types in the float32 graph
    constants: dict[str, Any] = field(default_factory=dict)
    """float32 initialisers and constants, written again in the type of their readers."""
    produced: dict[str, int] = field(default_factory=dict)  # types of numbers computed so far
    written: set[str] = field(default_factory=set)  # tensors that are there in another type already
    nodes: list[onnx.NodeProto] = field(default_factory=list)

    def __post_init__(self) -> None:
        others = []
        for tensor in self.graph.initializer:
            if tensor.data_type == FLOAT:
                self.constants[tensor.name] = numpy_helper.to_array(tensor)
            else:
                others.append(tensor)
        del self.graph.initializer[:], self.graph.node[:], self.graph.value_info[:]
        self.graph.initializer.extend(others)
        self.produced = {v.name: FLOAT for v in self.graph.input if self.types[v.name] == FLOAT}

    def take(self, node: onnx.NodeProto, wanted: int) -> None:
        """Add a node whose numbers have the `wanted` type."""
        if node.op_type == "Constant" and self.types[node.output[0]] == FLOAT:
            self.constants[node.output[0]] = numpy_helper.to_array(node.attribute[0].t)
            return
        typed = copy.deepcopy(node)
        if node.op_type not in ("Cast", "Shape"):  # these take numbers of any type
            for place, name in enumerate(node.input):
                if self.types.get(name) == FLOAT:
                    typed.input[place] = self._as(name, wanted)
        if node.op_type == "Cast" and self.types[node.output[0]] == FLOAT:
            typed.attribute[0].i = wanted
        self.produced |= {x: wanted for x in node.output if self.types.get(x) == FLOAT}
        self.nodes.append(typed)

    def finish(self) -> None:
        """Cast the outputs back to float32."""
        for output in self.graph.output:
            if self.produced.get(output.name) == HALF:
                for node in self.nodes:
                    for names in (node.input, node.output):
                        for place, name in enumerate(names):
                            if name == output.name:
                                names[place] = f"{name}{TO_HALF}"
                self.nodes.append(
                    helper.make_node("Cast", [f"{output.name}{TO_HALF}"], [output.name], to=FLOAT)
                )
        self.graph.node.extend(self.nodes)

    def _as(self, name: str, wanted: int) -> str:
        """Return the name of a tensor in the wanted type, casting it where it is not."""
        if name not in self.constants and self.produced[name] == wanted:
            return name
        cast = f"{name}{TO_HALF if wanted == HALF else TO_FLOAT}"
        if cast not in self.written:
            self.written.add(cast)
            if name in self.constants:
                self._write(name, cast, wanted)
            else:
                self.nodes.append(helper.make_node("Cast", [name], [cast], to=wanted))
        return cast

    def _write(self, name: str, written: str, wanted: int) -> None:
        """Write a constant in the wanted type."""
        values = self.constants[name]
        with np.errstate(over="ignore"):
            typed = values.astype(helper.tensor_dtype_to_np_dtype(wanted))
        if np.isfinite(values).all():
            if not np.isfinite(typed).all():
                raise ExportError(
                    f"fp16: {one_line(name)} holds {np.abs(values).max():g}; float16 ends at "
                    f"{LARGEST_HALF:g}. Export in float32"
                )
            self.graph.initializer.append(numpy_helper.from_array(typed, written))
        else:  # -inf of a mask; initialisers are weights, and weights are finite
            tensor = numpy_helper.from_array(typed)
            self.nodes.append(helper.make_node("Constant", [], [written], value=tensor))


# The rounding twin


def rounding_twin(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return the twin of a graph of `to_half`: float32, rounded wherever that is float16."""
    types = tensor_types(model)
    twin = copy.deepcopy(model)
    graph, nodes = twin.graph, []
    for node in graph.node:
        nodes.append(node)
        for attribute in node.attribute:
            if attribute.t.data_type == HALF:
                attribute.t.CopyFrom(_as_float32(attribute.t))
            if node.op_type == "Cast" and attribute.name == "to" and attribute.i == HALF:
                attribute.i = FLOAT
        if node.op_type in MOVES or node.op_type == "Constant":
            continue  # rounded already
        for place, name in enumerate(node.output):
            if types.get(name) == HALF:
                node.output[place] = f"{name}.exact"
                nodes += _rounding(name)
    tensors = [_as_float32(t) if t.data_type == HALF else t for t in graph.initializer]
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


def _as_float32(tensor: onnx.TensorProto) -> onnx.TensorProto:
    values = numpy_helper.to_array(tensor).astype(np.float32)
    return numpy_helper.from_array(values, tensor.name)


def _check_runtime() -> None:
    """Raise ExportError where this ONNX Runtime removes a pair of Casts: no gate would see it."""
    ends = [helper.make_tensor_value_info(name, FLOAT, [2]) for name in ("x", "z")]
    nodes = [
        helper.make_node("Neg", ["x"], ["y.exact"]),
        *_rounding("y"),
        helper.make_node("Neg", ["y"], ["z"]),
    ]
    graph = helper.make_graph(nodes, "rounding", ends[:1], ends[1:])
    opset = helper.make_opsetid("", OPSET)
    model = helper.make_model(graph, opset_imports=[opset], ir_version=IR_VERSION)
    x = np.array([1 + 2**-12, 7e4], np.float32)
    if _session("the test of rounding", model).run(None, {"x": x})[0].tolist() != [1, np.inf]:
        raise ExportError(
            "this ONNX Runtime leaves out Casts to float16 and back, so FP16 cannot be judged "
            "here. Export in float32, or with another version of onnxruntime"
        )
