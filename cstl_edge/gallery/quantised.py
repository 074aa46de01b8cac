"""Unit vectors as 8-bit integers, for products with a query whose error is bounded.

A vector is x ≈ s·i, i in -127..127; what rounding takes away has the length e, so that by Cauchy
and Schwarz q·x is within |q|·e of q·(s·i). A query is split into two digits of 7 bits: products of
7 by 8 bits overflow in no kernel of ONNX Runtime (its 16-bit sums saturate on CPUs without VNNI
otherwise). Letters: m queries, n vectors, p parts, d dimensions.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from cstl_edge.arrays import Floats

if TYPE_CHECKING:
    import onnxruntime as ort

BLOCK = 8192  # vectors of one matrix: their packed copy is made once
CHUNK = 256  # vectors quantised at once; BLOCK is a multiple of it
_DIGIT, _BASE = 63, 126  # of a query: q ≈ s·(high + low / 126), both in -63..63
_ZERO = 64  # the digit 0 as an unsigned byte


class QuantisedVectors:
    """Some vectors [n, p, d], as 8-bit integers."""

    def __init__(self, count: int, chunks: Iterable[Floats]) -> None:
        """Quantise vectors.

        Args:
            count: n.
            chunks: The vectors, up to CHUNK at once, [k, p, d]; overwritten.
        """
        self._blocks: list[tuple[slice, ort.InferenceSession]] = []
        self.count = count
        self.scales: Floats = np.empty(count, np.float32)
        errors = list[Floats]()
        integers, first, start = np.empty((0, 0), np.int8), 0, 0
        for chunk in chunks:
            if start == first:
                shape = (chunk[0].size, min(BLOCK, count - first))
                integers = np.empty(shape, np.int8)
            end = start + len(chunk)
            rounded, self.scales[start:end] = _rounded(chunk.reshape(len(chunk), -1))
            integers[:, start - first : end - first] = rounded.T
            errors.append(part_lengths(chunk))
            start = end
            if start - first == integers.shape[1]:
                self._blocks.append((slice(first, start), _session(integers)))
                first = start
        self.errors: Floats = np.hstack(errors)
        """Length of what rounding took away from each part, [p, n]."""
        self.parts = len(self.errors)

    def products(self, query: Floats) -> tuple[Floats, float]:
        """Return the products of a query [p, d] with all vectors, [n], and its length rounded off.

        A product is right to within that length and the query's times the vector's error.
        """
        digits, scale = _split(query.reshape(1, -1))
        products = np.empty(self.count, np.float32)
        for place, (high, low) in self._sums(digits):
            np.multiply(low, np.float32(1 / _BASE), out=products[place])
            products[place] += high
        products *= self.scales
        products *= scale[0]
        restored = (digits[0].astype(np.float32) - _ZERO) + (
            digits[1].astype(np.float32) - _ZERO
        ) / _BASE
        return products, float(np.linalg.norm(query.ravel() - restored * scale[0]))

    def part_products(self, query: Floats) -> tuple[Floats, Floats]:
        """Return the products of a query's parts with those of all vectors, [p, n].

        A query of one digit will do; the lengths of what rounding it took away come with them, [p].

        query: [p, d]
        """
        parts = len(query)
        scales = _scales(query)  # [p]
        high = np.rint(query / scales[:, None])
        digits = np.full((parts, parts, query.shape[1]), _ZERO, np.uint8)
        digits[np.arange(parts), np.arange(parts)] = high + _ZERO  # a row for each part
        products = np.empty((parts, self.count), np.float32)
        for place, sums in self._sums(digits.reshape(parts, -1)):
            np.copyto(products[:, place], sums, casting="same_kind")
        products *= self.scales
        products *= scales[:, None]
        lost: Floats = np.linalg.norm(query - high * scales[:, None], axis=1)
        return products, lost

    def _sums(self, digits: npt.NDArray[np.uint8]) -> Iterator[tuple[slice, npt.NDArray[np.int32]]]:
        """Yield the products of digits [m, p * d] with the integers of each block, [m, n]."""
        for place, session in self._blocks:
            (sums,) = session.run(None, {"queries": digits})
            yield place, sums


def part_lengths(rows: Floats) -> Floats:
    """Return the lengths of the parts of rows [n, p, d]: [p, n]."""
    return np.ascontiguousarray(np.sqrt(np.einsum("npd,npd->pn", rows, rows)), np.float32)


def _rounded(rows: Floats) -> tuple[npt.NDArray[np.int8], Floats]:
    """Return rows [n, D] as integers, and their scales [n]; the rows keep what is rounded off."""
    largest = np.maximum(rows.max(axis=1), -rows.min(axis=1))
    scales = np.maximum(largest, np.float32(1e-30)) / np.float32(127)
    rounded = rows * (1 / scales)[:, None]
    np.rint(rounded, out=rounded)
    integers = rounded.astype(np.int8)
    rounded *= scales[:, None]
    rows -= rounded
    return integers, scales


def _session(integers: npt.NDArray[np.int8]) -> ort.InferenceSession:
    """Return what multiplies queries uint8 [m, D] with a block of integers [D, n]: int32 [m, n]."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    options.add_external_initializers(["vectors"], [ort.OrtValue.ortvalue_from_numpy(integers)])
    return ort.InferenceSession(_graph(integers.shape), options, ["CPUExecutionProvider"])


def _graph(shape: tuple[int, ...]) -> bytes:
    """Return an ONNX graph with integers of a shape [D, n] that are given to its session."""
    from onnx import TensorProto, helper, numpy_helper

    dimensions, count = shape
    vectors = TensorProto(
        name="vectors",
        data_type=TensorProto.INT8,
        dims=shape,
        data_location=TensorProto.EXTERNAL,
    )
    vectors.external_data.add(key="location", value="memory")
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        [helper.make_node("MatMulInteger", ["queries", "vectors", "zero"], ["sums"])],
        "products",
        [value("queries", TensorProto.UINT8, ["m", dimensions])],
        [value("sums", TensorProto.INT32, ["m", count])],
        [vectors, numpy_helper.from_array(np.array(_ZERO, np.uint8), "zero")],
    )
    opsets = [helper.make_opsetid("", 18)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=8)
    return bytes(model.SerializeToString())


def _scales(rows: Floats) -> Floats:
    largest = np.maximum(np.abs(rows).max(axis=1), np.float32(1e-30))
    return np.asarray(largest / np.float32(_DIGIT), np.float32)


def _split(rows: Floats) -> tuple[npt.NDArray[np.uint8], Floats]:
    """Return the digits of rows [m, D] as bytes [2m, D], and their scales [m]."""
    scales = _scales(rows)
    values = rows / scales[:, None]
    high = np.rint(values)
    low = np.rint((values - high) * np.float32(_BASE))
    digits = np.stack([high, low], axis=1) + _ZERO  # [m, 2, D]
    return digits.reshape(-1, rows.shape[1]).astype(np.uint8), scales
