"""Search of a gallery too large to be held in memory: short vectors choose, the store decides.

The short vectors of all templates (`short_vectors`) choose the WALKS nearest walks; their templates
are read from the store, which checks them, and where walks are fused all others of the people
nearest by these, and the distances are those of `CosineIndex`. A walk that was erased meanwhile is
not there to be read. Short vectors follow the distance and the means of cameras of when they were
made, which moves candidates by a few places and no distance. Letters: n templates, p parts, d
embedding dimensions.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np

from cstl_edge.arrays import Doubles, Floats, Indices
from cstl_edge.distance import Distance
from cstl_edge.gallery.index import CANDIDATES, CosineIndex
from cstl_edge.gallery.short_vectors import SAMPLE, ShortVectors

LARGE_FROM = 50_000  # templates, above which a gallery is searched in two stages
WALKS = 48  # whose exact distances are computed
LIKE = 8  # walks that may be the one that is enrolled again
PROBES = 128  # people searched for the gallery's own scores
SAVE_FROM = 1000  # new entries that are saved at once, or one in a hundred
_CHUNK = 1000  # walks read at once

ReadWalks = Callable[[Sequence[int]], dict[int, Floats]]
"""Given numbers of walks, returns the templates [k, p, d] of those that are still there."""


@dataclass(eq=False)
class LargeSearch:
    """What is kept of a large gallery from one state of it to the next."""

    read: ReadWalks
    open_cache: Callable[[Distance], ShortVectors | None]
    save_cache: Callable[[ShortVectors, Distance], bool]
    short: ShortVectors | None = None
    distance: Distance | None = None  # by which the short vectors were made
    sample: dict[int, Floats] = field(default_factory=dict)  # walks, for the means of cameras
    unsaved: int = 0  # entries
    scores: Floats | None = None  # of `impostor_scores`
    scored_people: int = 0  # when they were made

    def forget_other(self, distance: Distance) -> None:
        """Drop the short vectors where they were made by another distance."""
        if self.distance is not None and not _same(self.distance, distance):
            self.short = self.scores = None
        if self.short is None:
            self.distance, self.short, self.unsaved = distance, self.open_cache(distance), 0

    def save(self, *, at_end: bool = False) -> None:
        """Bring the short vectors to the cache where enough are new, or any at the end."""
        if self.short is None or self.distance is None:
            return
        enough = 1 if at_end else max(SAVE_FROM, len(self.short.walks) // 100)
        if self.unsaved >= enough and self.save_cache(self.short, self.distance):
            self.unsaved = 0

    def learn_sample(self, walks: Indices) -> dict[int, Floats]:
        """Return some walks, spread over the gallery, that stand for all: by their numbers."""
        if not self.sample:
            rng = np.random.default_rng(0)
            chosen = rng.permutation(walks)[:SAMPLE]
            count = 0
            for start in range(0, len(chosen), _CHUNK):
                found = self.read([int(x) for x in chosen[start : start + _CHUNK]])
                self.sample.update(found)
                count += sum(map(len, found.values()))
                if count >= SAMPLE:
                    break
        return self.sample

    def add(self, walks: Indices, project: Callable[[int, Floats], Floats]) -> None:
        """Add the short vectors of walks that are not there yet.

        Args:
            walks: Numbers of all walks that are enrolled.
            project: Given a number and templates [k, p, d], returns them as a search compares them.
        """
        if self.short is None:
            sample = [project(number, rows) for number, rows in self.sample.items()]
            vectors = np.concatenate(sample)[:SAMPLE]
            self.short = ShortVectors.learned(vectors.reshape(len(vectors), -1))
        new = np.setdiff1d(walks, self.short.walks)
        for start in range(0, len(new), _CHUNK):
            found = self.read([int(x) for x in new[start : start + _CHUNK]])
            if not found:
                continue
            rows = np.concatenate([project(number, x) for number, x in found.items()])
            owners = np.repeat([*found], [len(x) for x in found.values()])
            self.short.add(owners.tolist(), rows.reshape(len(rows), -1))
            self.unsaved += len(rows)
        self.save()


@dataclass(frozen=True)
class LargeIndex(CosineIndex):
    """People and walks of a large gallery; templates are read when they are needed."""

    search: LargeSearch | None = None
    numbers: Indices = field(default_factory=lambda: np.empty(0, np.int64))  # [walks]
    total: int = 0  # templates

    @property
    def count(self) -> int:
        """Number of templates."""
        return self.total

    def ready(self, distance: Distance, centre_of: Callable[[str], Floats | None]) -> LargeIndex:
        """Return the index for searches by a distance; what is new gets its short vectors.

        Args:
            distance: The model's.
            centre_of: Given the name of a camera, returns its mean [p, d].
        """
        assert self.search is not None
        self.search.forget_other(distance)
        cameras = dict(zip(self.numbers.tolist(), self.cameras, strict=True))

        def project(number: int, rows: Floats) -> Floats:
            return distance.project(rows, centre_of(cameras[number]))

        self.search.add(self.numbers, project)
        return replace(self, distance=distance)

    def sample_by_camera(self) -> dict[str, list[Doubles]]:
        """Return the mean embeddings [p, d] of some walks by the camera that saw them."""
        assert self.search is not None
        cameras = dict(zip(self.numbers.tolist(), self.cameras, strict=True))
        means: dict[str, list[Doubles]] = {}
        for number, rows in self.search.learn_sample(self.numbers).items():
            if number in cameras:
                means.setdefault(cameras[number], []).append(rows.mean(axis=0, dtype=np.float64))
        return means

    def person_distances(self, queries: Floats) -> Floats:
        """Return the distance from projected queries to everyone, [k, people]: reads them all."""
        nearest = np.full((len(queries), len(self.names)), np.inf, np.float32)
        for start in range(0, len(self.names), _CHUNK):
            some = np.arange(start, min(start + _CHUNK, len(self.names)))
            people, index = self._read_index(self._walks_of(some))
            if len(people):
                nearest[:, people] = index.person_distances(queries)
        return nearest

    def nearest(self, queries: Floats, count: int) -> Floats:
        """Return the distances to the people nearest by their short vectors, others infinity.

        Args:
            queries: [1, p, d], projected.
            count: How many people the caller looks at.
        """
        assert self.search is not None
        assert self.search.short is not None
        known = self._place_of >= 0
        numbers = self.search.short.nearest_walks(queries[0].ravel(), WALKS + count, known)
        people, index = self._read_index(np.sort(self._place_of[numbers]))
        if self.distance.fused_walks and (self.walks_of_people[people] > 1).any():
            order = index.entry_distances(queries)[0].argsort()
            people = np.sort(people[order[: max(count, CANDIDATES)]])
            people, index = self._read_index(self._walks_of(people))
        nearest = np.full(len(self.names), np.inf, np.float32)
        if len(people):
            nearest[people] = index.person_distances(queries)[0]
        return nearest

    def walks_like(self, query: Floats) -> list[tuple[str, Floats]]:
        """Return the names and templates [k, p, d] of the walks most like a projected query.

        query: [1, p, d]
        """
        assert self.search is not None
        assert self.search.short is not None
        known = self._place_of >= 0
        numbers = self.search.short.nearest_walks(query.ravel(), LIKE, known)
        found = self._read(self._place_of[numbers].tolist())
        return [(self.names[self._person_of[walk]], rows) for walk, rows in found.items()]

    @cached_property
    def impostor_scores(self) -> Floats:
        """Each person's distance to the nearest other person, rising, [people] (≤ PROBES)."""
        assert self.search is not None
        known, people = self.search.scores, len(self.names)
        if known is not None and abs(people - self.search.scored_people) <= people // 20:
            return known
        chosen = np.unique(np.linspace(0, len(self.numbers) - 1, PROBES).astype(np.intp))
        scores = []
        for walk in chosen:
            query = self._queries(walk)
            if query is not None:
                distances = self.nearest(query, 2)
                distances[self._person_of[walk]] = np.inf
                scores.append(distances.min())
        self.search.scores = np.sort(np.array(scores, np.float32))
        self.search.scored_people = people
        return self.search.scores

    @cached_property
    def _person_of(self) -> Indices:
        return np.searchsorted(self.starts, self.walk_starts, side="right") - 1

    @cached_property
    def _place_of(self) -> Indices:
        """Place of each walk by its number, -1 for those that are gone."""
        assert self.search is not None
        assert self.search.short is not None
        most = max(self.numbers.max(initial=0), self.search.short.walks.max(initial=0))
        places = np.full(most + 1, -1, np.int64)
        places[self.numbers] = np.arange(len(self.numbers))
        return places

    def _queries(self, walk: int) -> Floats | None:
        """Return the first template of a walk as a projected query, [1, p, d]."""
        found = self._read([walk])
        if not found:
            return None
        rows = self.distance.whiten(found[walk][:1])
        if self.centres is not None:
            rows = rows - self.centres[self.camera_of_walks[walk]]
        return self.distance.scaled(rows)

    def _read(self, walks: Sequence[int]) -> dict[int, Floats]:
        """Return the templates of the walks at some places, as far as they are still there."""
        assert self.search is not None
        found = self.search.read([int(self.numbers[walk]) for walk in walks])
        return {walk: found[n] for walk in walks if (n := int(self.numbers[walk])) in found}

    def _walks_of(self, people: Indices) -> Indices:
        """Return the places of all walks of some people, rising."""
        counts = self.walks_of_people[people]
        within = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
        return np.asarray(np.repeat(self.first_walks[people], counts) + within, np.int64)

    def _read_index(self, walks: Indices) -> tuple[Indices, CosineIndex]:
        """Return the people of some walks that are still there, and an index of these walks.

        walks: their places, rising
        """
        found = self._read(walks.tolist())
        places = np.array([*found], np.int64)
        people, first = np.unique(self._person_of[places], return_index=True)
        counts = np.array([len(rows) for rows in found.values()], np.int64)
        begins = np.cumsum(counts) - counts
        cameras = tuple(self.camera_names[i] for i in self.camera_of_walks[places])
        seen = [self.camera_names.index(camera) for camera in dict.fromkeys(cameras)]
        empty = np.empty((0, *self.templates.shape[:2]), np.float32)
        rows = self.distance.whiten(np.concatenate([empty, *found.values()]))
        return people, CosineIndex(
            names=tuple(self.names[i] for i in people),
            starts=begins[first],
            templates=np.ascontiguousarray(rows.transpose(1, 2, 0)),
            walks=begins,
            cameras=cameras,
            distance=self.distance,
            centres=None if self.centres is None else self.centres[seen],
        )


def _same(one: Distance, other: Distance) -> bool:
    """Return whether two distances whiten and weigh alike."""
    pairs = (
        (one.whitening, other.whitening),
        (one.joint, other.joint),
        (one.weights, other.weights),
    )
    return all(
        a is b or (a is not None and b is not None and np.array_equal(a, b)) for a, b in pairs
    )
