"""Vectors as 8-bit integers, for products with a query whose error is bounded.

A part of a vector is x ≈ s·i, i in -127..127; what rounding takes away has the length e, so that
by Cauchy and Schwarz q·x is within |q|·e of q·(s·i). A query is split into two digits of 7 bits:
products of 7 by 8 bits overflow in no kernel of ONNX Runtime (its 16-bit sums saturate on CPUs
without VNNI otherwise). Letters: m queries, n vectors, p parts, d dimensions.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from cstl_edge.arrays import Floats

if TYPE_CHECKING:
    import onnxruntime as ort

BLOCK = 8192  # vectors of one matrix: their packed copy is made once
_DIGIT, _BASE = 63, 126  # of a query: q ≈ s·(high + low / 126), both in -63..63
_ZERO = 64  # the digit 0 as an unsigned byte


class QuantisedVectors:
    """Some vectors [p, d, n], as 8-bit integers."""

    def __init__(self, blocks: Iterable[Floats]) -> None:
        """Quantise vectors, given as blocks [n, p, d], which are overwritten."""
        self._blocks: list[tuple[slice, ort.InferenceSession]] = []
        scales, errors, lengths = list[Floats](), list[Floats](), list[Floats]()
        start = 0
        for block in blocks:
            lengths.append(_lengths(block))
            of_block = np.maximum(np.abs(block).max(axis=2), np.float32(1e-30)) / np.float32(127)
            integers, lost = _rounded(block, of_block)
            scales.append(of_block.T)
            errors.append(lost)
            self._blocks.append((slice(start, start + len(block)), _session(integers)))
            start += len(block)
        self.scales, self.lengths = np.hstack(scales), np.hstack(lengths)  # [p, n]
        self.errors: Floats = np.hstack(errors)
        """Length of what rounding took away, [p, n]."""
        self.parts, self.count = self.scales.shape
        self.dimensions = block.shape[2]

    @property
    def query_error(self) -> float:
        """Largest error of a quantised query, as a share of its length."""
        return float(np.sqrt(self.dimensions) / (2 * _BASE * _DIGIT) * 1.01)

    def products(self, queries: Floats) -> Floats:
        """Return products of queries [m, p, d] with all vectors, part by part: [m, p, n]."""
        digits, scales = split(queries)  # [p, 2m, d], [m, p]
        products = np.empty((len(queries), self.parts, self.count), np.float32)
        for place, session in self._blocks:
            (sums,) = session.run(None, {"queries": digits})  # int32 [p, 2m, n]
            for part in range(self.parts):
                pairs = sums[part].reshape(len(queries), 2, -1)
                block = products[:, part, place]
                np.copyto(block, pairs[:, 1], casting="same_kind")
                block *= np.float32(1 / _BASE)
                block += pairs[:, 0]
                block *= self.scales[part, place] * scales[:, part, None]
        return products

    def weighted_sums(self, query: Floats, factors: Floats) -> Floats:
        """Return the sums over parts of weights times products with a query, [n].

        Args:
            query: [p, d].
            factors: [p, n], weights of the products times `scales`.
        """
        digits, scales = split(query[None])
        totals = np.empty(self.count, np.float32)
        for place, session in self._blocks:
            (sums,) = session.run(None, {"queries": digits})  # int32 [p, 2, n]
            total = np.zeros((2, sums.shape[2]), np.float32)
            for pair, factor, scale in zip(sums, factors[:, place], scales[0], strict=True):
                total += np.multiply(pair, factor * scale, dtype=np.float32, casting="same_kind")
            totals[place] = total[0] + total[1] * np.float32(1 / _BASE)
        return totals


def _lengths(rows: Floats) -> Floats:
    """Return the lengths of the parts of rows [n, p, d]: [p, n]."""
    return np.ascontiguousarray(np.sqrt(np.einsum("npd,npd->pn", rows, rows)), np.float32)


def _rounded(rows: Floats, scales: Floats) -> tuple[npt.NDArray[np.int8], Floats]:
    """Return rows [n, p, d] as integers [p, d, n], and the lengths rounded off [p, n].

    Args:
        rows: What is rounded; overwritten.
        scales: [n, p].
    """
    rounded = rows * (1 / scales)[:, :, None]
    np.rint(rounded, out=rounded)
    integers = rounded.astype(np.int8)
    rounded *= scales[:, :, None]
    rows -= rounded
    return np.ascontiguousarray(integers.transpose(1, 2, 0)), _lengths(rows)


def _session(integers: npt.NDArray[np.int8]) -> ort.InferenceSession:
    """Return what multiplies queries with a block of integers [p, d, n]."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    return ort.InferenceSession(_graph(integers), options, ["CPUExecutionProvider"])


def _graph(integers: npt.NDArray[np.int8]) -> bytes:
    """Return an ONNX graph: queries uint8 [p, m, d] to their sums with integers int32 [p, m, n]."""
    from onnx import TensorProto, helper, numpy_helper

    parts, dimensions, count = integers.shape
    node, value = helper.make_node, helper.make_tensor_value_info
    constants = [
        numpy_helper.from_array(np.array([0], np.int64), "axis"),
        numpy_helper.from_array(np.array(_ZERO, np.uint8), "zero"),
        *(numpy_helper.from_array(x, f"vectors{part}") for part, x in enumerate(integers)),
    ]
    queries, results = ([f"{name}{p}" for p in range(parts)] for name in ("query", "part"))
    nodes = [node("Split", ["queries"], queries, axis=0, num_outputs=parts)]
    for p in range(parts):
        nodes += [
            node("Squeeze", [queries[p], "axis"], [f"rows{p}"]),
            node("MatMulInteger", [f"rows{p}", f"vectors{p}", "zero"], [f"sums{p}"]),
            node("Unsqueeze", [f"sums{p}", "axis"], [results[p]]),
        ]
    nodes.append(node("Concat", results, ["sums"], axis=0))
    graph = helper.make_graph(
        nodes,
        "products",
        [value("queries", TensorProto.UINT8, [parts, "m", dimensions])],
        [value("sums", TensorProto.INT32, [parts, "m", count])],
        constants,
    )
    opsets = [helper.make_opsetid("", 18)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=8)
    return bytes(model.SerializeToString())


def split(queries: Floats) -> tuple[npt.NDArray[np.uint8], Floats]:
    """Return the digits of queries [m, p, d] as bytes [p, 2m, d], and their scales [m, p]."""
    scales = np.abs(queries).max(axis=2) / np.float32(_DIGIT)
    scales = np.maximum(scales, np.float32(1e-30))
    values = queries / scales[:, :, None]
    high = np.rint(values)
    low = np.rint((values - high) * np.float32(_BASE))
    digits = np.stack([high, low], axis=2) + _ZERO  # [m, p, 2, d]
    by_part = digits.transpose(1, 0, 2, 3).reshape(queries.shape[1], -1, queries.shape[2])
    return np.ascontiguousarray(by_part).astype(np.uint8), np.asarray(scales, np.float32)
