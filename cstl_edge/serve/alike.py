"""How alike two walks are: one distance and four limits of it, from the model's impostor table.

The table says below which distance a stranger's walk falls with a given probability. Joining asks
for a distance at which a stranger is rare; parting only for one at which most strangers are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from cstl_edge.arrays import Floats
from cstl_edge.gallery.gallery import Gallery
from cstl_edge.gallery.match import SeenWalk
from cstl_edge.gallery.thresholds import ImpostorTable
from cstl_edge.runtime.base import EncoderInfo

REJOIN_FPIR = 0.003  # two stays on one camera, a moment apart
JOURNEY_FPIR = 0.003  # visits on two cameras
CLUSTER_FPIR = 0.001  # visits of an unknown, days apart: errs to splitting
PART_FPIR = 0.03  # beyond this distance a stitch by place and colour is undone
LEAST_PEOPLE = 3  # in a camera's mean, before walks of two cameras are compared without names
WITHOUT_TABLE = 0.5  # share of the distance of unrelated walks, where a model ships no table


@dataclass(frozen=True)
class PlacedWalk:
    """A walk and the camera that saw it."""

    walk: SeenWalk
    camera: str


class WalkMeasure:
    """Distances between walks under the model and the cameras' means of a gallery."""

    def __init__(self, gallery: Gallery, info: EncoderInfo) -> None:
        """Read the model's table, if it ships one."""
        self._gallery, self._distance = gallery, info.distance
        self._sha256 = info.weights_sha256
        self._table = ImpostorTable(info.impostors) if info.impostors else None

    def knows(self, camera: str) -> bool:
        """Tell whether a camera has seen enough people for its mean; before, all look alike."""
        if self._distance.name == "euclidean":
            return True
        mean = self._gallery.camera_means.load(camera, self._sha256)
        return mean is not None and mean.people >= LEAST_PEOPLE

    def between(self, a: PlacedWalk, b: PlacedWalk) -> float:
        """Return the distance of two walks."""
        ours, theirs = self.project(a), self.project(b)
        return float(self._distance.between(ours, theirs)[0, 0])

    def to_all(self, walk: PlacedWalk, others: Sequence[PlacedWalk]) -> Floats:
        """Return the distances of a walk to others, [n], projected camera by camera."""
        ours = self.project(walk)  # [1, r, d]
        rows = np.empty((len(others), *ours.shape[1:]), np.float32)
        for camera in {other.camera for other in others}:
            chosen = [i for i, other in enumerate(others) if other.camera == camera]
            means = np.stack([others[i].walk.mean for i in chosen])
            rows[chosen] = self._gallery.project(means, camera)
        return np.asarray(self._distance.between(ours, rows)[0], np.float32)

    def project(self, walk: PlacedWalk) -> Floats:
        """Return a walk in the form in which walks are compared, [1, p, d]."""
        return self._gallery.project(walk.walk.mean[None], walk.camera)

    def pairwise(self, walks: list[Floats]) -> Floats:
        """Return the distances between projected walks [1, p, d] of each: [n, n]."""
        rows = np.concatenate(walks)
        return self._distance.between(rows, rows)

    def limit(self, fpir: float, seen: float, people: int = 1) -> float:
        """Return the distance below which a stranger falls with a probability.

        Args:
            fpir: The probability, 0..1.
            seen: Windows of the shorter walk that do not overlap.
            people: Walks that one is compared with.
        """
        if self._table is None:
            return WITHOUT_TABLE
        return self._table.value(people, fpir, 1, max(1.0, seen))

    def are_alike(self, a: PlacedWalk, b: PlacedWalk, fpir: float, people: int = 1) -> bool:
        """Tell whether two walks are nearer than a stranger's would be with a probability.

        Args:
            a: One walk.
            b: The other.
            fpir: The probability, 0..1.
            people: Walks that one is compared with.
        """
        seen = min(a.walk.seen, b.walk.seen)
        return self.between(a, b) < self.limit(fpir, seen, people)
