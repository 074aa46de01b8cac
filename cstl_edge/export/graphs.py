"""Trace the network to ONNX graphs, float32, opset 17.

- `frames`: the trunk, silhouettes to part features, once per frame;
- `head`: part features of a window to its embedding;
- `full`: both in one;
- `taps`, `mix`, `slide`: the incremental head (`model.incremental_head`), for windows that slide;
  only the paper's whole network has it.

The part gather is a node `CstlPartGather` with the attributes by which TensorRT finds our plugin,
and a local function of the same name, by which everyone else computes it with standard operators.
Letters: n sequences, s frames, m frames of any sequences, h w pixels, p parts, c channels.
"""

from __future__ import annotations

import io
import warnings
from typing import Any

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn
from torch.onnx import symbolic_helper
from torch.onnx import utils as onnx_exporter

from cstl_edge.model import Cstl
from cstl_edge.model.export_head import ExportHead
from cstl_edge.model.head_matrices import has_fast_heads
from cstl_edge.model.incremental_head import Mix, Slide, Taps
from cstl_edge.runtime.graph_format import (
    DOMAIN,
    OPERATOR,
    OPSET,
    PLUGIN_VERSION,
    Signature,
    signature,
)
from cstl_edge.runtime.manifest import Shape

GRAPHS = ("frames", "head", "full")
"""What a user chooses from; the incremental head comes with `head`."""
INCREMENTAL = ("taps", "mix", "slide")
IR_VERSION = 9  # functions need 8; ONNX Runtime 1.23 and TensorRT 10.3 read up to 10


class Frames(nn.Module):
    """silhouettes uint8 [m, h, w] -> features [m, p, c]."""

    def __init__(self, network: Cstl) -> None:
        super().__init__()
        self.network = network

    def forward(self, silhouettes: Tensor) -> Tensor:
        """Run the trunk; the cast is explained in `Full`."""
        return self.network.frame_features(silhouettes.float())


class Head(nn.Module):
    """features [n, s, p, c], lengths int32 [n] -> embedding [n, p, d], salient_frames [n, p]."""

    def __init__(self, network: Cstl) -> None:
        super().__init__()
        self.network = network
        self.whole = ExportHead(network) if has_fast_heads(network.config) else None

    def forward(self, features: Tensor, lengths: Tensor) -> tuple[Tensor, ...]:
        """Run the head; a network without SSFL has one output."""
        if self.whole is not None:
            return tuple(self.whole(features, lengths))
        return tuple(t for t in self.network.head(features, lengths) if t is not None)


class Full(nn.Module):
    """silhouettes uint8 [n, s, h, w], lengths int32 [n] -> the outputs of `Head`."""

    def __init__(self, network: Cstl) -> None:
        super().__init__()
        self.network, self.head = network, Head(network)

    def forward(self, silhouettes: Tensor, lengths: Tensor) -> tuple[Tensor, ...]:
        """Run the whole network; cast first: TensorRT takes uint8 in, but computes none."""
        x = silhouettes.float()
        features = self.network.frame_features(x.reshape(-1, *x.shape[2:]))  # [n*s, p, c]
        windows = features.reshape(-1, x.shape[1], *self.network.feature_shape)  # [n, s, p, c]
        outputs: tuple[Tensor, ...] = self.head(windows, lengths)
        return outputs


def build_graph(network: Cstl, graph: str) -> onnx.ModelProto:
    """Trace one of `GRAPHS` or `INCREMENTAL` from a network with folded norms (`Cstl.fused`)."""
    kinds = (Frames, Head, Full, Taps, Mix, Slide)
    module = dict(zip(GRAPHS + INCREMENTAL, kinds, strict=True))[graph](network).eval()
    shape = Shape.model_validate(network.config.to_dict())
    inputs, outputs = signature(f"{graph}.onnx", shape)
    model = _trace(graph, module, shape)
    if any(node.op_type == OPERATOR for node in model.graph.node):
        model.functions.append(function_body(TensorProto.FLOAT))
    _declare(model.graph.input, inputs, graph)
    _declare(model.graph.output, outputs, graph)
    model.ir_version = IR_VERSION
    onnx.checker.check_model(model)
    return model


def _declare(values: Any, expected: Signature, graph: str) -> None:
    """Write names, types and sizes of inputs or outputs, where the tracer knows only some."""
    del values[:]
    for name, (kind, sizes) in expected.items():
        axes = _dynamic(graph, sizes)
        named = [axes.get(axis, size) for axis, size in enumerate(sizes)]
        values.append(helper.make_tensor_value_info(name, TensorProto.DataType.Value(kind), named))


def function_body(dtype: int) -> onnx.FunctionProto:
    """Return CstlPartGather in standard operators, for features and scores of an ONNX `dtype`."""
    lowest = np.array(-np.inf, helper.tensor_dtype_to_np_dtype(dtype))
    node = helper.make_node
    nodes = [
        *(_constant(name, np.array(value, np.int64)) for name, value in _INTEGERS.items()),
        _constant("lowest", lowest),
        node("Shape", ["features"], ["n_s_p_c"]),
        node("Gather", ["n_s_p_c", "one"], ["s"]),
        node("Range", ["zero", "s", "one"], ["t"]),  # [s]
        node("Cast", ["lengths"], ["lengths64"], to=TensorProto.INT64),
        node("Unsqueeze", ["lengths64", "axes12"], ["ends"]),  # [n, 1, 1]
        node("Less", ["t", "ends"], ["valid"]),  # [n, 1, s]
        node("IsNaN", ["scores"], ["is_nan"]),
        node("Where", ["is_nan", "lowest", "scores"], ["numbers"]),
        node("Where", ["valid", "numbers", "lowest"], ["ranked"]),
        node("ArgMax", ["ranked"], ["best"], axis=2, keepdims=0),  # [n, p], first of equals
        node("Cast", ["best"], ["frames"], to=TensorProto.INT32),
        node("Unsqueeze", ["best", "axes13"], ["best_frame"]),  # [n, 1, p, 1]
        node("Gather", ["n_s_p_c", "axis3"], ["c"]),
        node("Concat", ["ones", "c"], ["one_one_one_c"], axis=0),
        node("Expand", ["best_frame", "one_one_one_c"], ["index"]),  # [n, 1, p, c]
        node("GatherElements", ["features", "index"], ["picked"], axis=1),
        node("Squeeze", ["picked", "axis1"], ["salient"]),  # [n, p, c]
    ]
    names, opsets = ["features", "scores", "lengths"], [helper.make_opsetid("", OPSET)]
    return helper.make_function(DOMAIN, OPERATOR, names, ["salient", "frames"], nodes, opsets, [])


