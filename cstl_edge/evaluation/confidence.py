"""Fit of a model's confidence curve, and its reliability on other people.

The curve (`gallery.confidence`) is a logistic regression for "the nearest person is the walker" on
simulated searches: galleries of 1 to 20 people, enrolled from 1 or 4 walks, one to all windows
seen, half of the searches by strangers. Reliability compares it with what happened on people who
were not in the fit, in ten bins of confidence.
"""

from __future__ import annotations

from itertools import product
from typing import TypedDict

import numpy as np

from cstl_edge.arrays import Bools, Doubles, Indices
from cstl_edge.evaluation.impostors import SIZES, WalkDistances, WalkSearches
from cstl_edge.gallery.confidence import ALONE, FEATURES

WALKS = (1, 4)
DRAWS = 2000  # of each kind of search, mated and not
BINS = 10
STEPS = 30  # of Newton's method
RIDGE = 1e-3


class ReliabilityBin(TypedDict):
    """Searches of about the same confidence."""

    searches: int
    confidence: float  # their mean
    right: float  # share of them in which the nearest person was the walker


class ConfidenceRecord(TypedDict):
    """Curve and reliability, as a manifest stores them."""

    several: dict[str, float]
    alone: dict[str, float]
    reliability: list[ReliabilityBin]
    data: str  # what the curve says, and on whom it was fitted and judged


def fit_confidence(
    distances: WalkDistances, people: Indices, data: str, *, seed: int = 0
) -> ConfidenceRecord:
    """Fit the curve on one half of the people and judge it on the other.

    Args:
        distances: As `impostors.walk_distances` returns them.
        people: [m], who walks.
        data: Description of the people.
        seed: Seed of the searches.
    """
    ids = np.unique(people)
    halves = [np.isin(people, ids[half::2]) for half in (0, 1)]
    fit, judged = (
        _searches(distances.among(rows), people[rows], seed + half)
        for half, rows in enumerate(halves)
    )
    several = _logistic_fit(*fit["several"])
    alone = _logistic_fit(*fit["alone"])
    curves = {"several": several, "alone": alone}
    values = [_probability(judged[name][0], curve) for name, curve in curves.items()]
    right = np.concatenate([y for _, y in judged.values()])
    return {
        "several": {name: round(float(c), 5) for name, c in zip(FEATURES, several, strict=True)},
        "alone": {name: round(float(c), 5) for name, c in zip(ALONE, alone, strict=True)},
        "reliability": reliability(np.concatenate(values), right),
        "data": f"nearest person is the walker, half of the searches by strangers; {data}, fitted "
        f"on every other person ({len(ids[::2])}), judged on the rest ({len(ids[1::2])})",
    }


def reliability(confidence: Doubles, right: Bools) -> list[ReliabilityBin]:
    """Compare confidences [n] with what was right [n], in bins of equal width that hold any."""
    bins = np.minimum((confidence * BINS).astype(int), BINS - 1)
    return [
        {
            "searches": int((bins == b).sum()),
            "confidence": round(float(confidence[bins == b].mean()), 4),
            "right": round(float(right[bins == b].mean()), 4),
        }
        for b in np.unique(bins)
    ]


def _searches(
    distances: WalkDistances, people: Indices, seed: int
) -> dict[str, tuple[Doubles, Bools]]:
    """Simulate searches; returns by curve features [n, f] and whether the nearest was right [n]."""
    searches = WalkSearches(distances, people, seed)
    sizes = [size for size in SIZES if size < searches.people]
    rows: dict[str, list[Doubles]] = {"several": [], "alone": []}
    right: dict[str, list[Bools]] = {"several": [], "alone": []}
    windows = range(1, len(distances.nearest) + 1)
    for size, walks, seen, mated in product(sizes, WALKS, windows, (False, True)):
        found = searches.draw(seen, walks, size, DRAWS, mated=mated)
        found = found[np.isfinite(found).all(axis=1)]
        best = np.sort(found, axis=1).astype(np.float64)
        one, log_seen = np.ones(len(found)), np.full(len(found), np.log(seen))
        if size == 1:
            curve, columns = "alone", [one, best[:, 0], log_seen]
        else:
            log_people = np.full(len(found), np.log(size))
            margin = best[:, 1] - best[:, 0]
            curve, columns = "several", [one, best[:, 0], margin, log_seen, log_people]
        rows[curve].append(np.stack(columns, axis=1))
        right[curve].append((found.argmin(axis=1) == 0) & mated)
    return {name: (np.concatenate(rows[name]), np.concatenate(right[name])) for name in rows}


def _logistic_fit(features: Doubles, right: Bools) -> Doubles:
    """Return the coefficients of a logistic regression with a slight ridge: [f]."""
    coefficients = np.zeros(features.shape[1])
    penalty = RIDGE * np.eye(len(coefficients))
    for _ in range(STEPS):
        p = _probability(features, coefficients)
        gradient = features.T @ (right - p) - penalty @ coefficients
        curvature = (features * (p * (1 - p))[:, None]).T @ features + penalty
        coefficients = coefficients + np.linalg.solve(curvature, gradient)
    return coefficients


def _probability(features: Doubles, coefficients: Doubles) -> Doubles:
    scores = np.clip(features @ coefficients, -50, 50)
    return np.asarray(1 / (1 + np.exp(-scores)), np.float64)
