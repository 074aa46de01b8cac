"""Exact search of many templates: 8-bit products say who can be nearest, the rest is skipped.

Every entry's distance is known from 8-bit products to within a bound (`quantised`); whoever cannot
be among the two nearest people is skipped, and the distances of the others are computed exactly, by
`CosineIndex` itself. The integers are those of whitened entries less the mean of their camera when
they were made. A mean that moves changes the lengths of centred entries alone, which follow from
8-bit products with its displacement: nothing is quantised again. Letters: n entries, p parts,
d embedding dimensions.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np

from cstl_edge.arrays import Floats, Indices
from cstl_edge.distance import Distance
from cstl_edge.gallery.index import FAST_FROM, CosineIndex, TemplateIndex, indexed
from cstl_edge.gallery.quantised import BLOCK, QuantisedVectors

_ROUNDING = np.float32(2e-5)  # of sums in float32, here and in the exact distances
MOVED = 0.05  # of the length of a centred part: what centres move before scores are made anew
PLAIN_SEARCHES = 16  # of a state of the gallery, before its entries are quantised
_FIRST = 16  # entries whose exact distances narrow the rest
_LEAST = np.float32(1e-6)  # length of a part that counts, as in `CosineIndex`


@dataclass(frozen=True, eq=False)
class QuantisedEntries:
    """Templates, or means of walks, as 8-bit integers, under some means of their cameras."""

    vectors: QuantisedVectors
    cameras: Indices  # [n], place of each entry's camera in the centres
    reference: Floats | None  # [cameras, p, d], subtracted before quantisation; None: nothing
    weights: Floats  # [p], roots of the parts' weights
    by_length: Floats  # [p, n], roots of the weights by the lengths of centred parts
    bounds: Floats  # [n], of the error of a distance
    moved: Floats | None  # [cameras, p, d], of the centres since; None: not at all

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

        def blocks() -> Iterator[Floats]:
            for start in range(0, len(entries), BLOCK):
                block = entries[start : start + BLOCK]
                centred = None if centres is None else centres[cameras[start : start + BLOCK]]
                yield block.copy() if centred is None else block - centred

        empty = np.empty(0, np.float32)
        made = cls(QuantisedVectors(blocks()), cameras, centres, weights, empty, empty, None)
        return made.centred(centres)

    def centred(self, centres: Floats | None) -> QuantisedEntries:
        """Return the entries under other means of the cameras, [cameras, p, d]; None: of none."""
        vectors, unsure = self.vectors, np.zeros(1, np.float32)  # share of a length
        lengths = vectors.lengths
        moved = _difference(centres, self.reference)
        if moved is not None and moved.any():
            squares = np.square(moved).sum(axis=2).T[:, self.cameras]  # [p, n]
            square = lengths * lengths - 2 * self._products_with_own(moved) + squares
            lengths = np.sqrt(np.maximum(square, _LEAST * _LEAST))
            slack = vectors.errors + vectors.query_error * vectors.lengths
            unsure = np.sqrt(squares) * slack / np.maximum(lengths, _LEAST) ** 2
        else:
            moved = None
        lengths = np.maximum(lengths, _LEAST)
        of_query = vectors.query_error * (vectors.lengths + vectors.errors)
        share = np.minimum((vectors.errors + of_query) / lengths + 2 * unsure, 2)
        bounds = np.square(self.weights) @ share + _ROUNDING
        by_length: Floats = self.weights[:, None] / lengths
        return replace(self, by_length=by_length, bounds=bounds, moved=moved)

    @cached_property
    def _factors(self) -> Floats:
        return self.by_length * self.vectors.scales

    def distances(self, query: Floats) -> Floats:
        """Return the distance of a projected query [p, d] to every entry, to within `bounds`."""
        similarity = self.vectors.weighted_sums(query, self._factors)
        if self.moved is not None:
            of_cameras = np.einsum("pd,cpd->pc", query, self.moved)
            for by_length, of_camera in zip(self.by_length, of_cameras, strict=True):
                similarity -= by_length * of_camera[self.cameras]
        return np.asarray(1 - similarity, np.float32)

    def _products_with_own(self, moved: Floats) -> Floats:
        """Return the products of each entry with the displacement of its camera, [p, n]."""
        own = np.zeros_like(self.vectors.lengths)
        for camera in np.flatnonzero(moved.any(axis=(1, 2))):
            mine = self.cameras == camera
            own[:, mine] = self.vectors.products(moved[camera][None])[0][:, mine]
        return own


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
        moved = Quantised(
            tuple(entries.centred(plain.centres) for entries in self.quantised.entries),
            self.quantised.searches,
        )
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
        bounds = [entries.bounds for entries in quantised.entries]
        lower = [x - bound for x, bound in zip(found, bounds, strict=True)]
        upper = self._by_person([x + bound for x, bound in zip(found, bounds, strict=True)])
        count = min(count, len(upper))
        furthest = np.partition(upper, count - 1)[count - 1]
        exact = [np.full(len(x), np.inf, np.float32) for x in found]
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
        return self.starts, np.searchsorted(self.walk_starts, self.starts)

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