_INTEGERS: dict[str, Any] = {"zero": 0, "one": 1, "ones": [1, 1, 1]}
_INTEGERS |= {"axis1": [1], "axis3": [3], "axes12": [1, 2], "axes13": [1, 3]}


def _constant(name: str, value: Any) -> onnx.NodeProto:
    return helper.make_node("Constant", [], [name], value=numpy_helper.from_array(value))


def _dynamic(graph: str, sizes: tuple[int | None, ...]) -> dict[int, str]:
    """Return the names of the axes that are left to the caller: m, or n and s in this order."""
    free = [axis for axis, size in enumerate(sizes) if size is None]
    return dict(zip(free, "m" if graph in ("frames", "taps", "mix") else "ns", strict=False))


def _example(graph: str, shape: Shape) -> tuple[Tensor, ...]:
    """Return inputs to trace with: two sequences, for a batch of one may be baked in unseen."""
    n, s = 2, 5
    lengths = torch.tensor([s, 3], dtype=torch.int32)
    if graph == "head":
        return torch.rand(n, s, shape.parts, shape.channels), lengths
    if graph in ("taps", "mix"):
        rows = torch.rand(shape.parts, s, shape.channels)
        return (rows,) if graph == "taps" else (rows, rows)
    if graph == "slide":
        kept = (torch.rand(n, shape.parts, s, width) for width in shape.kept.values())
        return *kept, torch.arange(s).expand(n, -1).contiguous()
    silhouettes = torch.randint(0, 256, (n, s, *shape.size), dtype=torch.uint8)
    return (silhouettes[0],) if graph == "frames" else (silhouettes, lengths)


def _trace(graph: str, module: nn.Module, shape: Shape) -> onnx.ModelProto:
    """Export with the TorchScript exporter: the only one that keeps the batch dynamic here."""
    inputs, outputs = signature(f"{graph}.onnx", shape)
    dynamic = {k: _dynamic(graph, sizes) for k, (_, sizes) in {**inputs, **outputs}.items()}
    file = io.BytesIO()
    for name, symbol in _SYMBOLS.items():
        onnx_exporter.register_custom_op_symbolic(name, symbol, OPSET)
    try:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")  # tracer notes and the exporter's own deprecation
            torch.onnx.export(
                module,
                _example(graph, shape),
                file,  # type: ignore[arg-type]  # a stream is fine, the annotation forgets it
                dynamo=False,
                opset_version=OPSET,
                input_names=[*inputs],
                output_names=[*outputs],
                dynamic_axes=dynamic,
                custom_opsets={DOMAIN: 1} if graph in ("head", "full") else None,
            )
    finally:
        for name in _SYMBOLS:
            onnx_exporter.unregister_custom_op_symbolic(name, OPSET)
    return onnx.load_model_from_string(file.getvalue())


def _part_gather_symbol(g: Any, features: Any, scores: Any, lengths: Any) -> Any:
    """Write the part gather as our node, with the attributes by which TensorRT finds the plugin."""
    attributes = {"plugin_version_s": PLUGIN_VERSION, "plugin_namespace_s": DOMAIN}
    inputs = features, scores, lengths
    salient, frames = g.op(f"{DOMAIN}::{OPERATOR}", *inputs, outputs=2, **attributes)
    _, _, p, c = features.type().sizes() or (None,) * 4
    salient.setType(features.type().with_sizes([None, p, c]))
    frames.setType(features.type().with_dtype(torch.int32).with_sizes([None, p]))
    return salient, frames


def _squeeze_symbol(g: Any, x: Any, dim: Any) -> Any:
    """Write a plain Squeeze; the exporter would branch (`If`) where it does not know the size.

    Every axis that the network squeezes has size 1 by construction.
    """
    axis = symbolic_helper._maybe_get_const(dim, "i")
    return g.op("Squeeze", x, g.op("Constant", value_t=torch.tensor([axis])))


def _unshuffle_symbol(g: Any, x: Any, factor: Any) -> Any:
    """Write `pixel_unshuffle` as SpaceToDepth: equal for one channel, which silhouettes have."""
    size = symbolic_helper._maybe_get_const(factor, "i")
    n, c, h, w = x.type().sizes() or (None,) * 4
    folded = g.op("SpaceToDepth", x, blocksize_i=size)
    shape = [n, c and c * size * size, h and h // size, w and w // size]
    folded.setType(x.type().with_sizes(shape))
    return folded


_SYMBOLS: dict[str, Any] = {
    "aten::pixel_unshuffle": _unshuffle_symbol,
    "cstl_edge::part_gather": _part_gather_symbol,
    "aten::squeeze": _squeeze_symbol,
}
