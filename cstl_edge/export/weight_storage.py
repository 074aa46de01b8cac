"""Store weights as float16 behind a Cast to float32 wherever nothing is lost by it.

Weights that were rounded to float16 before they were evaluated take half the space this way, and
every runtime unfolds them once, when it opens the file. A convolution with a norm folded into it is
no longer a float16 number: its two factors are, and the product is left to the runtime as well.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from cstl_edge.arrays import Floats
from cstl_edge.model import Cstl
from cstl_edge.model.temporal import Normed

MIN_ELEMENTS = 1024  # smaller tensors are not worth two nodes


@dataclass(frozen=True)
class Factors:
    """The factors of a folded weight: `weight * scale`."""

    weight: Floats  # [p, out, in] as trained, or [p, in, out]
    scale: Floats  # [p, out, 1] of the norm behind it, or [p, 1, out]

    @property
    def product(self) -> Floats:
        """Return the folded weight, multiplied as a runtime will multiply it."""
        return self.weight * self.scale


def folded_factors(network: Cstl) -> list[Factors]:
    """Return the factors of every weight that `network.fused()` folds a norm into."""
    modules = [module for module in network.modules() if isinstance(module, Normed)]
    factors = []
    for norm, layers in (pair for module in modules for pair in module.norms_with_layers()):
        scale = norm.affine()[0].detach().numpy()[:, :, None]
        factors += [Factors(layer.weight.detach().numpy(), scale) for layer in layers]
    # A simplifier may have turned a weight over, where the graph multiplies by it from the right.
    return factors + [Factors(f.weight.swapaxes(1, 2), f.scale.swapaxes(1, 2)) for f in factors]


def store_as_half(model: onnx.ModelProto, factors: list[Factors]) -> int:
    """Rewrite the graph's exactly representable weights; return how many were rewritten."""
    graph = model.graph
    tensors, nodes, count = [], [], 0
    for tensor in graph.initializer:
        added = _as_half(tensor, factors) if tensor.data_type == TensorProto.FLOAT else None
        if added is None:
            tensors.append(tensor)
            continue
        tensors += added[0]
        nodes += added[1]
        count += 1
    ordered = [*nodes, *graph.node]
    del graph.initializer[:], graph.node[:]
    graph.initializer.extend(tensors)
    graph.node.extend(ordered)
    return count


def _as_half(
    tensor: onnx.TensorProto, factors: list[Factors]
) -> tuple[list[onnx.TensorProto], list[onnx.NodeProto]] | None:
    """Return the initialisers and nodes that give exactly this tensor, or None."""
    values, name = numpy_helper.to_array(tensor), tensor.name
    if values.size < MIN_ELEMENTS:
        return None
    if _is_half(values):
        return _cast(name, values)
    # Found by value, not by name: a simplifier may have renamed it.
    same = (f for f in factors if f.weight.shape == values.shape)
    factor = next((f for f in same if np.array_equal(f.product, values)), None)
    if factor is None or not _is_half(factor.weight):
        return None
    tensors, nodes = _cast(f"{name}.unscaled", factor.weight)
    scale = numpy_helper.from_array(factor.scale, f"{name}.scale")
    product = helper.make_node("Mul", [f"{name}.unscaled", scale.name], [name])
    return [*tensors, scale], [*nodes, product]


def _cast(name: str, values: Floats) -> tuple[list[onnx.TensorProto], list[onnx.NodeProto]]:
    half = numpy_helper.from_array(values.astype(np.float16), f"{name}.half")
    return [half], [helper.make_node("Cast", [half.name], [name], to=TensorProto.FLOAT)]


def _is_half(values: Any) -> bool:
    """Tell whether float16 holds exactly these numbers; those that become infinite it does not."""
    with np.errstate(over="ignore"):
        return bool(np.array_equal(values.astype(np.float16).astype(np.float32), values))
