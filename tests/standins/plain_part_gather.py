"""The part gather as anyone would write it, and its ONNX function alone in a graph."""

from __future__ import annotations

import math

import onnx
import onnxruntime as ort
import torch
from onnx import TensorProto, helper
from torch import Tensor

from cstl_edge.export.graphs import IR_VERSION, function_body
from cstl_edge.runtime.graph_format import DOMAIN, OPERATOR, OPSET


def plain_loop(features: Tensor, scores: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
    """Eq. 9 and 10 in plain loops; the first of equals wins, NaN never does."""
    n, s, p, c = features.shape
    frames = torch.zeros(n, p, dtype=torch.int32)
    salient = torch.zeros(n, p, c, dtype=features.dtype)
    for b, rows in enumerate(scores.tolist()):
        for k, row in enumerate(rows):
            best = -math.inf
            for t in range(max(0, min(s, int(lengths[b])))):
                if row[t] > best:  # false for NaN
                    best, frames[b, k] = row[t], t
            salient[b, k] = features[b, frames[b, k], k]
    return salient, frames


def onnx_function(features: Tensor, scores: Tensor, lengths: Tensor) -> tuple[Tensor, ...]:
    """The local function that everyone runs who has no plugin, in ONNX Runtime."""
    kind = helper.np_dtype_to_tensor_dtype(features.numpy().dtype)
    value = helper.make_tensor_value_info
    names = ["features", "scores", "lengths"], ["salient", "frames"]
    graph = helper.make_graph(
        [helper.make_node(OPERATOR, *names, domain=DOMAIN)],
        "part_gather",
        [
            value("features", kind, list("nspc")),
            value("scores", kind, list("nps")),
            value("lengths", TensorProto.INT32, ["n"]),
        ],
        [value("salient", kind, list("npc")), value("frames", TensorProto.INT32, list("np"))],
    )
    model = helper.make_model(
        graph,
        opset_imports=[helper.make_opsetid("", OPSET), helper.make_opsetid(DOMAIN, 1)],
        functions=[function_body(kind)],
        ir_version=IR_VERSION,
    )
    onnx.checker.check_model(model, full_check=True)
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    feed = {"features": features, "scores": scores, "lengths": lengths}
    outputs = session.run(None, {name: tensor.numpy() for name, tensor in feed.items()})
    return tuple(map(torch.from_numpy, outputs))
