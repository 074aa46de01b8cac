"""Whether a backend answers rightly while it is measured: what answers wrongly has no time.

The tolerances are the exporter's own (`export.verify.TOLERANCE`, `export.judge.Limits`), which
cannot be imported where there is no torch. Letters: n sequences, p parts, c channels.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from cstl_edge.bench.record import Check

SALIENT = "salient_frames"
TINY = 1e-12


class Limits(NamedTuple):
    """How far an answer may be from float32's."""

    cosine: float
    """Smallest of a part, where both chose the same frame."""
    relative: float | None
    """Largest error, in the largest value of the reference where that is above 1."""
    other_frames: float
    """Share of the parts of all answers that may come from another frame: where scores are tied,
    rounding decides. Rounded to 8 bits of a mantissa 2 of 16 parts did so on one walk, to 11 bits
    1; in int8, of a walk in all its rotations, 5 in one of them."""


LIMITS = {
    "float32": Limits(cosine=0.9999, relative=1e-4, other_frames=0.02),
    "tfloat32": Limits(cosine=0.999, relative=None, other_frames=0.25),
    "float16": Limits(cosine=0.999, relative=None, other_frames=0.25),
    "bfloat16": Limits(cosine=0.99, relative=None, other_frames=0.25),
    "int8": Limits(cosine=0.95, relative=None, other_frames=0.25),
}
"""By precision of the graph. The cosine tells a wrong answer from a rounded one, whose cost in
recognition the scenario `accuracy` measures."""


@dataclass
class Agreement:
    """What one contender answered so far, beside a reference."""

    name: str
    """Of the reference."""
    reference: Mapping[str, npt.NDArray[Any]]
    limits: Limits
    cosine: float = 1.0
    cosine_of_all: float = 1.0
    """Smallest of all parts, those from another frame too."""
    max_abs: float = 0.0
    other_frames: int = 0
    """Most parts of one answer that came from another frame than the reference's."""
    all_other_frames: int = 0
    """Parts of all answers that did."""
    looked_at: int = 0

    def look(self, outputs: Mapping[str, npt.NDArray[Any]]) -> None:
        """Take in one answer: `features` [.., p, c], or `embedding` and `salient_frames`."""
        self.looked_at += 1
        key = "features" if "features" in self.reference else "embedding"
        expected, found = self.reference[key], outputs[key]
        if expected.shape != found.shape:
            self.cosine = -1.0
            return
        same = np.ones(expected.shape[:-1], np.bool_)
        if SALIENT in self.reference:
            same = self.reference[SALIENT] == outputs[SALIENT]  # [n, p]
            differ = int((~same).sum())
            self.other_frames = max(self.other_frames, differ)
            self.all_other_frames += differ
        lengths = np.linalg.norm(expected, axis=-1) * np.linalg.norm(found, axis=-1)
        with np.errstate(invalid="ignore"):  # what is no number is a wrong answer below
            cosine = (expected * found).sum(-1) / np.maximum(lengths, TINY)
        cosine[(expected == found).all(-1)] = 1.0  # also a part without a pixel, which is zero
        smallest = float(np.where(same, cosine, 1.0).min())
        of_all = float(cosine.min())
        self.cosine_of_all = min(self.cosine_of_all, of_all) if np.isfinite(of_all) else -1.0
        largest = float(np.abs(expected - found)[same].max(initial=0.0))
        self.cosine = min(self.cosine, smallest) if np.isfinite(smallest) else -1.0
        self.max_abs = max(self.max_abs, largest) if np.isfinite(largest) else self.max_abs

    @property
    def ok(self) -> bool:
        """Tell whether every answer was within the limits.

        Another frame that says the same is no error, however many parts are taken from one.
        """
        key = "features" if "features" in self.reference else "embedding"
        expected = self.reference[key]
        allowed = np.inf
        if self.limits.relative is not None:
            allowed = self.limits.relative * max(1.0, float(np.abs(expected).max()))
        parts = int(np.prod(expected.shape[:-1]))
        return bool(
            self.cosine >= self.limits.cosine
            and self.max_abs <= allowed
            and (
                self.all_other_frames <= self.limits.other_frames * parts * self.looked_at
                or self.cosine_of_all >= self.limits.cosine
            )
        )

    @property
    def wrong(self) -> str:
        """Say how wrong the answers are."""
        return (
            f"answers wrongly: cosine {self.cosine:.6f}, off by {self.max_abs:.3g}, "
            f"{self.all_other_frames} parts of {self.looked_at} answers from another frame"
        )

    @property
    def check(self) -> Check:
        """Return what stands in a row."""
        reference = f"{self.name}, {self.looked_at} answers"
        if self.other_frames:
            reference += f", {self.all_other_frames} parts from another frame left out"
        return Check(reference=reference, cosine=self.cosine, max_abs=self.max_abs, ok=self.ok)
