"""Impostor thresholds by what was seen, enrolment, gallery size and FPIR, for a model's manifest.

`impostor_table` computes them from walks of synthetic people; `measure_open_set` measures FNIR and
FPIR at these thresholds on other people. Letters: m walks, k windows of each that do not overlap, p
parts, d embedding dimensions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypedDict

import numpy as np

from cstl_edge.arrays import Bools, Floats, Indices
from cstl_edge.distance import Distance
from cstl_edge.evaluation.embeddings import GALLERY, LabelledEmbeddings
from cstl_edge.gallery.fusion import fused_distances, nearest_walks

FPIR = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3)
SIZES = (1, 2, 4, 8, 16, 20)  # people; a larger gallery is calibrated by its own scores
WALKS = (1, 4, 12)  # walks that each person is enrolled from
DRAWS = 20_000


class ImpostorRecord(TypedDict, total=False):
    """Impostor thresholds of a model, as its manifest stores them."""

    data: str  # description of the people
    seen: list[int]
    walks: list[int]
    sizes: list[int]
    fpir: list[float]
    threshold: list[list[list[list[float]]]]
    """threshold[s][k][i][j] is the quantile fpir[j] of the nearest distance over all draws of a
    stranger of whom seen[s] windows were seen, and sizes[i] people of walks[k] walks each."""


@dataclass(frozen=True)
class WalkDistances:
    """Distances between m walks, by the windows seen of the searched one (1 to k)."""

    nearest: Floats  # [k, m, m], of a search and the nearest of an entry's windows and their mean
    similar: Floats | None = None  # [k, m, m], cosines of a search and an entry's mean
    alike: Floats | None = None  # [m, m], cosines of entries' means
    fused: int = 0  # walks of a person that are fused (`gallery.fusion`); 0: the nearest counts

    def among(self, rows: Bools) -> WalkDistances:
        """Return the distances between some of the walks; rows: [m]."""

        def cut(values: Floats | None) -> Floats | None:
            return None if values is None else values[..., rows, :][..., rows]

        nearest = self.nearest[:, rows][:, :, rows]
        return WalkDistances(nearest, cut(self.similar), cut(self.alike), self.fused)

    def to_people(self, seen: int, search: Indices, entries: Indices) -> Floats:
        """Return the distances of walks to people: [...].

        An entry that is the search itself is left out; who has no other is infinitely far.

        Args:
            seen: Windows of the search, from 1.
            search: [...], the walk that is searched; its axes and those of `entries` may broadcast.
            entries: [..., w], the walks that each person is enrolled from.
        """
        shape = np.broadcast_shapes(search.shape, entries.shape[:-1])
        entries = np.broadcast_to(entries, (*shape, entries.shape[-1]))
        search = search[..., None]
        itself = entries == search
        nearest = np.where(itself, np.inf, self.nearest[seen - 1][search, entries]).min(axis=-1)
        if self.similar is None or self.alike is None or not self.fused:
            return np.asarray(nearest, np.float32)
        similar = np.where(itself, -np.inf, self.similar[seen - 1][search, entries])
        chosen = nearest_walks(similar, self.fused)
        similar = np.take_along_axis(similar, chosen, axis=-1)
        walks = np.take_along_axis(entries, chosen, axis=-1)
        alike = self.alike[walks[..., :, None], walks[..., None, :]]
        return np.where(np.isfinite(nearest), fused_distances(nearest, similar, alike), np.inf)


def walk_distances(windows: Floats, distance: Distance) -> WalkDistances:
    """Return the distances between walks by what was seen of the searched one.

    As a gallery computes them: a search is the mean of the first windows of a walk. With
    `euclidean` it is the mean over the search's windows of that to the nearest window. `cosine`
    subtracts the mean of all walks, as that of a camera.

    Args:
        windows: [m, k, p, d].
        distance: The model's distance.
    """
    m, k = windows.shape[:2]
    mean = np.asarray(windows.mean(axis=(0, 1)), np.float32)
    if distance.name == "euclidean":
        flat = distance.project(windows.reshape(m * k, *windows.shape[2:]))
        by_window = distance.between(flat, flat).reshape(m, k, m, k).min(axis=3)  # [m, k, m]
        sums = np.cumsum(by_window, axis=1) / np.arange(1, k + 1)[:, None]
        return WalkDistances(np.asarray(sums.transpose(1, 0, 2), np.float32))
    of_windows = [distance.project(windows[:, i], mean) for i in range(k)]
    together = distance.project(windows.mean(axis=1), mean)
    nearest, similar = np.empty((2, k, m, m), np.float32)
    for seen in range(k):
        search = distance.project(windows[:, : seen + 1].mean(axis=1), mean)
        to_mean = distance.between(search, together)
        similar[seen] = 1 - to_mean
        nearest[seen] = np.min([to_mean, *(distance.between(search, x) for x in of_windows)], 0)
    alike = 1 - distance.between(together, together)
    return WalkDistances(nearest, similar, alike, distance.fused_walks)


class WalkSearches:
    """Draws of searches among people of some walks each."""

    def __init__(self, distances: WalkDistances, people: Indices, seed: int) -> None:
        """Group walks by person.

        Args:
            distances: As `walk_distances` returns them.
            people: [m], who walks.
            seed: Seed of the draws.
        """
        self.distances, self._rng = distances, np.random.default_rng(seed)
        ids = np.unique(people)
        walks = [np.flatnonzero(people == person) for person in ids]
        self.people = len(ids)
        self._counts = np.array([len(rows) for rows in walks])
        self._walks = np.full((len(ids), self._counts.max()), -1)
        for row, own in zip(self._walks, walks, strict=True):
            row[: len(own)] = own

    def draw(self, seen: int, walks: int, size: int, draws: int, *, mated: bool = False) -> Floats:
        """Return the distances of searches to the people enrolled: [draws, size].

        Args:
            seen: Windows of the search, from 1.
            walks: Different walks that each person is enrolled from; some count twice of people
                who have fewer.
            size: People enrolled.
            draws: Number of searches.
            mated: Whether the searched one is the first of the people, by another walk.
        """
        order = self._rng.random((draws, len(self._counts))).argsort(axis=1)
        searched, enrolled = order[:, 0], order[:, 1 : size + 1]
        if mated:
            enrolled = order[:, :size]
        search = self._pick(searched[:, None], 1)[..., 0]  # [draws, 1]
        entries = self._pick(enrolled, walks, other_than=search)  # [draws, size, walks]
        return self.distances.to_people(seen, search, entries)

    def _pick(self, people: Indices, count: int, other_than: Indices | None = None) -> Indices:
        """Return random walks of some people, [..., count], if possible not a certain one."""
        walks = self._walks[people]  # [..., most]
        keys = np.where(walks < 0, 2.0, self._rng.random(walks.shape))
        own = self._counts[people]
        if other_than is not None:
            itself = walks == other_than[..., None]
            keys[itself] = 1.5  # after all others
            own = np.maximum(own - itself.any(axis=-1), 1)
        order = np.take_along_axis(walks, keys.argsort(axis=-1), axis=-1)
        places = np.arange(count) % own[..., None]
        return np.asarray(np.take_along_axis(order, places, axis=-1), np.int64)


def impostor_table(
    searches: WalkSearches,
    *,
    sizes: Sequence[int] = SIZES,
    walks_each: Sequence[int] = WALKS,
    draws: int = DRAWS,
) -> ImpostorRecord:
    """Compute impostor thresholds by windows seen, walks per person, people and wanted FPIR.

    One draw simulates one search: N people are enrolled, each from W walks (any view, any clothes),
    and a stranger is searched once.

    Args:
        searches: Walks of more than max(sizes) people.
        sizes: Gallery sizes [people].
        walks_each: Numbers of walks that each is enrolled from.
        draws: Number of searches for each cell of the table.

    Raises:
        ValueError: Too few people.
    """
    if max(sizes) >= searches.people:
        raise ValueError(f"expected more than {max(sizes)} people, got {searches.people}")

    def quantiles(seen: int, walks: int, size: int) -> list[float]:
        nearest = searches.draw(seen, walks, size, draws).min(axis=1)
        return [round(float(t), 5) for t in np.quantile(nearest, FPIR)]

    windows = range(1, len(searches.distances.nearest) + 1)
    return {
        "seen": list(windows),
        "walks": list(walks_each),
        "sizes": list(sizes),
        "fpir": list(FPIR),
        "threshold": [
            [[quantiles(seen, walks, size) for size in sizes] for walks in walks_each]
            for seen in windows
        ],
    }


def measure_open_set(
    labelled: LabelledEmbeddings,
    table: ImpostorRecord,
    *,
    size: int = 20,
    walks_each: int = 1,
    draws: int = 200,
    seed: int = 1,
) -> list[dict[str, float]]:
    """Return FNIR and FPIR at each threshold for one window, measured on other people.

    Beside them FNIR at the threshold at which the strangers of a gallery reach the wanted rate.

    Per draw `size` people are enrolled, each from `walks_each` of their sequences nm-01..04 at
    views drawn at random; all others are strangers. A mated search fails when the nearest person is
    another or lies beyond the threshold (FNIR, rank 1), a non-mated one when its nearest person
    lies below it (FPIR).

    Args:
        labelled: m embedded sequences, of people who are not in the table.
        table: Thresholds of `impostor_table`.
        size: Number of enrolled people, one of the table's sizes.
        walks_each: Number of sequences that each is enrolled from, one of the table's walks.
        draws: Number of galleries.
        seed: Seed of the draws.
    """
    rng = np.random.default_rng(seed)
    distances = _sequence_distances(labelled)
    ids, in_gallery = np.unique(labelled.people), np.isin(labelled.sequences, GALLERY)
    walks = {x: np.flatnonzero(in_gallery & (labelled.people == x)) for x in ids}
    row = table["threshold"][0][table["walks"].index(walks_each)][table["sizes"].index(size)]
    probes, rates = np.flatnonzero(~in_gallery), table["fpir"]
    measured = []  # [draws, 3, rates]
    for _ in range(draws):
        enrolled = rng.choice(ids, size, replace=False)
        entries = np.stack([rng.choice(walks[x], walks_each, replace=False) for x in enrolled])
        block = distances.to_people(1, probes[:, None], entries[None])  # [probes, size]
        best, nearest = block.argmin(axis=1), block.min(axis=1)
        is_own = enrolled[best] == labelled.people[probes]
        mated = np.isin(labelled.people[probes], enrolled)
        hit, other = np.where(is_own, nearest, np.inf)[mated], nearest[~mated]
        pairs = ((other, row), (hit, row), (hit, np.quantile(other, rates)))
        measured.append([[float(np.mean(x < t)) for t in limits] for x, limits in pairs])
    fpir, named, named_exactly = np.mean(measured, axis=0)
    columns = (rates, fpir, 1 - named, 1 - named_exactly)
    names = ("fpir_wanted", "fpir", "fnir", "fnir_at_wanted")
    return [
        {name: round(float(x), 4) for name, x in zip(names, values, strict=True)}
        for values in zip(*columns, strict=True)
    ]


def _sequence_distances(labelled: LabelledEmbeddings) -> WalkDistances:
    """Return the distances between embedded sequences, each a walk of one window."""
    distance = labelled.distance
    between = distance.pairwise(labelled.embeddings, labelled.embeddings, labelled.mean)
    if distance.name == "euclidean":
        return WalkDistances(between[None])
    similar = 1 - between
    return WalkDistances(between[None], similar[None], similar, distance.fused_walks)
