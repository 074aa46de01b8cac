"""Compare arrays of two computations: cosines, largest errors, frame flips; and what is tolerated.

The exporter's checks (`export.checks`, `export.simplify`, `export.tensorrt.checks`) and the
benchmark suite's (`bench.output_check`) all use these functions and this one table. They need
NumPy alone, because the suite runs where there is no torch.

Letters: n sequences, s frames, p parts, d embedding dimensions.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from cstl_edge.arrays import Bools, Floats, Ints, Silhouettes

TINY = 1e-12  # keeps the cosine of a zero vector finite


@dataclass(frozen=True)
class Tolerance:
    """How far a computation may be from its reference."""

    cosine: float = -1.0  # smallest cosine of a part's vector, where both chose the same frame
    relative: float = math.inf
    """Largest error, as a share of the reference's largest value where that is above 1."""
    flips: float = 0.0  # share of the salient frames that may differ
    tie: float = 0.0
    """Two scores tie when they are nearer than this share of the sequence's largest; flips between
    tied scores are free. 0 where there are no scores to look at, so that every flip counts."""


TOLERANCES: dict[str, dict[str, Tolerance]] = {
    # An exported graph against PyTorch: both round to float32, in another order.
    "parity": {"float32": Tolerance(relative=1e-4, tie=1e-4)},
    # A simplified graph against the traced one: a simplifier reorders, it must not round.
    "simplify": {"float32": Tolerance(relative=1e-5)},
    # A reduced precision against float32, beside what it may cost in recognition. The tie is the
    # rounding of a score: 11 bits of a mantissa after a few layers, 8 bits of an activation.
    "gate": {
        "fp16": Tolerance(cosine=0.999, flips=0.01, tie=2**-8),
        "int8": Tolerance(cosine=0.95, flips=0.05, tie=2**-4),
    },
    # A TensorRT engine against ONNX Runtime's float32, on random blocks: near-ties fall either way
    # after rounding, and an engine reports no scores. What int8 may cost is the gate's question.
    "engine": {
        "float32": Tolerance(cosine=0.99999),
        "fp16": Tolerance(cosine=0.999, flips=0.05),
        "int8": Tolerance(cosine=0.98, flips=0.2),
    },
    # A backend under test against the reference backend, on one walk. Rounded to 8 bits of a
    # mantissa 2 of 16 parts came from another frame, to 11 bits 1. In int8 a walk of 30 frames
    # shows nearly the same stride twice: of 240 walks (weights b9f293abfbc6) 13 % of the frames
    # were others by a tie, which is free where the reference's scores are known, and without a tie
    # 2.6 %, 12.5 % of a walk's at the 99th percentile, 19 % at most. The cosine tells a wrong
    # output from a rounded one, whose cost in recognition the scenario `accuracy` measures.
    "bench": {
        "float32": Tolerance(cosine=0.9999, relative=1e-4, flips=0.02),
        "tfloat32": Tolerance(cosine=0.999, flips=0.25),
        "float16": Tolerance(cosine=0.999, flips=0.25),
        "bfloat16": Tolerance(cosine=0.99, flips=0.25),
        "int8": Tolerance(cosine=0.95, flips=0.25, tie=2**-4),
    },
}
"""By check and by precision of what is checked."""


@dataclass
class Flips:
    """Salient frames that differ, counted over all sequences and parts compared."""

    compared: int = 0
    wrong: int = 0
    ties: int = 0  # those that differ where the two scores tie; all others that differ are wrong

    def __add__(self, other: Flips) -> Flips:
        """Return the counts of both."""
        sums = (self.compared + other.compared, self.wrong + other.wrong, self.ties + other.ties)
        return Flips(*sums)


def random_blocks(rng: np.random.Generator, n: int, s: int, size: tuple[int, int]) -> Silhouettes:
    """Return silhouettes [n, s, h, w] to compare on: blocks of 4x4 pixels, each black or white.

    Args:
        rng: Source of the blocks.
        n: Number of sequences.
        s: Number of frames.
        size: Height and width of a silhouette, pixels.
    """
    height, width = size
    coarse = rng.integers(0, 2, (n, s, -(-height // 4), -(-width // 4)), dtype=np.uint8)
    fine = coarse.repeat(4, 2).repeat(4, 3)[:, :, :height, :width] * np.uint8(255)
    return np.ascontiguousarray(fine)


def cosine_per_part(expected: Floats, actual: Floats, *, equal_is_one: bool = True) -> Floats:
    """Return the cosine of each pair of vectors; NaN where one of them holds no number.

    Args:
        expected: Vectors of the reference [.., d].
        actual: Vectors under test [.., d].
        equal_is_one: Equal vectors have a cosine of exactly 1, and so two zero vectors, which
            a part without a pixel has. The records of engines hold the plain quotient, in which
            two zero vectors count 0.
    """
    lengths = np.linalg.norm(expected, axis=-1) * np.linalg.norm(actual, axis=-1)
    with np.errstate(invalid="ignore"):
        cosine: Floats = (expected * actual).sum(-1) / np.maximum(lengths, TINY)
    if equal_is_one:
        cosine[(expected == actual).all(-1)] = 1.0
    return cosine


def largest_error(expected: Floats, actual: Floats, same: Bools | None = None) -> float:
    """Return the largest absolute difference; NaN if there is one, 0 of nothing.

    Args:
        expected: Values of the reference.
        actual: Values under test, of the same shape.
        same: Mask of the leading axes to compare, e.g. the parts [n, p] whose salient frame is the
            same on both sides: a part that came from another frame holds other numbers by right.
    """
    error = np.abs(expected - actual)
    return float((error if same is None else error[same]).max(initial=0.0))


def allowed_error(relative: float, largest: float) -> float:
    """Return the largest error that `Tolerance.relative` allows beside values up to `largest`."""
    return relative * max(1.0, largest)


def count_flips(
    expected: Ints, actual: Ints, scores: Floats, tie: float, *, floor: float = 0.0
) -> Flips:
    """Count the salient frames that differ, those between tied scores apart.

    Args:
        expected: Frames of the reference [n, p].
        actual: Frames under test [n, p].
        scores: Logits of Eq. 6 of the reference [n, p, s].
        tie: Share as in `Tolerance.tie`.
        floor: Least size that the largest score counts as. Parity takes 1, because float32
            rounds sums of numbers near 1; the accuracy gate takes 0, because fp16 and int8 round
            in proportion to the score.
    """
    flips = Flips(compared=int(actual.size))
    for i, part in zip(*np.nonzero(expected != actual), strict=True):
        line = scores[i, part]  # [s]
        gap = abs(float(line[expected[i, part]] - line[actual[i, part]]))
        largest = float(np.abs(line).max())
        if gap <= tie * (max(floor, largest) if floor else largest):
            flips.ties += 1
        else:
            flips.wrong += 1
    return flips
