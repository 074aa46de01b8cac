"""All templates in memory, grouped by person, and the distances of a search to them.

With `cosine` a person's distance is fused from those to their walks (`fusion`), where the model
says so. Brute force: templates are held as float32 [p, d, n], so that one vector-matrix product per
part reads them once, in order (13 ms for 10,000 of 32x256 on one core, where [p, n, d] takes 29).
`distance.Distance.pairwise` is the plain twin. Letters: k queries, n templates, p parts, d
embedding dimensions, w walks of a person.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import numpy.typing as npt

from cstl_edge.arrays import Floats
from cstl_edge.distance import EUCLIDEAN, Distance, with_joint
from cstl_edge.gallery.fusion import fused_distances, nearest_walks

CANDIDATES = 16
"""People with the nearest entries, among whom the fused distances decide: the walker has one of
these entries, as good as always, and only their walks are compared with one another."""
FAST_FROM = 2048  # templates, from which `fast_index` searches: a plain search takes 3 ms
MAX_PROBES = 512  # templates searched for the gallery's own scores: 3 s at 10,000 of 32x256

# |a-b|^2 = |a|^2 + |b|^2 - 2ab loses digits when a is near b: its error is at most d * 2^-24 of
# |a|^2 + |b|^2, 1.5e-5 at d = 256. Below 1/128 of that sum the difference is taken instead, so
# that a distance is right to 1e-3 in the worst case and to about 1e-5 in the usual one.
_NEAR = np.float32(1 / 128)
_FEW = 16  # queries below which one product each is faster than a product of matrices
_AT_ONCE = 4096  # walks whose means are compared at once
_BLOCK = 64  # queries or near pairs at once: keeps temporary arrays small
_TINY = np.float32(1e-12)

Starts = npt.NDArray[np.intp]


@dataclass(frozen=True)
class TemplateIndex:
    """Templates grouped by person and walk; searched by Euclidean distance.

    A search with `cosine` is that of a `CosineIndex`, see `indexed`.
    """

    names: tuple[str, ...]
    starts: Starts  # [people]: where the templates of each begin
    templates: Floats  # [p, d, n], contiguous, as the model gave them
    walks: Starts | None = None
    """[walks]: where the templates of each enrolment begin; None: of each person one."""
    cameras: tuple[str, ...] = ()  # [walks], the camera that saw each, "" unnamed; (): all unnamed
    distance: Distance = EUCLIDEAN

    known_scores: Floats | None = None  # `impostor_scores`, from means that have moved little since

    @property
    def count(self) -> int:
        """Number of templates."""
        return int(self.templates.shape[2])

    @cached_property
    def walk_starts(self) -> Starts:
        """Where the templates of each enrolment begin, [walks]."""
        return self.starts if self.walks is None else self.walks

    @cached_property
    def walks_each(self) -> float:
        """Enrolments per person, on average."""
        return len(self.walk_starts) / max(1, len(self.names))

    def mean_of_walks(self) -> Floats:
        """Return the mean of each walk's templates, [p, d, walks]."""
        rows = self.templates.transpose(2, 0, 1)
        if rows.flags.c_contiguous:
            sums = np.add.reduceat(rows, self.walk_starts, axis=0).transpose(1, 2, 0)
        else:
            parts = [np.add.reduceat(part, self.walk_starts, axis=1) for part in self.templates]
            sums = np.stack(parts)
        return np.asarray(sums / self.templates_of_walks, np.float32)

    @cached_property
    def templates_of_walks(self) -> Starts:
        """How many templates each enrolment has, [walks]."""
        return np.diff(np.append(self.walk_starts, self.count))

    @cached_property
    def norms(self) -> Floats:
        """Squared length of every part of every template, [p, n]."""
        return np.stack([np.einsum("dn,dn->n", part, part) for part in self.templates])

    def template_distances(self, queries: Floats) -> Floats:
        """Return the distance from queries [k, p, d] to every template, [k, n]."""
        by_part = np.ascontiguousarray(queries.transpose(1, 0, 2))  # [p, k, d]
        total = np.zeros((len(queries), self.templates.shape[2]), np.float32)
        weights = self.distance.part_weights(len(by_part))
        parts = zip(self.templates, self.norms, by_part, weights, strict=True)
        for part, norms, query, weight in parts:
            total += _euclidean(part, norms, query) * weight
        return total

    def entry_distances(self, queries: Floats) -> Floats:
        """Return the distance from queries [k, p, d] to everyone's nearest template [k, people]."""
        nearest = np.empty((len(queries), len(self.names)), np.float32)
        for start in range(0, len(queries), _BLOCK):
            block = slice(start, start + _BLOCK)
            distances = self.template_distances(queries[block])
            nearest[block] = np.minimum.reduceat(distances, self.starts, axis=1)
        return nearest

    def person_distances(self, queries: Floats) -> Floats:
        """Return the distance from queries [k, p, d] to everyone, [k, people]."""
        return self.entry_distances(queries)

    def candidates(self, queries: Floats, count: int) -> Floats:
        """Return the distances to those who may be among the `count` nearest, others infinity.

        Args:
            queries: [k, p, d].
            count: How many people.
        """
        return self.person_distances(queries)

    def nearest(self, queries: Floats, count: int) -> Floats:
        """Return the distances to everybody who may be among the `count` nearest: [people].

        Others may be infinitely far.

        Args:
            queries: [k, p, d]; distances are the mean over them.
            count: How many people.
        """
        return np.asarray(self.candidates(queries, count).mean(axis=0), np.float32)

    def queries_of(self, columns: Starts) -> Floats:
        """Return templates as queries of `person_distances`, [k, p, d]."""
        rows: Floats = self.templates[:, :, columns].transpose(2, 0, 1)
        return rows

    @cached_property
    def impostor_scores(self) -> Floats:
        """Each person's distance to the nearest other person, rising, [people] (≤ MAX_PROBES).

        A score is the smallest distance of one person's templates to all other people: an impostor
        search of n - 1 people that errs on the side of `unknown`.
        """
        if self.known_scores is not None:
            return self.known_scores
        people = _spread(len(self.names), MAX_PROBES)
        ends = np.append(self.starts[1:], self.templates.shape[2])
        per_person = max(1, MAX_PROBES // len(people))
        probes = [self.starts[i] + _spread(ends[i] - self.starts[i], per_person) for i in people]
        owner = np.repeat(np.arange(len(people)), [len(columns) for columns in probes])
        columns = np.concatenate(probes)
        distances = self.candidates(self.queries_of(columns), 2)
        distances[np.arange(len(columns)), people[owner]] = np.inf
        scores = np.full(len(people), np.inf, np.float32)
        np.minimum.at(scores, owner, distances.min(axis=1))
        return np.sort(scores)


@dataclass(frozen=True)
class CosineIndex(TemplateIndex):
    """Templates for the distance `cosine`; `centres` are subtracted when a search is made.

    `templates` are whitened rows [r, d, n], the joint one included, not centred, since |Wt - Wm|²
    and q · (Wt - Wm) follow from products of Wt alone: a camera's mean may change without the
    templates being read again. Queries are those of `Distance.project`. Entries are the templates
    and the mean of each walk.
    """

    centres: Floats | None = None  # [cameras, r, d], whitened means, as `camera_names` has them

    @cached_property
    def camera_names(self) -> tuple[str, ...]:
        """Names of the cameras that saw the walks."""
        return tuple(dict.fromkeys(self.cameras)) or ("",)

    def centred(self, means: Sequence[Floats | None]) -> CosineIndex:
        """Return the index under these means [p, d] of its cameras, not whitened; None: of none."""
        if any(mean is None for mean in means):
            return replace(self, centres=None)
        stacked = np.stack([mean for mean in means if mean is not None])
        return replace(self, centres=self.distance.whiten(stacked))

    @cached_property
    def walk_means(self) -> Floats | None:
        """Mean of each walk's templates, whitened [p, d, walks]; None where each has one."""
        return self.mean_of_walks() if self.templates_of_walks.max(initial=0) > 1 else None

    def template_distances(self, queries: Floats) -> Floats:
        """Return the distance from projected queries [k, p, d] to every template, [k, n]."""
        cameras = np.repeat(self.camera_of_walks, self.templates_of_walks)
        return self._distances(queries, self.templates, self.norms, cameras)

    def entry_distances(self, queries: Floats) -> Floats:
        """Return the distance from projected queries to everyone's nearest entry, [k, people]."""
        nearest = super().entry_distances(queries)
        if self.walk_means is None:
            return nearest
        cameras = self.camera_of_walks
        distances = self._distances(queries, self.walk_means, self._walk_norms, cameras)
        by_walk: Floats = np.minimum.reduceat(distances, self.first_walks, axis=1)
        return np.asarray(np.minimum(nearest, by_walk), np.float32)

    def person_distances(self, queries: Floats) -> Floats:
        """Return the distance from projected queries [k, p, d] to everyone, [k, people]."""
        return self.fused(queries, self.entry_distances(queries), len(self.names))

    def candidates(self, queries: Floats, count: int) -> Floats:
        """Return the distances to those who may be among the `count` nearest, others infinity."""
        return self.fused(queries, self.entry_distances(queries), max(count, CANDIDATES))

    def fused(self, queries: Floats, nearest: Floats, count: int) -> Floats:
        """Return the distances to the people with the nearest entries, others infinity.

        Args:
            queries: [k, p, d], projected.
            nearest: [k, people], the distances to everyone's nearest entry.
            count: How many people.
        """
        if not self.distance.fused_walks:
            return nearest
        distances = np.full_like(nearest, np.inf)
        for query, near, row in zip(queries, nearest, distances, strict=True):
            some = near if count >= len(near) else np.partition(near, count - 1)[:count]
            people = np.flatnonzero((near <= some.max(initial=0)) & np.isfinite(near))
            walks_of = self.walks_of_people[people]
            for walks in np.unique(walks_of):
                alike = people[walks_of == walks]
                for some_people in np.array_split(alike, 1 + len(alike) * walks // _AT_ONCE):
                    row[some_people] = self._fused(query, near[some_people], some_people, walks)
        return distances

    def _fused(self, query: Floats, nearest: Floats, people: Starts, walks: int) -> Floats:
        """Return the fused distances of a query [p, d] to people of as many walks each: [n].

        nearest: [n], the distances to their nearest entries
        """
        places = self.first_walks[people][:, None] + np.arange(walks)  # [n, w]
        means = self.templates if self.walk_means is None else self.walk_means
        rows: Floats = means.transpose(2, 0, 1)[places.ravel()]  # a copy
        if self.centres is not None:
            rows -= self.centres[self.camera_of_walks[places.ravel()]]
        units: Floats = self.distance.scaled(rows).reshape(len(people), walks, -1)
        similar: Floats = np.einsum("nwd,d->nw", units, query.ravel())
        if walks > self.distance.fused_walks:
            chosen = nearest_walks(similar, self.distance.fused_walks)  # [n, f]
            similar = np.take_along_axis(similar, chosen, axis=1)
            units = np.asarray(np.take_along_axis(units, chosen[..., None], axis=1))
        alike: Floats = np.einsum("nfd,ngd->nfg", units, units)
        return fused_distances(nearest, similar, alike)

    @cached_property
    def first_walks(self) -> Starts:
        """Place of the first walk of each person, [people]."""
        return np.searchsorted(self.walk_starts, self.starts)

    @cached_property
    def walks_of_people(self) -> Starts:
        """How many walks each person is enrolled from, [people]."""
        return np.diff(np.append(self.first_walks, len(self.walk_starts)))

    def queries_of(self, columns: Starts) -> Floats:
        """Return templates as projected queries of `person_distances`, [k, p, d]."""
        rows = super().queries_of(columns)
        if self.centres is not None:
            cameras = np.repeat(self.camera_of_walks, self.templates_of_walks)
            rows = rows - self.centres[cameras[columns]]
        return self.distance.scaled(rows)

    @cached_property
    def norms(self) -> Floats:
        """Length of every part of every centred template, [p, n]."""
        cameras = np.repeat(self.camera_of_walks, self.templates_of_walks)
        return self._lengths(self.templates, cameras)

    @cached_property
    def _walk_norms(self) -> Floats:
        assert self.walk_means is not None
        return self._lengths(self.walk_means, self.camera_of_walks)

    @cached_property
    def camera_of_walks(self) -> Starts:
        """Place of each walk's camera in `centres`, [walks]."""
        if not self.cameras:
            return np.zeros(len(self.walk_starts), np.intp)
        places = {camera: place for place, camera in enumerate(self.camera_names)}
        return np.array([places[camera] for camera in self.cameras], np.intp)

    def _lengths(self, entries: Floats, cameras: Starts) -> Floats:
        """Return the lengths of the parts of centred entries [p, d, n]: [p, n]."""
        squares = np.stack([np.einsum("dn,dn->n", part, part) for part in entries])
        if self.centres is not None:
            for part, square, centre in zip(
                entries, squares, self.centres.transpose(1, 0, 2), strict=True
            ):
                products = centre @ part  # [cameras, n]
                square -= 2 * products[cameras, np.arange(part.shape[1])]
                square += (centre * centre).sum(axis=1)[cameras]
        lengths: Floats = np.sqrt(np.maximum(squares, _TINY))
        return lengths

    def _distances(
        self, queries: Floats, entries: Floats, lengths: Floats, cameras: Starts
    ) -> Floats:
        """Return the distances of projected queries [k, p, d] to entries [p, d, n]: [k, n]."""
        similarity = np.zeros((len(queries), entries.shape[2]), np.float32)
        weights = np.sqrt(self.distance.part_weights(len(entries)))
        for p, (part, length, weight) in enumerate(zip(entries, lengths, weights, strict=True)):
            query = np.ascontiguousarray(queries[:, p])  # [k, d]
            few = len(query) < _FEW
            products = np.stack([row @ part for row in query]) if few else query @ part
            if self.centres is not None:
                products = products - (query @ self.centres[:, p].T)[:, cameras]
            similarity += products * (weight / length)
        return np.maximum(1 - similarity, 0)


def indexed(index: TemplateIndex, distance: Distance) -> TemplateIndex:
    """Return an index that is searched by a model's distance; it takes over the templates.

    Args:
        index: Templates as the model gave them; for `cosine` they are overwritten.
        distance: The model's distance; with a joint projection the templates are copied.
    """
    if distance.name == "euclidean":
        return replace(index, distance=distance, templates=np.ascontiguousarray(index.templates))
    templates = _with_joint_row(index.templates, distance.joint)
    if distance.whitening is not None:
        parts = templates[: len(distance.whitening)]
        for part, matrix in zip(parts, distance.whitening, strict=True):
            part[:] = matrix @ part  # [d, n]
    return CosineIndex(index.names, index.starts, templates, index.walks, index.cameras, distance)


def _with_joint_row(templates: Floats, joint: Floats | None) -> Floats:
    """Return templates [p, d, n] with their joint row, [p + 1, d, n], laid out as they are."""
    if joint is None:
        return templates
    entries = templates.transpose(2, 0, 1)
    if entries.flags.c_contiguous:
        return with_joint(entries, joint).transpose(1, 2, 0)
    row = joint.reshape(len(joint), -1) @ templates.reshape(-1, templates.shape[2])  # [d, n]
    return np.concatenate([templates, row[None]])


def _euclidean(part: Floats, norms: Floats, query: Floats) -> Floats:
    """Return the Euclidean distance of one part from query [k, d] to templates [d, n]: [k, n]."""
    lengths = norms + np.einsum("kd,kd->k", query, query)[:, None]  # [k, n]
    few = len(query) < _FEW
    squared: Floats = np.stack([row @ part for row in query]) if few else query @ part  # [k, n]
    squared *= -2
    squared += lengths
    lengths *= _NEAR
    rows, columns = np.nonzero(squared < lengths)
    for start in range(0, len(rows), _BLOCK):
        k, n = rows[start : start + _BLOCK], columns[start : start + _BLOCK]
        squared[k, n] = ((part[:, n] - query[k].T) ** 2).sum(axis=0)
    np.sqrt(squared, out=squared)
    return squared


def _spread(count: int, most: int) -> Starts:
    """Return 0..count-1, or `most` of them evenly spaced."""
    return np.unique(np.linspace(0, count - 1, min(count, most)).astype(np.intp))
