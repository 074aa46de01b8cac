"""A mask network as TensorRT is to run it: crops in as bytes, its precision written in it.

`crops` uint8 BGR [m, side, side, 3] → order of colours, mean and std, layout → the network →
`mask` and `presence` in float32, as the network means them. In fp16 everything between is float16,
but the sizes of a Resize and what a sum of many numbers needs: `FLOAT_ONLY`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from cstl_edge.arrays import Array
from cstl_edge.errors import ExportError, one_line
from cstl_edge.runtime.masks.manifest import MaskManifest

FLOAT, HALF = TensorProto.FLOAT, TensorProto.FLOAT16
FLOAT_INPUTS = {"Resize": (1, 2), "Upsample": (1,)}
"""Inputs that have to be float32 whatever the data's type, by operator."""
OWN = "network/"  # before the network's own names, which may be anything


def mask_graph(manifest: MaskManifest, data: bytes, precision: str) -> bytes:
    """Return the graph to build (ExportError for a weight that float16 cannot hold).

    Args:
        manifest: Manifest of the network.
        data: Bytes of its ONNX file, which was checked.
        precision: `float32` or `fp16`.
    """
    number = HALF if precision == "fp16" else FLOAT
    model = onnx.load_model_from_string(data)
    graph = model.graph
    if any(a.g.node or a.graphs for node in graph.node for a in node.attribute):
        raise ExportError(
            f"{manifest.file} has branches or loops, which are not built: leave the mask out "
            "(--graphs frames,head); ONNX Runtime runs it"
        )
    _fold_casts(graph)
    if number == HALF:
        _to_half(graph)
    before, first = _prepared(manifest, number)
    after, outputs = _finished(manifest)
    _rename(graph, {manifest.input.name: first})
    nodes = [*before, *graph.node, *after]
    crops = helper.make_tensor_value_info(
        "crops", TensorProto.UINT8, ["m", manifest.input.side, manifest.input.side, 3]
    )
    built = helper.make_graph(nodes, "mask", [crops], outputs, list(graph.initializer))
    opsets = [entry for entry in model.opset_import if entry.domain in ("", "ai.onnx")]
    complete = helper.make_model(built, opset_imports=opsets, ir_version=max(8, model.ir_version))
    onnx.checker.check_model(complete)
    return bytes(complete.SerializeToString())


def _prepared(manifest: MaskManifest, number: int) -> tuple[list[onnx.NodeProto], str]:
    """Return the nodes from bytes to the network's input, and the name of the latter."""
    wanted, name = manifest.input, "crops"
    nodes = []

    def add(operator: str, constant: Array | None = None, **attributes: Any) -> None:
        nonlocal name
        inputs = [name]
        if constant is not None:
            inputs.append(f"{operator.lower()}.constant")
            tensor = numpy_helper.from_array(constant)
            nodes.append(helper.make_node("Constant", [], inputs[1:], value=tensor))
        name = f"crops.{operator.lower()}"
        nodes.append(helper.make_node(operator, inputs, [name], **attributes))

    add("Cast", to=FLOAT)
    if wanted.colours == "RGB":
        add("Gather", np.array([2, 1, 0], np.int64), axis=3)
    add("Sub", np.array(wanted.mean, np.float32))
    add("Div", np.array(wanted.std, np.float32))
    if wanted.layout == "NCHW":
        add("Transpose", perm=[0, 3, 1, 2])
    if number == HALF:
        nodes.append(helper.make_node("Cast", [name], ["crops.half"], to=HALF))
        name = "crops.half"
    return nodes, name


def _finished(
    manifest: MaskManifest,
) -> tuple[list[onnx.NodeProto], list[onnx.ValueInfoProto]]:
    """Return the nodes from the network's outputs to ours, and our outputs."""
    side = manifest.input.side
    shapes = {"mask": (manifest.mask.name, [-1, side, side])}
    if manifest.presence is not None:
        shapes["presence"] = (manifest.presence.name, [-1])
    nodes, outputs = [], []
    for ours, (theirs, shape) in shapes.items():
        sizes = numpy_helper.from_array(np.array(shape, np.int64))
        name = f"{ours}.cast"
        nodes += [
            helper.make_node("Constant", [], [f"{ours}.sizes"], value=sizes),
            helper.make_node("Cast", [f"{OWN}{theirs}"], [name], to=FLOAT),
            helper.make_node("Reshape", [name, f"{ours}.sizes"], [ours]),
        ]
        outputs.append(helper.make_tensor_value_info(ours, FLOAT, ["m", *shape[1:]]))
    return nodes, outputs


def _rename(graph: onnx.GraphProto, known: dict[str, str]) -> None:
    """Give every name of a graph its prefix, but those that are `known` by another one."""

    def renamed(name: str) -> str:
        return known.get(name, f"{OWN}{name}") if name else ""

    for tensor in graph.initializer:
        tensor.name = renamed(tensor.name)
    for node in graph.node:
        for names in (node.input, node.output):
            names[:] = [renamed(name) for name in names]


def _fold_casts(graph: onnx.GraphProto) -> None:
    """Write weights in the type that they are cast to: the shipped ones are float16."""
    weights = {tensor.name: tensor for tensor in graph.initializer}
    kept, folded = [], set()
    for node in graph.node:
        source = weights.get(node.input[0]) if node.op_type == "Cast" else None
        if source is None:
            kept.append(node)
            continue
        dtype = helper.tensor_dtype_to_np_dtype(node.attribute[0].i)
        values = numpy_helper.to_array(source).astype(dtype)
        graph.initializer.append(numpy_helper.from_array(values, node.output[0]))
        folded.add(node.input[0])
    used = {name for node in kept for name in node.input}
    rest = [t for t in graph.initializer if t.name not in folded or t.name in used]
    copies = [onnx.TensorProto.FromString(tensor.SerializeToString()) for tensor in rest]
    nodes = [onnx.NodeProto.FromString(node.SerializeToString()) for node in kept]
    del graph.node[:], graph.initializer[:], graph.value_info[:]
    graph.node.extend(nodes)
    graph.initializer.extend(copies)


def _to_half(graph: onnx.GraphProto) -> None:
    """Let every number be float16, but what has to be float32."""
    fixed = {
        node.input[place]
        for node in graph.node
        for place in FLOAT_INPUTS.get(node.op_type, ())
        if place < len(node.input)
    }
    for tensor in graph.initializer:
        if tensor.data_type == FLOAT and tensor.name not in fixed:
            tensor.CopyFrom(_half(tensor, tensor.name))
    for node in graph.node:
        for attribute in node.attribute:
            if node.op_type == "Constant" and node.output[0] in fixed:
                continue
            if attribute.t.data_type == FLOAT:
                attribute.t.CopyFrom(_half(attribute.t, attribute.t.name))
            if node.op_type == "Cast" and attribute.name == "to" and attribute.i == FLOAT:
                attribute.i = HALF


def _half(tensor: onnx.TensorProto, name: str) -> onnx.TensorProto:
    values = numpy_helper.to_array(tensor)
    with np.errstate(over="ignore"):
        half = values.astype(np.float16)
    if np.isfinite(values).all() and not np.isfinite(half).all():
        raise ExportError(
            f"fp16: {one_line(name)} of the mask network is beyond float16; build with "
            "--precision float32"
        )
    return numpy_helper.from_array(half, name)
