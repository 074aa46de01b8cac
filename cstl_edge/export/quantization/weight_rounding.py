"""Choose INT8 weights by their outputs: refitted to quantised inputs, rounded one after the other.

Rounding activations is no mere noise: what is beyond a limit is cut off, and the hundredth that
Leaky ReLU leaves below zero is less than a step. So `refit_weights` gives every convolution in turn
the weights whose outputs, from the outputs of the quantised layers before it, are nearest to
float32's: least squares over the calibration silhouettes. `round_weights` then rounds one weight
after the other, and the weights of the same output that are not yet rounded make good for each
error (GPTQ, Frantar et al. 2022).

Letters: m frames, c channels, o outputs, k = 9 c weights of an output, i pixels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import numpy_helper

from cstl_edge.arrays import Doubles, Floats
from cstl_edge.export.quantization.int8_trunk import (
    WEIGHT_LEVELS,
    Steps,
    channel_scales,
    convolutions,
    quantise,
)
from cstl_edge.export.quantization.tensor_ranges import run_exposed

PIXELS = 500  # looked at in each walk: they are many, and alike
PULL = 0.01  # towards the float32 weights, as a share of the mean square of an input
SEED = 20217


def refit_weights(
    model: onnx.ModelProto, limits: Mapping[str, float], feeds: Sequence[dict[str, Any]]
) -> dict[str, Steps]:
    """Return the weights of all convolutions of a float32 `frames` graph as int8, by name.

    Args:
        model: the graph.
        limits: largest activations by tensor, as for `int8_trunk.quantise`.
        feeds: the calibration silhouettes as inputs of the graph.
    """
    tensors = {tensor.name: tensor for tensor in model.graph.initializer}
    chosen: dict[str, Steps] = {}
    for place, conv in enumerate(convolutions(model.graph)):
        quantised = quantise(model, limits, chosen)  # final up to this convolution
        inputs = conv.input[0], convolutions(quantised.graph)[place].input[0]
        square, mixed = _moments(model, quantised, inputs, feeds)
        values = numpy_helper.to_array(tensors[conv.input[1]])  # [o, c, 3, 3]
        flat = values.reshape(len(values), -1).astype(np.float64)  # [o, k]
        pull = PULL * np.trace(square) / len(square) * np.eye(len(square))
        wanted = np.linalg.solve(square + pull, (mixed + pull) @ flat.T).T  # [o, k]
        shaped = wanted.reshape(values.shape).astype(np.float32)
        scale = channel_scales(shaped)
        steps = round_weights(wanted / scale[:, None], square + pull)
        chosen[conv.input[1]] = Steps(steps.reshape(values.shape), scale)
    return chosen


def _moments(
    model: onnx.ModelProto,
    quantised: onnx.ModelProto,
    inputs: tuple[str, str],
    feeds: Sequence[dict[str, Any]],
) -> tuple[Doubles, Doubles]:
    """Return Z'Z and Z'F [k, k] of a convolution's patches, quantised Z and float32 F [i, k].

    inputs: the convolution's input tensor in `model`, and in `quantised`
    """
    rng = np.random.default_rng(SEED)
    plain, rounded = inputs
    square: Doubles | float = 0.0
    mixed: Doubles | float = 0.0
    runs = zip(
        run_exposed(model, [plain], feeds), run_exposed(quantised, [rounded], feeds), strict=True
    )
    for before, after in runs:
        m, _, h, w = before[plain].shape
        where = tuple(rng.integers(0, size, PIXELS) for size in (m, h, w))
        f, z = _patches(before[plain], where), _patches(after[rounded], where)
        square, mixed = square + z.T @ z, mixed + z.T @ f
    return np.asarray(square), np.asarray(mixed)


def _patches(maps: Floats, where: tuple[npt.NDArray[np.int64], ...]) -> Doubles:
    """Return a 3x3 convolution's inputs (padding 1) at pixels of maps [m, c, h, w]: [i, k]."""
    padded = np.pad(maps, ((0, 0), (0, 0), (1, 1), (1, 1)))
    frames, rows, columns = where
    taps = [padded[frames, :, rows + y, columns + x] for y in range(3) for x in range(3)]
    return np.stack(taps, axis=2).reshape(len(frames), -1).astype(np.float64)  # [i, c, 9] as [i, k]


def round_weights(wanted: Doubles, square: Doubles) -> npt.NDArray[np.int8]:
    """Round weights [o, k], in steps, so that their outputs change least; square: [k, k] of inputs.

    Weights of the largest inputs are rounded first, while most others can still make good for them.
    """
    order = np.argsort(-np.diag(square), kind="stable")
    left = wanted[:, order].copy()
    upper = np.linalg.cholesky(np.linalg.inv(square[np.ix_(order, order)])).T
    steps = np.zeros(wanted.shape, np.int8)
    for k, column in enumerate(order):
        nearest = np.clip(np.rint(left[:, k]), -WEIGHT_LEVELS, WEIGHT_LEVELS)
        steps[:, column] = nearest
        error = (left[:, k] - nearest) / upper[k, k]
        left[:, k + 1 :] -= np.outer(error, upper[k, k + 1 :])
    return steps
