"""Confidence of an answer, 0..1: how often answers like it were right on held-out synthetic walks.

The model's manifest holds a logistic curve of distance, margin, windows seen and people searched
for "the nearest person is the walker". It was fitted on searches of which half were of strangers; a
name has that probability as its confidence, `unknown` the rest to 1.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from cstl_edge.errors import ModelError

FEATURES = ("one", "distance", "margin", "log_seen", "log_people")
ALONE = ("one", "distance", "log_seen")  # where one person is enrolled there is no margin


class ConfidenceCurve:
    """Probability that the nearest person is the walker."""

    def __init__(self, record: Mapping[str, Any]) -> None:
        """Read {"several": {feature: coefficient}, "alone": {…}} of a manifest (ModelError)."""
        try:
            self._several = [float(record["several"][name]) for name in FEATURES]
            self._alone = [float(record["alone"][name]) for name in ALONE]
        except (AttributeError, KeyError, TypeError, ValueError) as err:
            raise ModelError(
                f"the model's confidence curve cannot be read ({err!r}): re-export"
            ) from err
        if not all(map(math.isfinite, self._several + self._alone)):
            raise ModelError("the model's confidence curve is not finite: re-export")

    def is_nearest(self, distance: float, margin: float | None, seen: float, people: int) -> float:
        """Return the probability that the nearest person is the walker.

        Args:
            distance: To the nearest person.
            margin: Distance of the runner-up minus `distance`; None where one person is enrolled.
            seen: Windows of the walk that do not overlap.
            people: How many people were searched.
        """
        if margin is None:
            return logistic(self._alone, (1.0, distance, math.log(seen)))
        values = (1.0, distance, margin, math.log(seen), math.log(people))
        return logistic(self._several, values)


def logistic(coefficients: list[float], values: tuple[float, ...]) -> float:
    """Return 1 / (1 + exp(-sum of products))."""
    score = sum(c * v for c, v in zip(coefficients, values, strict=True))
    return 1 / (1 + math.exp(-min(max(score, -50.0), 50.0)))
