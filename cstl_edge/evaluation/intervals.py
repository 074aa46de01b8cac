"""Confidence intervals (95 %) and paired comparisons by a bootstrap over people."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cstl_edge.arrays import Doubles, Indices


def by_person(hits: Doubles, people: Indices) -> Doubles:
    """Return the mean of hits [probes, ...] over each person's, NaN left out: [people], sorted."""
    return np.array([np.nanmean(hits[people == person]) for person in np.unique(people)])


def bootstrap(by_person: Doubles, *, seed: int = 0, draws: int = 500) -> list[float]:
    """Compute the 95 % interval of the mean over people, drawn with replacement.

    Args:
        by_person: [people], one value for each person.
        seed: Seed of the resampling.
        draws: Number of resamples.
    """
    rng = np.random.default_rng(seed)
    values = [float(np.mean(rng.choice(by_person, len(by_person)))) for _ in range(draws)]
    return [round(float(v), 4) for v in np.quantile(values, [0.025, 0.975])]


@dataclass(frozen=True)
class Comparison:
    """Difference of two models on the same people."""

    difference: float  # mean of the first less that of the second
    interval_95: tuple[float, float]
    verdict: str  # `better` or `worse` is the first; `none` where the interval contains 0


def compare(a: Doubles, b: Doubles, *, seed: int = 0, draws: int = 2000) -> Comparison:
    """Compare two models by a paired bootstrap: a person is drawn with both values.

    Args:
        a: [people], each person's share of hits with the first model (`by_person`).
        b: [people], the same people in the same order, with the second model.
        seed: Seed of the resampling.
        draws: Number of resamples.

    Raises:
        ValueError: The people differ, or there are fewer than two.
    """
    first, second = np.asarray(a, np.float64), np.asarray(b, np.float64)
    if first.shape != second.shape or first.ndim != 1 or len(first) < 2:
        raise ValueError(
            f"expected figures of the same people, 2 at least; got {first.shape} and {second.shape}"
        )
    gain = first - second
    means = drawn_people(len(gain), seed, draws) @ gain / len(gain)
    low, high = (float(q) for q in np.quantile(means, [0.025, 0.975]))
    verdict = "better" if low > 0 else "worse" if high < 0 else "none"
    return Comparison(float(gain.mean()), (low, high), verdict)


def drawn_people(people: int, seed: int, draws: int) -> Doubles:
    """Draw as many people with replacement; return how often each is drawn: [draws, people].

    Args:
        people: Number of people.
        seed: Seed of the resampling.
        draws: Number of resamples.
    """
    counts = np.random.default_rng(seed).multinomial(people, [1 / people] * people, size=draws)
    return counts.astype(np.float64)
