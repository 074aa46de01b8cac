"""Validate a backend's outputs against a reference while timing it.

A backend whose outputs are wrong reports no timings. Letters: n sequences, p parts, c channels.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from cstl_edge.arrays import Array
from cstl_edge.bench.record import Check
from cstl_edge.numerics import (
    TOLERANCES,
    Tolerance,
    allowed_error,
    cosine_per_part,
    count_flips,
    largest_error,
)

SALIENT, SCORES = "salient_frames", "scores"
LIMITS = TOLERANCES["bench"]  # by precision of the graph


@dataclass
class OutputCheck:
    """Comparison of one backend's outputs so far with a reference."""

    name: str  # of the reference
    reference: Mapping[str, Array]
    """`features` [.., p, c], or `embedding` [n, p, d] and `salient_frames` [n, p]; perhaps the
    `scores` [n, p, s] behind these."""
    limits: Tolerance
    cosine: float = 1.0  # smallest of all parts whose frame is the reference's
    cosine_of_all: float = 1.0  # smallest of all parts, those from another frame too
    max_abs: float = 0.0
    other_frames: int = 0
    """Most parts of one output that came from another frame than the reference's."""
    all_other_frames: int = 0  # parts of all outputs that did
    ties: int = 0  # those of them whose two frames tie in the reference's scores
    count: int = 0  # outputs compared

    def add(self, outputs: Mapping[str, Array]) -> None:
        """Compare one more output with the reference; values that are no numbers count as wrong."""
        self.count += 1
        limits = self.limits
        expected, actual = self._expected, outputs[self._key]
        if expected.shape != actual.shape:
            self.cosine = -1.0
            return
        same = np.ones(expected.shape[:-1], np.bool_)
        if SALIENT in self.reference:
            same = self.reference[SALIENT] == outputs[SALIENT]  # [n, p]
            flips = int((~same).sum())
            self.other_frames = max(self.other_frames, flips)
            self.all_other_frames += flips
            if flips and SCORES in self.reference:
                frames, scores = self.reference[SALIENT], self.reference[SCORES]
                self.ties += count_flips(frames, outputs[SALIENT], scores, limits.tie).ties
        cosine = cosine_per_part(expected, actual)
        self.cosine = _least(self.cosine, float(np.where(same, cosine, 1.0).min()))
        self.cosine_of_all = _least(self.cosine_of_all, float(cosine.min()))
        error = largest_error(expected, actual, same)
        self.max_abs = max(self.max_abs, error) if np.isfinite(error) else self.max_abs

    @property
    def ok(self) -> bool:
        """Tell whether every output was within the limits.

        Another frame that holds the same is no error, however many parts are taken from one.
        """
        limits, parts = self.limits, int(np.prod(self._expected.shape[:-1]))
        few_flips = self.all_other_frames - self.ties <= limits.flips * parts * self.count
        allowed = allowed_error(limits.relative, float(np.abs(self._expected).max()))
        return bool(
            self.cosine >= limits.cosine
            and self.max_abs <= allowed
            and (few_flips or self.cosine_of_all >= limits.cosine)
        )

    @property
    def problem(self) -> str:
        """Say how wrong the outputs are."""
        return (
            f"answers wrongly: cosine {self.cosine:.6f}, off by {self.max_abs:.3g}, "
            f"{self.all_other_frames} parts of {self.count} answers from another frame, "
            f"{self.ties} of them ties"
        )

    @property
    def check(self) -> Check:
        """Return the entry of a row of results."""
        reference = f"{self.name}, {self.count} answers"
        if self.other_frames:
            reference += f", {self.all_other_frames} parts from another frame left out"
        if self.ties:
            reference += f", {self.ties} of them ties"
        return Check(reference=reference, cosine=self.cosine, max_abs=self.max_abs, ok=self.ok)

    @property
    def _key(self) -> str:
        return "features" if "features" in self.reference else "embedding"

    @property
    def _expected(self) -> Array:
        return self.reference[self._key]


def _least(so_far: float, cosine: float) -> float:
    """Return the smaller cosine, -1 where the new one is no number."""
    return min(so_far, cosine) if np.isfinite(cosine) else -1.0
