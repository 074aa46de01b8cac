"""Export of small person networks: an ONNX file with float16 weights, and its manifest.

Order of colours and normalisation are in the first layer, so that crops go in as they are.
"""

from __future__ import annotations

import copy
import hashlib
import io
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper

from cstl_edge.output import write_file
from cstl_edge.runtime.masks.graph import check_mask_graph
from cstl_edge.runtime.masks.manifest import MaskInput, MaskManifest, MaskOutput
from cstl_edge.training.person_mask.network import SIDE, PersonMaskNetwork

OPSET, IR_VERSION = 17, 8
LEAST_VALUES = 16  # of a tensor that is stored in float16
NOTICE = "NOTICE-person-mask-small.md"


def export_network(model: onnx.ModelProto, name: str, place: Path) -> MaskManifest:
    """Write `place` (an .onnx file) and the manifest beside it; return the manifest.

    Args:
        model: Takes `image`, gives `mask_logits` and maybe `presence`; its weights are rounded to
            float16 in the file.
        name: Of the network, for people.
        place: The file.
    """
    halve(model.graph)
    onnx.checker.check_model(model)
    data = model.SerializeToString()
    side = model.graph.input[0].type.tensor_type.shape.dim[2].dim_value
    presence = any(output.name == "presence" for output in model.graph.output)
    manifest = MaskManifest(
        format=1,
        name=name,
        licence="Apache-2.0",
        notice=NOTICE,
        file=place.name,
        sha256=hashlib.sha256(data).hexdigest(),
        input=MaskInput(
            name="image", layout="NCHW", side=side, colours="BGR", mean=(0, 0, 0), std=(1, 1, 1)
        ),
        mask=MaskOutput(name="mask_logits", meaning="logit"),
        presence=MaskOutput(name="presence", meaning="logit") if presence else None,
    )
    check_mask_graph(manifest, data)
    write_file(place, data)
    write_file(place.with_suffix(".json"), manifest.model_dump_json(indent=2) + "\n")
    return manifest


def to_onnx(network: PersonMaskNetwork) -> onnx.ModelProto:
    """Return the graph of a network: crops float32 BGR 0..255 [m, 3, SIDE, SIDE]."""
    taking_bytes = copy.deepcopy(network).eval()
    with torch.no_grad():
        weight = taking_bytes.stem.weight
        weight.copy_(weight.flip(1) / 255)
    file: Any = io.BytesIO()  # PyTorch writes to it, its annotation knows paths alone
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # tracer notes and the exporter's own deprecation
        torch.onnx.export(
            taking_bytes,
            (torch.zeros(2, 3, SIDE, SIDE),),
            file,
            input_names=["image"],
            output_names=["mask_logits", "presence"],
            dynamic_axes={name: {0: "m"} for name in ("image", "mask_logits", "presence")},
            opset_version=OPSET,
            dynamo=False,
        )
    model = onnx.load_model_from_string(file.getvalue())
    model.ir_version, model.producer_name = IR_VERSION, "cstl_edge"
    return model


def halve(graph: onnx.GraphProto) -> None:
    """Store weights in float16 behind a Cast to float32, in place.

    The first layer stays: its weights are of single grey levels.
    """
    first = next(node.input[1] for node in graph.node if node.op_type == "Conv")
    casts, tensors = [], []
    for tensor in graph.initializer:
        values = numpy_helper.to_array(tensor)
        if values.dtype != np.float32 or values.size < LEAST_VALUES or tensor.name == first:
            tensors.append(tensor)
            continue
        name = f"{tensor.name}.half"
        tensors.append(numpy_helper.from_array(values.astype(np.float16), name))
        casts.append(helper.make_node("Cast", [name], [tensor.name], to=TensorProto.FLOAT))
    nodes = [*casts, *graph.node]
    del graph.initializer[:], graph.node[:]
    graph.initializer.extend(tensors)
    graph.node.extend(nodes)
