"""Format of an exported graph: opset, operators, inputs and outputs of each file, finite weights.

The exporter writes it, `model_check` refuses every other graph. Letters as in `base`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from cstl_edge.errors import ModelError, one_line
from cstl_edge.foreign import parsing
from cstl_edge.runtime.manifest import Shape

if TYPE_CHECKING:
    import onnx

OPSET = 17
QDQ_HALF_OPSET = 19  # Q/DQ of float16, in the int8 trunk for TensorRT
FOR_TENSORRT = "tensorrt"  # in the name of a file of that layout: `frames.int8.tensorrt.onnx`
DOMAIN = "cstl_edge"  # domain, function and plugin namespace of our own operator
OPERATOR = "CstlPartGather"
PLUGIN_VERSION = "2"  # of the operator, in the graphs that we export and in the plugin library
MAX_IR_VERSION = 10

Signature = dict[str, tuple[str, tuple[int | None, ...]]]
"""Type and sizes by name; None is a dimension left to the caller."""


def check_graph(name: str, data: bytes, shape: Shape) -> None:
    """Refuse a graph that is not one of ours: opset, operators, signature, weights (ModelError).

    Args:
        name: Name of the file, which determines the graph that it must be.
        data: Bytes of the file.
        shape: Sizes of the network, from the manifest.
    """
    import onnx

    with parsing(name, "an ONNX file", ModelError, "export the model again"):
        model = onnx.load_model_from_string(data)
        _check_versions(name, model)
        _check_operators(name, model)
        check_weights(name, model)
        inputs, outputs = signature(name, shape)
        _check_values(name, "inputs", model.graph.input, inputs)
        _check_values(name, "outputs", model.graph.output, outputs)


def signature(name: str, shape: Shape) -> tuple[Signature, Signature]:
    """Return the inputs and outputs that the graph of this file name must have.

    They do not depend on the precision: `frames.int8.onnx` has those of `frames.onnx`.
    """

    def floats(*sizes: int | None) -> tuple[str, tuple[int | None, ...]]:
        return "FLOAT", sizes

    p, c, size = shape.parts, shape.channels, shape.size
    lengths = ("INT32", (None,))
    embedded: Signature = {"embedding": ("FLOAT", (None, p, shape.embedding))}
    if shape.salient:
        embedded["salient_frames"] = ("INT32", (None, p))
    kept = {f"kept_{name}": floats(None, p, None, width) for name, width in shape.kept.items()}
    known: dict[str, tuple[Signature, Signature]] = {
        "frames": ({"silhouettes": ("UINT8", (None, *size))}, {"features": floats(None, p, c)}),
        "head": ({"features": floats(None, None, p, c), "lengths": lengths}, embedded),
        "full": ({"silhouettes": ("UINT8", (None, None, *size)), "lengths": lengths}, embedded),
        "taps": (
            {"features": floats(p, None, c)},
            {"taps": floats(p, None, 7 * c), "gates": floats(p, None, 2 * c)},
        ),
        "mix": (
            {"features": floats(p, None, c), "sums": floats(p, None, c)},
            {"logits": floats(p, None, 3 * c), "judged": floats(p, None, shape.hidden)},
        ),
        "slide": ({**kept, "slots": ("INT64", (None, None))}, embedded),
        "step": _step(shape),
    }
    graph = graph_of(name)
    if graph not in known:
        files = ", ".join(f"{graph}.onnx" for graph in known)
        raise ModelError(f"expected one of {files}; got {one_line(name)}")
    return known[graph]


def _step(shape: Shape) -> tuple[Signature, Signature]:
    """Return inputs and outputs of `step`: one frame of one walker, and its state at both sides."""
    p, c = shape.parts, shape.channels
    state: Signature = {
        f"kept_{name}": ("FLOAT", (1, p, None, width)) for name, width in shape.kept.items()
    }
    state["borders"] = ("FLOAT", (2, p, None, c))
    state |= {"partial": ("FLOAT", (3, p, 2, c)), "later": ("FLOAT", (2, p, 2, c))}
    inputs: Signature = {"silhouettes": ("UINT8", (1, *shape.size)), **state}
    inputs["slots"] = ("INT64", (1, None))
    outputs: Signature = {"embedding": ("FLOAT", (1, p, shape.embedding))}
    outputs["salient_frames"] = ("INT32", (1, p))
    return inputs, outputs | {f"{name}_after": sizes for name, sizes in state.items()}


def graph_of(name: str) -> str:
    """Return which graph a file holds, whatever its precision.

    >>> graph_of("head.fp16.onnx"), graph_of("frames.int8.tensorrt.onnx")
    ('head', 'frames')
    """
    graph, *precision = name.removesuffix(".onnx").split(".")
    known: list[list[str]] = [[], ["fp16"], ["int8"], ["int8", FOR_TENSORRT]]
    return graph if precision in known else name


def part_gather_version(data: bytes) -> str | None:
    """Return the version of the part gather in a graph, None where there is none in it."""
    import onnx

    for node in onnx.load_model_from_string(data).graph.node:
        if node.op_type == OPERATOR:
            versions = [a.s.decode() for a in node.attribute if a.name == "plugin_version"]
            return versions[0] if versions else "1"
    return None


def _check_versions(name: str, model: onnx.ModelProto) -> None:
    """Only the opset we export; an IR version that every runtime of ours reads."""
    opsets = {entry.domain or "ai.onnx": entry.version for entry in model.opset_import}
    foreign = set(opsets) - {"ai.onnx", DOMAIN}
    opset = QDQ_HALF_OPSET if name.endswith(f".{FOR_TENSORRT}.onnx") else OPSET
    if opsets.get("ai.onnx") != opset or foreign or opsets.get(DOMAIN, 1) != 1:
        raise ModelError(f"{name}: expected opset {opset} and {DOMAIN} 1; got {one_line(opsets)}")
    if not 8 <= model.ir_version <= MAX_IR_VERSION:  # functions exist since 8
        raise ModelError(f"{name}: expected IR 8..{MAX_IR_VERSION}; got {model.ir_version}")


def _check_operators(name: str, model: onnx.ModelProto) -> None:
    """Only standard operators and our own, which must bring its function body."""
    bodies = [(body.domain, body.name) for body in model.functions]
    if any(body != (DOMAIN, OPERATOR) for body in bodies) or len(bodies) > 1:
        raise ModelError(
            f"{name}: expected at most the function {OPERATOR}; got {one_line(bodies)}"
        )
    for node in all_nodes(model):
        ours = node.domain == DOMAIN and node.op_type == OPERATOR
        if node.domain not in ("", "ai.onnx") and not ours:
            foreign = f"{one_line(node.domain)}.{one_line(node.op_type)}"
            raise ModelError(f"{name}: expected standard operators; got {foreign}")
        if ours and not bodies:
            raise ModelError(
                f"{name}: {OPERATOR} has no function body, so it is for TensorRT with the plugin "
                "only. Use the plain export"
            )


def check_weights(name: str, model: onnx.ModelProto) -> None:
    """All weights inside the file, and finite."""
    import numpy as np
    from onnx import TensorProto, numpy_helper

    constants = [tensor for node in all_nodes(model) for tensor in _constants(node)]
    for tensor in [*_weights(model.graph), *constants]:
        if tensor.external_data or tensor.data_location == TensorProto.EXTERNAL:
            raise ModelError(
                f"{name}: {one_line(tensor.name)}: expected all weights inside the file; got a "
                "pointer to another file. Export the model again"
            )
    for tensor in model.graph.initializer:
        values = numpy_helper.to_array(tensor)
        if values.dtype.kind == "f" and not np.isfinite(values).all():
            raise ModelError(f"{name}: {one_line(tensor.name)}: got NaN or infinite weights")


def _check_values(
    name: str, side: str, values: Iterable[onnx.ValueInfoProto], expected: Signature
) -> None:
    """Compare names, types and sizes of the inputs or outputs with what we export."""
    from onnx import TensorProto

    actual: Signature = {}
    for value in values:
        tensor = value.type.tensor_type
        kind = TensorProto.DataType.Name(tensor.elem_type)
        sizes = (d.dim_value if d.HasField("dim_value") else None for d in tensor.shape.dim)
        actual[value.name] = (kind, tuple(sizes))
    if actual != expected:
        raise ModelError(f"{name}: expected {side} {expected}; got {one_line(actual)}")


def all_nodes(model: onnx.ModelProto) -> list[onnx.NodeProto]:
    """Return every node, those of functions and of branches and loops too."""
    waiting: list[Any] = [*model.graph.node, *(n for f in model.functions for n in f.node)]
    nodes = []
    while waiting:
        node = waiting.pop()
        nodes.append(node)
        for attribute in node.attribute:
            waiting += attribute.g.node
            waiting += [n for graph in attribute.graphs for n in graph.node]
    return nodes


def _constants(node: onnx.NodeProto) -> list[onnx.TensorProto]:
    """Return the tensors that a node carries in its attributes, those of its branches too."""
    tensors = []
    for attribute in node.attribute:
        tensors += [attribute.t, *attribute.tensors]
        tensors += _dense([attribute.sparse_tensor, *attribute.sparse_tensors])
        for graph in (attribute.g, *attribute.graphs):
            tensors += _weights(graph)
    return tensors


def _weights(graph: onnx.GraphProto) -> list[onnx.TensorProto]:
    return [*graph.initializer, *_dense(graph.sparse_initializer)]


def _dense(tensors: Iterable[onnx.SparseTensorProto]) -> list[onnx.TensorProto]:
    return [part for tensor in tensors for part in (tensor.values, tensor.indices)]
