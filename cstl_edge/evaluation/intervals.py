"""What chance does to a figure: 95 % intervals by a bootstrap over people."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt


def by_person(
    hits: npt.NDArray[np.float64], people: npt.NDArray[np.int64]
) -> npt.NDArray[np.float64]:
    """Return the mean of hits [probes, ...] over each person's, NaN left out: [people], sorted."""
    return np.array([np.nanmean(hits[people == person]) for person in np.unique(people)])


def bootstrap(
    by_person: npt.NDArray[np.float64],
    statistic: Callable[[npt.NDArray[np.float64]], float] = lambda x: float(np.mean(x)),
    *,
    seed: int = 0,
    draws: int = 500,
) -> list[float]:
    """Return the 95 % interval of a statistic over people, who are drawn with replacement."""
    rng = np.random.default_rng(seed)
    values = [statistic(rng.choice(by_person, len(by_person))) for _ in range(draws)]
    return [round(float(v), 4) for v in np.quantile(values, [0.025, 0.975])]
