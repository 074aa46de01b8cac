"""Made-up galleries of many people, random or in clusters of people who look alike, and searches.

The embeddings of a person are a direction of its own and noise; in a clustered gallery the
directions of CLUSTER people share most of their energy. Letters: n templates, p parts, d embedding
dimensions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from cstl_edge.arrays import Floats, Indices, Vectors
from cstl_edge.distance import Distance
from cstl_edge.gallery.fast_index import PLAIN_SEARCHES, fast_indexed
from cstl_edge.gallery.fusion import FUSED_WALKS
from cstl_edge.gallery.index import CosineIndex, TemplateIndex
from cstl_edge.gallery.large_index import LargeIndex, LargeSearch

EACH = 5  # templates of a person, of one walk
CLUSTER = 100  # people who look alike
SHARED = 0.6  # of the energy of their directions
NOISE = 1.0  # energy of a window's noise, of the direction's


_AT_ONCE = 400  # people compared exactly


@dataclass
class MadeUpGallery:
    """A made-up gallery."""

    rows: Vectors  # float16 [n, p, d]; EACH of a person follow each other
    clustered: bool
    seed: int
    distance: Distance

    @property
    def people(self) -> int:
        """How many people there are."""
        return len(self.rows) // EACH

    def visits(self, people: Indices, seed: int) -> Floats:
        """Return projected queries of enrolled people [k, p, d]."""
        return self.distance.project(self.raw_visits(people, seed))

    def raw_visits(self, people: Indices, seed: int) -> Floats:
        """Return the embeddings of walks of enrolled people, [k, p, d]."""
        rng = np.random.default_rng((self.seed, seed))
        directions = self.rows.reshape(self.people, EACH, *self.rows.shape[1:])[people]
        centres: Floats = directions.astype(np.float32).mean(axis=1)
        noise = rng.standard_normal(centres.shape, dtype=np.float32) * np.float32(NOISE**0.5)
        return centres + noise

    def strangers(self, count: int, seed: int) -> Floats:
        """Return projected queries of people who are not enrolled, of the same kind [k, p, d]."""
        rng = np.random.default_rng((self.seed, seed, 1))
        like = rng.integers(0, self.people, count)  # whose clusters they fall into
        other = directions(like, self.rows.shape[1:], self.seed, self.clustered, seed + 1)
        noise = rng.standard_normal(other.shape, dtype=np.float32) * np.float32(NOISE**0.5)
        return self.distance.project(other + noise)

    def exact(self) -> CosineIndex:
        """Return the index that compares all templates in float32."""
        rows = self.rows.transpose(1, 2, 0).astype(np.float32, order="C")
        return self._cosine(self._index(rows))

    def exact_nearest(self, queries: Floats) -> tuple[Indices, Floats]:
        """Return the nearest person of each query [k, p, d] and their distance, [k].

        Everybody's templates and walk are compared, some at a time: the plain twin of a search.
        """
        flat = queries.reshape(len(queries), -1)
        person, distance = np.zeros(len(flat), np.int64), np.full(len(flat), np.inf, np.float32)
        for start in range(0, self.people, _AT_ONCE):
            rows = self.rows[start * EACH : (start + _AT_ONCE) * EACH].astype(np.float32)
            means = rows.reshape(-1, EACH, *rows.shape[1:]).mean(axis=1)
            to_mean = self.distance.between(flat[:, None], _flat(self.distance.project(means)))
            to_templates = self.distance.between(flat[:, None], _flat(self.distance.project(rows)))
            found = np.minimum(to_mean, to_templates.reshape(len(flat), -1, EACH).min(axis=2))
            if self.distance.fused_walks:  # everybody has one walk
                found = (found + to_mean) / 2
            nearest = found.argmin(axis=1)
            smallest = found[np.arange(len(flat)), nearest]
            closer = smallest < distance
            person[closer], distance[closer] = start + nearest[closer], smallest[closer]
        return person, distance

    def fast(self) -> TemplateIndex:
        """Return the index that multiplies 8-bit integers first."""
        rows = self.rows.astype(np.float32).transpose(1, 2, 0)
        index = fast_indexed(self._index(rows), self.distance)
        index = self._cosine(index)
        for _ in range(PLAIN_SEARCHES + 1):  # then it is quantised
            index.nearest(self.distance.project(self.rows[:1]), 2)
        return index

    def large(self) -> LargeIndex:
        """Return the index of two stages; templates are read from memory."""

        def read(numbers: Sequence[int]) -> dict[int, Floats]:
            return {n: self.rows[n * EACH : (n + 1) * EACH].astype(np.float32) for n in numbers}

        search = LargeSearch(read, lambda _: None, lambda *_: False)
        empty = np.empty((*self.rows.shape[1:], 0), np.float32)
        index = self._index(empty)
        large = LargeIndex(
            names=index.names,
            starts=index.starts,
            templates=empty,
            walks=index.starts,
            cameras=index.cameras,
            search=search,
            numbers=np.arange(self.people),
            total=len(self.rows),
        )
        large.sample_by_camera()
        return large.ready(self.distance, lambda _: None)

    def _index(self, templates: Floats) -> TemplateIndex:
        starts = np.arange(0, len(self.rows), EACH)
        names = tuple(map(str, range(self.people)))
        return TemplateIndex(names, starts, templates, starts, ("",) * self.people)

    def _cosine(self, index: TemplateIndex) -> CosineIndex:
        if not isinstance(index, CosineIndex):
            index = CosineIndex(
                index.names, index.starts, index.templates, index.walks, index.cameras
            )
            index = replace(index, distance=self.distance)
        return index.centred([None])


def _flat(rows: Floats) -> Floats:
    return rows.reshape(len(rows), 1, -1)


def make_gallery(
    templates: int, parts: int, dimensions: int, *, clustered: bool = False, seed: int = 0
) -> MadeUpGallery:
    """Make a gallery of so many templates, held in float16.

    Args:
        templates: n, a multiple of EACH.
        parts: p.
        dimensions: d.
        clustered: Whether CLUSTER people each look alike.
        seed: Of everything in it.
    """
    people, shape = templates // EACH, (parts, dimensions)
    rows = np.empty((people * EACH, *shape), np.float16)
    rng = np.random.default_rng((seed, 7))
    step = 2000  # people at once
    for start in range(0, people, step):
        count = min(step, people - start)
        own = directions(np.arange(start, start + count), shape, seed, clustered, 0)
        noise = rng.standard_normal((count, EACH, *shape), dtype=np.float32)
        noise *= np.float32(NOISE**0.5)
        rows[start * EACH : (start + count) * EACH] = (own[:, None] + noise).reshape(-1, *shape)
    distance = Distance("cosine", fused_walks=FUSED_WALKS)
    return MadeUpGallery(rows, clustered, seed, distance)


def directions(
    people: Indices, shape: tuple[int, ...], seed: int, clustered: bool, stream: int
) -> Floats:
    """Return the directions of people [k, p, d].

    Args:
        people: Their numbers, which say into which cluster each falls.
        shape: (p, d).
        seed: Of the gallery.
        clustered: Whether CLUSTER people each look alike.
        stream: 0 for those enrolled, others for strangers.
    """
    rng = np.random.default_rng((seed, stream, int(people[0])))
    own = rng.standard_normal((len(people), *shape), dtype=np.float32)
    if not clustered:
        return own
    clusters, places = np.unique(people // CLUSTER, return_inverse=True)
    shared = [np.random.default_rng((seed, 99, int(c))).standard_normal(shape) for c in clusters]
    alike = np.stack(shared).astype(np.float32)[places]
    return np.float32(SHARED**0.5) * alike + np.float32((1 - SHARED) ** 0.5) * own
