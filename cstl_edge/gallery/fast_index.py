"""Exact search of many templates: 8-bit products say who can be nearest, the rest is skipped.

Every entry's distance is known from 8-bit products to within a bound (`quantised`); whoever cannot
be among the two nearest people is skipped, and the distances of the others are computed exactly, as
`CosineIndex` does. Where walks are fused, these distances choose the people with the nearest
entries, and only theirs are computed exactly. The integers are those of whitened entries less the
mean of their camera when they were made, each part brought to the length of its weight, so that one
product of matrices gives all distances. A mean that moves changes the lengths of centred entries
alone, which follow from 8-bit products with its displacement, and widens the bounds; entries are
quantised again where these are STALE times as wide as they would be. Letters: n entries, p parts, d
embedding dimensions.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np

from cstl_edge.arrays import Floats, Indices
from cstl_edge.distance import Distance
from cstl_edge.gallery.index import CANDIDATES, FAST_FROM, CosineIndex, TemplateIndex, indexed
from cstl_edge.gallery.quantised import CHUNK, QuantisedVectors, part_lengths

_ROUNDING = np.float32(2e-5)  # of sums in float32, here and in the exact distances
MOVED = 0.05  # of the length of a centred part: what centres move before scores are made anew
PLAIN_SEARCHES = 16  # of a state of the gallery, before its entries are quantised
STALE = 2.0  # times the bounds of integers made anew: then they are made anew
_FIRST = 4  # entries whose exact distances narrow the rest
_LEAST = np.float32(1e-6)  # length of a part that counts, as in `CosineIndex`
_HALF = 0.5  # of a length: where it is less sure, nothing is known of a distance


@dataclass(frozen=True, eq=False)
class QuantisedEntries:
    """Templates, or means of walks, as 8-bit integers, under some means of their cameras."""

    vectors: QuantisedVectors  # of entries less the reference, parts of the length of their weights
    cameras: Indices  # [n], place of each entry's camera in the centres
    reference: Floats | None  # [cameras, p, d], subtracted before quantisation; None: nothing
    weights: Floats  # [p], roots of the parts' weights
    lengths: Floats  # [p, n], of the parts of entries less the reference
    bounds: Floats  # [n], of the error of a distance, but for the query's own rounding
    moved: Floats | None = None  # [cameras, p, d], of the centres since; None: not at all
    ratios: Floats | None = None  # [n], of lengths then by lengths now, about
    by_length: Floats | None = None  # [p, n], roots of the weights by lengths now

    @classmethod
    def of(
        cls, entries: Floats, cameras: Indices, centres: Floats | None, weights: Floats
    ) -> QuantisedEntries:
        """Quantise entries.

        Args:
            entries: [n, p, d], whitened.
            cameras: [n], place of each entry's camera in `centres`.
            centres: [cameras, p, d] to subtract; None: nothing.
            weights: [p], roots of the parts' weights.
        """
        lengths = list[Floats]()

        def chunks() -> Iterator[Floats]:
            for start in range(0, len(entries), CHUNK):
                some = entries[start : start + CHUNK]
                own = None if centres is None else centres[cameras[start : start + CHUNK]]
                rows = some.copy() if own is None else some - own
                lengths.append(np.maximum(part_lengths(rows), _LEAST))
                rows *= (weights[:, None] / lengths[-1]).T[:, :, None]
                yield rows

        vectors = QuantisedVectors(len(entries), chunks())
        bounds = weights @ vectors.errors + _ROUNDING
        return cls(vectors, cameras, centres, weights, np.hstack(lengths), bounds)

    def centred(self, centres: Floats | None) -> QuantisedEntries:
        """Return the entries under other means of the cameras, [cameras, p, d]; None: of none.

        A part's similarity changes with its length, by a ratio that is nearly the same for all
        parts of an entry: what it is off by widens the bound.
        """
        vectors, weights = self.vectors, self.weights
        fresh = weights @ vectors.errors + _ROUNDING
        moved = _difference(centres, self.reference)
        if moved is None or not moved.any():
            return replace(self, bounds=fresh, moved=None, ratios=None, by_length=None)
        steps = np.linalg.norm(moved, axis=2).T[:, self.cameras]  # [p, n]
        own, slack = self._products_with_own(moved)
        lengths = np.sqrt(np.maximum(self.lengths**2 - 2 * own + steps**2, _LEAST * _LEAST))
        unsure = slack / lengths**2  # share of a length now
        ratios = self.lengths / lengths
        common = np.asarray(np.square(weights) @ ratios, np.float32)
        apart = np.abs(ratios - common) + 2 * unsure
        bounds = np.asarray(common * fresh + np.square(weights) @ apart, np.float32)
        bounds[(unsure > _HALF).any(axis=0)] = np.inf  # computed exactly
        by_length = np.asarray(weights[:, None] / lengths, np.float32)
        return replace(self, bounds=bounds, moved=moved, ratios=common, by_length=by_length)

    @property
    def is_stale(self) -> bool:
        """Whether the centres have moved so far that integers made anew exclude far more."""
        fresh = self.weights @ self.vectors.errors
        return bool(np.median(self.bounds) > STALE * np.median(fresh))

    def distances(self, query: Floats) -> tuple[Floats, Floats]:
        """Return the distance of a projected query [p, d] to every entry, and its bound: [n]."""
        similarity, lost = self.vectors.products(query)
        bounds = self.bounds
        if self.moved is None or self.ratios is None or self.by_length is None:
            return 1 - similarity, bounds + np.float32(1.01 * lost)
        similarity *= self.ratios
        of_cameras = np.einsum("pd,cpd->cp", query, self.moved) @ self.by_length  # [cameras, n]
        similarity -= of_cameras[self.cameras, np.arange(len(similarity))]
        return 1 - similarity, bounds + np.float32(1.01 * lost) * self.ratios

    def _products_with_own(self, moved: Floats) -> tuple[Floats, Floats]:
        """Return the products of entries with the displacement of their camera, and bounds [p, n].

        moved: [cameras, p, d]
        """
        own, slack = np.zeros_like(self.lengths), np.zeros_like(self.lengths)
        of_unit = self.lengths / self.weights[:, None]  # entries by what was quantised
        for camera in np.flatnonzero(moved.any(axis=(1, 2))):
            mine = self.cameras == camera
            products, lost = self.vectors.part_products(moved[camera])
            off = self.vectors.errors * np.linalg.norm(moved[camera], axis=1)[:, None]
            off += (self.vectors.errors + self.weights[:, None]) * lost[:, None]
            own[:, mine] = (products * of_unit)[:, mine]
            slack[:, mine] = (off * of_unit)[:, mine]
        return own, slack


@dataclass(eq=False)
class Quantised:
    """The entries of an index as integers, once it has been searched often enough."""

    entries: tuple[QuantisedEntries, ...] = ()  # templates, and means of walks
    searches: int = 0


@dataclass(frozen=True)
class FastCosineIndex(CosineIndex):
    """A `CosineIndex` whose nearest people are found by 8-bit products."""

    quantised: Quantised = field(default_factory=Quantised)
    scored_centres: Floats | None = None  # under which `known_scores` were made

    def centred(self, means: Sequence[Floats | None]) -> CosineIndex:
        """Return the index under these means of its cameras; the integers are taken over."""
        plain = super().centred(means)
        assert isinstance(plain, FastCosineIndex)
        entries = tuple(x.centred(plain.centres) for x in self.quantised.entries)
        if any(x.is_stale for x in entries):
            entries = ()
        moved = Quantised(entries, self.quantised.searches)
        scored = self.centres if self.known_scores is None else self.scored_centres
        if not self._keeps_scores(plain.centres, scored):
            return replace(plain, quantised=moved, known_scores=None)
        scores = self.impostor_scores
        return replace(plain, quantised=moved, known_scores=scores, scored_centres=scored)

    def _keeps_scores(self, centres: Floats | None, scored: Floats | None) -> bool:
        """Return whether scores are there, and the centres have moved little since."""
        if self.known_scores is None and "impostor_scores" not in self.__dict__:
            return False  # nobody has asked for them
        moved = _difference(centres, scored)
        return moved is None or bool(
            np.linalg.norm(moved, axis=2).max() <= MOVED * self.norms.mean()
        )

    def nearest(self, queries: Floats, count: int) -> Floats:
        """Return the distances to everybody who may be among the `count` nearest: [people].

        They are those of the plain search; all others are infinitely far.

        Args:
            queries: [1, p, d], projected.
            count: How many people.
        """
        quantised, query = self.quantised, queries[0]
        quantised.searches += 1
        if not quantised.entries:
            if quantised.searches <= PLAIN_SEARCHES:  # somebody may be enrolled again at once
                return super().nearest(queries, count)
            quantised.entries = _quantise(self)
        found = [entries.distances(query) for entries in quantised.entries]
        if self.distance.fused_walks:
            return self._nearest_fused(query, found, max(count, CANDIDATES))
        return self._nearest_entries(query, found, count)

    def _nearest_entries(
        self, query: Floats, found: Sequence[tuple[Floats, Floats]], count: int
    ) -> Floats:
        """Return the distances to those who can be the nearest by an entry, others infinity.

        Args:
            query: [p, d], projected.
            found: Of templates, and means of walks: 8-bit distances and their bounds, [n].
            count: How many people.
        """
        lower = [x - bound for x, bound in found]
        upper = self._by_person([x + bound for x, bound in found])
        count = min(count, len(upper))
        furthest = np.partition(upper, count - 1)[count - 1]
        exact = [np.full(len(x), np.inf, np.float32) for x in lower]
        for largest in (True, False):
            for entries, low, distances in zip(self._entries, lower, exact, strict=True):
                wanted = np.flatnonzero((low <= furthest) & ~np.isfinite(distances))
                if largest and len(wanted) > _FIRST:
                    wanted = wanted[np.argpartition(low[wanted], _FIRST)[:_FIRST]]
                distances[wanted] = self._exact(query, *entries, wanted)
            nearest = self._by_person(exact)
            furthest = min(furthest, np.partition(nearest, count - 1)[count - 1])
        nearest[nearest > furthest] = np.inf
        return nearest

    def _nearest_fused(
        self, query: Floats, found: Sequence[tuple[Floats, Floats]], count: int
    ) -> Floats:
        """Return the fused distances to the people with the nearest entries, others infinity.

        The 8-bit distances say who they are; of these people the entries that can be the nearest
        are compared exactly. Arguments are those of `_nearest_entries`.
        """
        known = [np.where(np.isfinite(bound), x, -np.inf) for x, bound in found]
        rough, upper = self._by_person(known), self._by_person([x + bound for x, bound in found])
        count = min(count, len(rough))
        people = np.flatnonzero(rough <= np.partition(rough, count - 1)[count - 1])
        limit = np.full(len(rough), -np.inf, np.float32)
        limit[people] = upper[people]
        exact = []
        for entries, (x, bound), owners in zip(self._entries, found, self._owners, strict=True):
            distances = np.full(len(x), np.inf, np.float32)
            wanted = np.flatnonzero(x - bound <= limit[owners])
            distances[wanted] = self._exact(query, *entries, wanted)
            exact.append(distances)
        nearest = self._by_person(exact)
        fused: Floats = self.fused(query[None], nearest[None], len(people))[0]
        return fused

    @cached_property
    def _entries(self) -> tuple[tuple[Floats, Indices], ...]:
        """Entries [n, p, d] and the places of their cameras: templates, and means of walks."""
        of_templates = np.repeat(self.camera_of_walks, self.templates_of_walks)
        entries = [(self.templates.transpose(2, 0, 1), of_templates)]
        if self.walk_means is not None:
            entries.append((self.walk_means.transpose(2, 0, 1), self.camera_of_walks))
        return tuple(entries)

    @cached_property
    def _first_entries(self) -> tuple[Indices, Indices]:
        """Where the templates and the walks of each person begin, [people]."""
        return self.starts, self.first_walks

    @cached_property
    def _owners(self) -> tuple[Indices, ...]:
        """Whose the entries are, [n] each: of templates, and of means of walks."""
        sizes = (self.count, len(self.walk_starts))
        return tuple(
            np.repeat(np.arange(len(starts)), np.diff(np.append(starts, size)))
            for starts, size in zip(self._first_entries, sizes, strict=True)
        )[: len(self._entries)]

    def _by_person(self, distances: Sequence[Floats]) -> Floats:
        """Return the smallest distance of each person's entries, [people]."""
        smallest = [
            np.minimum.reduceat(x, starts)
            for x, starts in zip(distances, self._first_entries, strict=False)
        ]
        return np.asarray(np.minimum.reduce(smallest), np.float32)

    def _exact(self, query: Floats, entries: Floats, cameras: Indices, places: Indices) -> Floats:
        """Return the distances of a projected query [p, d] to some entries.

        Args:
            query: [p, d].
            entries: [n, p, d].
            cameras: [n], place of each entry's camera in `centres`.
            places: Of the entries that are wanted.
        """
        rows = entries[places]
        if self.centres is not None:
            rows -= self.centres[cameras[places]]
        lengths = np.sqrt(np.maximum(np.einsum("npd,npd->np", rows, rows), _LEAST * _LEAST))
        products = np.einsum("npd,pd->np", rows, query)
        weights = np.sqrt(self.distance.part_weights(len(query)))
        similarity = (products * weights / lengths).sum(axis=1)
        return np.asarray(np.maximum(1 - similarity, 0), np.float32)


def fast_indexed(index: TemplateIndex, distance: Distance) -> TemplateIndex:
    """Return `index.indexed`, with the fast search where there are enough templates for it.

    Args:
        index: Templates as the model gave them; for `cosine` they are overwritten.
        distance: The model's distance.
    """
    plain = indexed(index, distance)
    if not isinstance(plain, CosineIndex) or plain.templates.shape[2] < FAST_FROM:
        return plain
    return FastCosineIndex(
        plain.names, plain.starts, plain.templates, plain.walks, plain.cameras, plain.distance
    )


def _quantise(index: FastCosineIndex) -> tuple[QuantisedEntries, ...]:
    weights = np.sqrt(index.distance.part_weights(len(index.templates)))
    return tuple(
        QuantisedEntries.of(entries, cameras, index.centres, weights)
        for entries, cameras in index._entries
    )


def _difference(one: Floats | None, other: Floats | None) -> Floats | None:
    if one is None:
        return None if other is None else -other
    return one if other is None else one - other
