"""Teacher of the small person networks: BlazePose, as tf2onnx converts it, becomes a mask network.

The converter writes a graph for one crop at a time; here it takes any number, and a manifest says
what goes in and comes out.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper

from cstl_edge.errors import ModelError, one_line
from cstl_edge.foreign import parsing
from cstl_edge.output import write_file
from cstl_edge.runtime.masks.graph import check_mask_graph
from cstl_edge.runtime.masks.manifest import MaskInput, MaskManifest, MaskOutput

INPUT, PRESENCE, MASK = "input_1", "Identity_1", "Identity_2"  # names that the converter gives
SIDE = 256  # pixels of a crop


def write_teacher(converted: Path, place: Path) -> MaskManifest:
    """Write `place` (an .onnx file) and the manifest beside it; return the manifest.

    Args:
        converted: Result of tf2onnx.
        place: The file.

    Raises ModelError for another graph than that of a BlazePose landmark network.
    """
    with parsing(converted.name, "an ONNX file", ModelError, "convert the network again"):
        model = onnx.load(str(converted))
    there = {value.name for value in (*model.graph.input, *model.graph.output)}
    missing = [name for name in (INPUT, PRESENCE, MASK) if name not in there]
    if missing:
        raise ModelError(
            f"{one_line(converted)}: expected a BlazePose landmark network out of tf2onnx, with "
            f"{missing[0]}; got {one_line(sorted(there))}"
        )
    open_crops(model.graph)
    data = model.SerializeToString()
    manifest = MaskManifest(
        format=1,
        name=f"teacher: {converted.stem}"[:200],
        licence="Apache-2.0",
        file=place.name,
        sha256=hashlib.sha256(data).hexdigest(),
        input=MaskInput(
            name=INPUT, layout="NHWC", side=SIDE, colours="RGB", mean=(0, 0, 0), std=(255, 255, 255)
        ),
        mask=MaskOutput(name=MASK, meaning="logit"),
        presence=MaskOutput(name=PRESENCE, meaning="probability"),
    )
    check_mask_graph(manifest, data)
    write_file(place, data)
    write_file(place.with_suffix(".json"), manifest.model_dump_json(indent=2) + "\n")
    return manifest


def open_crops(graph: onnx.GraphProto) -> None:
    """Leave the number of crops open in a graph for one crop, in place."""
    for value in (*graph.input, *graph.output):
        value.type.tensor_type.shape.dim[0].dim_param = "m"
    del graph.value_info[:]
    shapes = {node.input[1] for node in graph.node if node.op_type == "Reshape"}
    for tensor in graph.initializer:
        sizes = numpy_helper.to_array(tensor)
        if tensor.name in shapes and sizes.size and sizes[0] == 1 and -1 not in sizes:
            opened = np.concatenate([[-1], sizes[1:]]).astype(np.int64)
            tensor.CopyFrom(numpy_helper.from_array(opened, tensor.name))
