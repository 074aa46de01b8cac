"""People of a camera as their mean embedding and their number.

Letters: p parts, d embedding dimensions.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from cstl_edge.arrays import Doubles, Floats
from cstl_edge.gallery.index import TemplateIndex
from cstl_edge.gallery.large_index import LargeIndex

LEAST_APART = 3  # people of either crowd, before they can be apart


@dataclass(frozen=True)
class Crowd:
    """Mean embedding of some people, and how many they are."""

    people: float
    mean: Doubles  # [p, d]

    def joined(self, other: Crowd | None) -> Crowd:
        """Return both crowds as one."""
        if other is None:
            return self
        people = self.people + other.people
        return Crowd(people, (self.people * self.mean + other.people * other.mean) / people)


def crowds(people: Mapping[str, list[Doubles]]) -> dict[str, Crowd]:
    """Return the people of each camera as a crowd, from their mean embeddings [p, d]."""
    return {camera: Crowd(len(x), np.mean(x, axis=0)) for camera, x in people.items()}


def means_of_people(index: TemplateIndex) -> dict[str, list[Doubles]]:
    """Return the mean embeddings [p, d] of the people enrolled from each camera."""
    if not index.names:
        return {}
    if isinstance(index, LargeIndex):
        return index.sample_by_camera()
    walk_means = index.mean_of_walks()  # [p, d, walks]
    person_of = np.searchsorted(index.starts, index.walk_starts, side="right") - 1
    by_person: dict[tuple[str, int], list[Floats]] = {}
    for walk, (camera, person) in enumerate(zip(index.cameras, person_of.tolist(), strict=True)):
        by_person.setdefault((camera, person), []).append(walk_means[:, :, walk])
    people: dict[str, list[Doubles]] = {}
    for (camera, _), means in by_person.items():
        people.setdefault(camera, []).append(np.mean(means, axis=0, dtype=np.float64))
    return people


def spread(means: list[Doubles] | None) -> float:
    """Return the mean squared distance of people's embeddings [p, d] from their mean."""
    if means is None or len(means) < LEAST_APART:
        return 0.0
    rows = np.stack(means)  # [people, p, d]
    deviations = np.square(rows - rows.mean(axis=0)).sum(axis=(1, 2))
    return float(deviations.sum() / (len(rows) - 1))
