"""Impostor thresholds by what was seen, enrolment, gallery size and FPIR, for a model's manifest.

`impostor_table` computes them from walks of synthetic people; `measure_open_set` measures FNIR and
FPIR at these thresholds on other people. Letters: m walks, k windows of each that do not overlap, p
parts, d embedding dimensions.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypedDict

import numpy as np

from cstl_edge.arrays import Floats, Indices
from cstl_edge.distance import Distance
from cstl_edge.evaluation.embeddings import GALLERY, LabelledEmbeddings

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


def walk_distances(windows: Floats, distance: Distance) -> Floats:
    """Return the distances between walks by what was seen of the searched one: [k, m, m].

    As a gallery computes them: in row `s` of the first axis a search is the mean of the first s + 1
    windows of a walk, and an entry the nearest of another's windows and their mean. With
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
        return np.asarray(sums.transpose(1, 0, 2), np.float32)
    entries = [distance.project(windows[:, i], mean) for i in range(k)]
    entries.append(distance.project(windows.mean(axis=1), mean))
    out = np.empty((k, m, m), np.float32)
    for seen in range(k):
        search = distance.project(windows[:, : seen + 1].mean(axis=1), mean)
        out[seen] = np.min([distance.between(search, entry) for entry in entries], axis=0)
    return out


class WalkSearches:
    """Draws of searches among people of some walks each."""

    def __init__(self, distances: Floats, people: Indices, seed: int) -> None:
        """Group walks by person.

        Args:
            distances: [k, m, m], as `walk_distances` returns them.
            people: [m], who walks.
            seed: Seed of the draws.
        """
        self.distances, self._rng = distances, np.random.default_rng(seed)
        ids = np.unique(people)
        walks = [np.flatnonzero(people == person) for person in ids]
        self.people = len(ids)
        self._counts = np.array([len(rows) for rows in walks])
        self._walks = np.zeros((len(ids), self._counts.max()), np.int64)
        for row, own in zip(self._walks, walks, strict=True):
            row[: len(own)] = own

    def draw(self, seen: int, walks: int, size: int, draws: int, *, mated: bool = False) -> Floats:
        """Return the distances of searches to the people enrolled: [draws, size].

        Args:
            seen: Windows of the search, from 1.
            walks: Walks that each person is enrolled from.
            size: People enrolled.
            draws: Number of searches.
            mated: Whether the searched one is the first of the people, by another walk.
        """
        order = self._rng.random((draws, len(self._counts))).argsort(axis=1)
        searched, enrolled = order[:, 0], order[:, 1 : size + 1]
        if mated:
            enrolled = order[:, :size]
        entries = self._pick(np.repeat(enrolled[..., None], walks, axis=2))  # [draws, size, walks]
        search = self._pick(searched)
        found = self.distances[seen - 1][search[:, None, None], entries]
        if mated:  # the walk that is searched cannot be enrolled
            found[entries == search[:, None, None]] = np.inf
        return np.asarray(found.min(axis=2), np.float32)

    def _pick(self, people: Indices) -> Indices:
        """Return a random walk of each of some people."""
        places = (self._rng.random(people.shape) * self._counts[people]).astype(np.int64)
        return np.asarray(self._walks[people, places], np.int64)


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

    windows = range(1, len(searches.distances) + 1)
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

    Per draw `size` people are enrolled, each from `walks_each` of their sequences nm-01..04 at
    views drawn at random; all others are strangers. A mated search fails when the nearest entry is
    another person's or lies beyond the threshold (FNIR, rank 1), a non-mated one when its nearest
    entry lies below it (FPIR).

    Args:
        labelled: m embedded sequences, of people who are not in the table.
        table: Thresholds of `impostor_table`.
        size: Number of enrolled people, one of the table's sizes.
        walks_each: Number of sequences that each is enrolled from, one of the table's walks.
        draws: Number of galleries.
        seed: Seed of the draws.
    """
    rng = np.random.default_rng(seed)
    distance = labelled.distance.pairwise(labelled.embeddings, labelled.embeddings, labelled.mean)
    ids, in_gallery = np.unique(labelled.people), np.isin(labelled.sequences, GALLERY)
    row = table["threshold"][0][table["walks"].index(walks_each)][table["sizes"].index(size)]
    misses, alarms = [], []
    for _ in range(draws):
        enrolled = rng.choice(ids, size, replace=False)
        member = np.isin(labelled.people, enrolled)
        of_person = (
            np.flatnonzero(in_gallery & (labelled.people == person)) for person in enrolled
        )
        entries = np.concatenate(
            [rng.choice(rows, walks_each, replace=False) for rows in of_person]
        )
        probes = np.flatnonzero(~in_gallery)
        block = distance[np.ix_(probes, entries)]
        best = block.argmin(axis=1)
        nearest = block[np.arange(len(probes)), best]
        is_own = labelled.people[entries][best] == labelled.people[probes]
        mated = member[probes]
        misses.append([float(np.mean(~(is_own & (nearest < t))[mated])) for t in row])
        alarms.append([float(np.mean((nearest < t)[~mated])) for t in row])
    return [
        {"fpir_wanted": rate, "fpir": round(float(a), 4), "fnir": round(float(m), 4)}
        for rate, a, m in zip(table["fpir"], np.mean(alarms, 0), np.mean(misses, 0), strict=True)
    ]
