"""Checks of a mask network's ONNX file: standard operators, weights inside, inputs and outputs.

It runs in the child process of `model_probe` for files from outside.
"""

from __future__ import annotations

import numpy as np
import onnx

from cstl_edge.errors import ModelError, one_line
from cstl_edge.foreign import parsing
from cstl_edge.runtime.backends.ort_session import open_session
from cstl_edge.runtime.graph_format import MAX_IR_VERSION, all_nodes, check_weights
from cstl_edge.runtime.masks.base import logits_and_presence
from cstl_edge.runtime.masks.manifest import MaskManifest

OPSETS = range(11, 22)


def check_mask_graph(manifest: MaskManifest, data: bytes) -> None:
    """Refuse a graph that is not what its manifest says (ModelError), then run it on two crops."""
    name = manifest.file
    with parsing(name, "an ONNX file", ModelError, "export the mask network again"):
        model = onnx.load_model_from_string(data)
        _check_form(name, model)
        check_weights(name, model)
        _check_input(manifest, model)
    outputs = [manifest.mask.name, *([manifest.presence.name] if manifest.presence else [])]
    there = [output.name for output in model.graph.output]
    missing = [output for output in outputs if output not in there]
    if missing:
        raise ModelError(f"{name}: expected the output {missing[0]}; got {one_line(there)}")
    _run(manifest, data, outputs)


def _check_form(name: str, model: onnx.ModelProto) -> None:
    opsets = {entry.domain or "ai.onnx": entry.version for entry in model.opset_import}
    if opsets.get("ai.onnx") not in OPSETS or not 4 <= model.ir_version <= MAX_IR_VERSION:
        raise ModelError(
            f"{name}: expected opset {OPSETS[0]}..{OPSETS[-1]} and IR 4..{MAX_IR_VERSION}; got "
            f"{one_line(opsets)} and {model.ir_version}"
        )
    foreign = [node for node in all_nodes(model) if node.domain not in ("", "ai.onnx")]
    if foreign or model.functions:
        got = foreign[0].op_type if foreign else model.functions[0].name
        raise ModelError(f"{name}: expected standard operators; got {one_line(got)}")


def _check_input(manifest: MaskManifest, model: onnx.ModelProto) -> None:
    """Compare the graph's one input with the manifest's."""
    constants = {tensor.name for tensor in model.graph.initializer}
    inputs = [value for value in model.graph.input if value.name not in constants]
    actual = []
    for value in inputs:
        tensor = value.type.tensor_type
        kind = onnx.TensorProto.DataType.Name(tensor.elem_type)
        sizes = tuple(d.dim_value if d.HasField("dim_value") else None for d in tensor.shape.dim)
        actual.append((value.name, kind, sizes))
    expected = (manifest.input.name, "FLOAT", manifest.input.shape)
    if actual != [expected]:
        raise ModelError(
            f"{manifest.file}: expected one input {expected}, whose first axis is left open; got "
            f"{one_line(actual)}"
        )


def _run(manifest: MaskManifest, data: bytes, outputs: list[str]) -> None:
    """Open the graph in ONNX Runtime and give it two crops."""
    side, name = manifest.input.side, manifest.file
    session = open_session(name, data, threads=1)
    shape = tuple(2 if size is None else size for size in manifest.input.shape)
    crops = np.random.default_rng(0).random(shape, dtype=np.float32)
    given = session.run(outputs, {manifest.input.name: crops})
    for output, count, array in zip(outputs, (side * side, 1), given, strict=False):
        if array.size != 2 * count or len(array) != 2 or array.dtype != np.float32:
            raise ModelError(
                f"{name}: expected {output} as float32 with {count} numbers per crop; "
                f"got {array.dtype} {list(array.shape)} of 2 crops"
            )
    answers = logits_and_presence(manifest, given[0], given[1] if manifest.presence else None)
    if not all(np.isfinite(answer).all() for answer in answers):
        raise ModelError(f"{name}: expected finite outputs; got NaN or infinity")
