"""Matching statistics of a model from synthetic people: distance, thresholds, confidence.

One set of Walkers gives the mean of all and the spread within people, by which `cosine` centres and
whitens (`distance`); another the impostor table and the confidence curve.
Neither is trained on. Letters: m walks, k windows of each that do not overlap, s frames, p parts, d
embedding dimensions.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from tempfile import TemporaryDirectory
from typing import Any, Literal

import numpy as np

from cstl_edge.arrays import Floats, Indices, Silhouettes
from cstl_edge.data.shards import ShardedSequences
from cstl_edge.data.walkers_dataset import WalkersSettings, make_shards
from cstl_edge.distance import SHRINKAGE, Distance, DistanceName, weights_with_joint, whitening_of
from cstl_edge.errors import ExportError
from cstl_edge.evaluation.confidence import ConfidenceRecord, fit_confidence
from cstl_edge.evaluation.impostors import DRAWS, ImpostorRecord, WalkSearches, impostor_table
from cstl_edge.evaluation.impostors import walk_distances as distances_between
from cstl_edge.export.joint import JointProjection
from cstl_edge.gallery.fusion import FUSED_WALKS
from cstl_edge.runtime.base import usable_cores
from cstl_edge.runtime.manifest import Matching
from cstl_edge.runtime.matching_file import matching_bytes

WINDOW = 30  # frames


@dataclass(frozen=True)
class WalkersPlan:
    """People to make and their walks: recordings by condition, seen from views [degrees] each."""

    first: int  # id
    people: int
    windows: int  # of each walk
    walks: tuple[tuple[dict[str, int], tuple[int, ...]], ...]
    generator: Literal[1, 2] = 1

    def __str__(self) -> str:
        """Return the description for a manifest."""
        last, frames = self.first + self.people - 1, self.windows * WINDOW
        each = sum(sum(kinds.values()) * len(views) for kinds, views in self.walks)
        second = " of the second generator" if self.generator == 2 else ""
        return f"Walkers {self.first} to {last}{second}, {each} walks of {frames} frames each"


# The live path mirrors walks to the left, so half of a circle is enough.
SPREAD = WalkersPlan(950_000, 60, 1, (({"nm": 2}, (0, 30, 60, 90, 120, 150, 180)),), 2)
"""840 walks for the mean and the whitening: the spread within one outfit whitens best."""
IMPOSTORS = WalkersPlan(920_000, 50, 3, (({"nm": 1, "bg": 1, "cl": 1}, (0, 36, 72, 108, 144)),), 2)
"""750 walks, in other clothes each, for thresholds and confidence."""


@dataclass(frozen=True)
class MatchingStatistics:
    """What an exported folder holds about matching."""

    distance: Distance
    record: Matching
    file: bytes | None  # `matching.npz`
    impostors: ImpostorRecord
    confidence: ConfidenceRecord


def measure_matching(
    name: DistanceName,
    embed: Callable[[Silhouettes], Floats],
    size: tuple[int, int],
    progress: Callable[[str], None],
    *,
    joint: JointProjection | None = None,
    spread: WalkersPlan = SPREAD,
    impostors: WalkersPlan = IMPOSTORS,
    draws: int = DRAWS,
) -> MatchingStatistics:
    """Measure what matching with a model needs.

    Args:
        name: The distance.
        embed: Function of windows [n, s, h, w] that returns embeddings [n, p, d].
        size: Height and width of a silhouette, pixels.
        progress: Called with the next step.
        joint: Projection from all parts to one more row; `cosine` only.
        spread: People whose mean and spread centre and whiten.
        impostors: Other people, for thresholds and confidence.
        draws: Searches for each threshold.

    Raises:
        ExportError: Walkers are not made in this size, or an embedding is not finite.
    """
    distance, file, data = Distance(), None, dict[str, Any]()
    if name == "cosine":
        progress(f"matching: the spread within {spread.people} synthetic people")
        windows, people = _embedded(spread, embed, size)  # [m, 1, p, d]
        distance = _distance_of(windows[:, 0], people, joint)
        file = matching_bytes(distance)
        data = {"spread": str(spread), "shrinkage": SHRINKAGE}
        data |= {"joint": dict(joint.data)} if joint else {}
    progress(f"matching: thresholds of {impostors.people} others")
    windows, people = _embedded(impostors, embed, size)
    between = distances_between(windows, distance)
    described = f"{impostors}, {distance.name} under their own mean"
    record = Matching(
        distance=name,
        joint=distance.joint is not None,
        fused_walks=distance.fused_walks,
        weights=None if distance.weights is None else tuple(distance.weights.tolist()),
        file="matching.npz" if file else None,
        sha256=hashlib.sha256(file).hexdigest() if file else None,
        data=data,
    )
    table = impostor_table(WalkSearches(between, people, seed=0), draws=draws)
    curve = fit_confidence(between, people, described)
    return MatchingStatistics(distance, record, file, {**table, "data": described}, curve)


def _distance_of(embeddings: Floats, people: Indices, joint: JointProjection | None) -> Distance:
    """Return `cosine` with its statistics, as float16 has them.

    Args:
        embeddings: [m, p, d].
        people: [m], who walks.
        joint: Projection to one more row.
    """
    mean = embeddings.mean(axis=0, dtype=np.float64)
    whitening = whitening_of(embeddings, people)
    weights = None if joint is None else weights_with_joint(embeddings.shape[1])
    mean, whitening = (np.asarray(x.astype(np.float16), np.float32) for x in (mean, whitening))
    matrix = joint.matrix if joint else None
    return Distance("cosine", weights, mean, whitening, matrix, FUSED_WALKS)


def _embedded(
    plan: WalkersPlan, embed: Callable[[Silhouettes], Floats], size: tuple[int, int]
) -> tuple[Floats, Indices]:
    """Return the embeddings of a plan's windows [m, k, p, d], and who walks [m]."""
    embeddings, people = [], []
    for kinds, views in plan.walks:
        try:
            shards = rendered(plan, kinds, views, size)
            for silhouettes, ids in shards:  # [m, k*s, h, w], [m]
                m = len(silhouettes)
                windows = silhouettes.reshape(m * plan.windows, WINDOW, *size)  # [m*k, s, h, w]
                embedded = embed(windows)  # [m*k, p, d]
                embeddings.append(embedded.reshape(m, plan.windows, *embedded.shape[1:]))
                people.append(ids)
        except ValueError as err:  # of its checks, before anything is made
            raise ExportError(
                f"matching is measured on Walkers: {err}. Export with --matching none"
            ) from err
    together = np.concatenate(embeddings)
    if not np.isfinite(together).all():
        raise ExportError("an embedding of a Walker is not finite: look at the weights")
    return together, np.concatenate(people)


def rendered(
    plan: WalkersPlan, kinds: dict[str, int], views: tuple[int, ...], size: tuple[int, int]
) -> Iterator[tuple[Silhouettes, Indices]]:
    """Yield the walks of a few people of a plan at a time: [m, k*s, h, w], and who walks [m].

    Args:
        plan: Whom to make.
        kinds: Recordings by condition.
        views: Directions, degrees.
        size: Height and width of a silhouette, pixels.
    """
    settings = WalkersSettings(
        generator=plan.generator,
        first=plan.first,
        people=plan.people,
        **{name: kinds.get(name, 0) for name in ("nm", "bg", "cl")},
        views_deg=views,
        frames=plan.windows * WINDOW,
        size=size,
    )
    with TemporaryDirectory(prefix="cstl-edge-") as folder:
        for shard in make_shards(settings, folder, workers=usable_cores()):
            walks = ShardedSequences([shard])
            yield np.stack([walks.read(i) for i in range(len(walks.people))]), walks.people
