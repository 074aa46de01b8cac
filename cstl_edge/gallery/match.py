"""Exact part-mean matching in numpy, and the open-set decision with its threshold.

The distance is the mean over parts of the Euclidean distance between part embeddings; a person is
as near as the nearest of their templates. All templates are held as float32 [p, d, n]: one
vector-matrix product per part then reads them once, in order (13 ms for 10,000 of 32x256 on one
core, where [p, n, d] takes 29). Letters: k queries, n templates, p parts, d embedding dimensions.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from cstl_edge.arrays import Doubles, Floats
from cstl_edge.errors import ModelError

MODEL_PEOPLE = 20  # up to so many the model's table gives the threshold, above them the gallery
MAX_PROBES = 512  # templates searched for the gallery's own scores: 3 s at 10,000 of 32x256

# |a-b|^2 = |a|^2 + |b|^2 - 2ab loses digits when a is near b: its error is at most d * 2^-24 of
# |a|^2 + |b|^2, 1.5e-5 at d = 256. Below 1/128 of that sum the difference is taken instead, so
# that a distance is right to 1e-3 in the worst case and to about 1e-5 in the usual one.
_NEAR = np.float32(1 / 128)
_FEW = 16  # queries below which one product each is faster than a product of matrices
_BLOCK = 64  # queries or near pairs at once: keeps temporary arrays small


class Threshold(NamedTuple):
    """The distance below which a match counts, and where it comes from."""

    value: float | None
    source: str  # one of model, gallery, given, none
    note: str | None = None  # a limit of this threshold, in words


class NoMatch(str, Enum):
    """Reason why a search names nobody; the values are shown to people and stand in events."""

    NO_GALLERY = "no gallery"  # there is no gallery to search
    GALLERY_EMPTY = "gallery is empty"  # nobody is enrolled
    NOT_FINITE = "embedding is not finite"  # it holds a NaN or an infinity
    NO_CALIBRATION = "no calibration"  # no threshold for the wanted rate
    TOO_FAR = "nearest is too far"  # beyond the threshold
    AMBIGUOUS = "ambiguous"  # two people are equally near

    __str__ = str.__str__  # in texts it is its sentence


@dataclass(frozen=True, kw_only=True)
class Decision:
    """The answer to "who is this?"; `name` None means unknown, for the given `reason`."""

    name: str | None = None
    distance: float | None = None  # to the nearest person, named or not; None: nothing to compare
    threshold: float | None
    runner_up: str | None = None  # the nearest other person
    margin: float | None = None  # distance of the runner-up minus `distance`
    threshold_source: str  # one of model, gallery, given, none
    fpir: float  # the requested false-positive identification rate
    people: int  # how many people were searched
    reason: NoMatch | None = None
    nearest: str | None = None  # the person at `distance`; `name` when that is near enough
    note: str | None = None  # a limit of the threshold, in words


class ImpostorTable:
    """The shipped thresholds of a model by templates per person, gallery size and rate."""

    def __init__(self, impostors: Mapping[str, Any]) -> None:
        """Read {"walks": [k], "sizes": [i], "fpir": [j], "threshold": [k][i][j]}.

        Without "walks" the thresholds [i][j] hold for one template per person. Raises ModelError.
        """
        try:
            one_walk = "walks" not in impostors
            self.walks = np.asarray(impostors.get("walks", [1]), np.float64)
            self.sizes = np.asarray(impostors["sizes"], np.float64)
            self.fpir = np.asarray(impostors["fpir"], np.float64)
            threshold = impostors["threshold"]
            self.threshold = np.asarray([threshold] if one_walk else threshold, np.float64)
        except (AttributeError, KeyError, TypeError, ValueError) as err:
            raise ModelError(
                f"the model's impostor table cannot be read ({err}): re-export"
            ) from err
        axes = (self.walks, self.sizes, self.fpir)
        rising = all(a.ndim == 1 and a.size and (np.diff(a, prepend=0) > 0).all() for a in axes)
        expected = tuple(axis.size for axis in axes)
        if not (rising and self.threshold.shape == expected and (self.threshold > 0).all()):
            raise ModelError(
                "the model's impostor table is malformed: expected rising walks, sizes and rates,"
                f" and a positive threshold for each, got {self.threshold.shape} thresholds:"
                " re-export"
            )

    def threshold_at(self, people: int, fpir: float, walks: float = 1) -> Threshold:
        """Return the threshold; outside the table that of the nearest edge, with a note.

        Args:
            people: Number of people enrolled.
            fpir: Requested rate, 0..1.
            walks: Templates per person; several windows of one walk are alike, so that counting
                them as walks errs on the side of `unknown`.
        """
        outside = [
            f"{name} {value:g} is {'below' if value < axis[0] else 'above'} the model's table:"
            f" taken for {min(max(value, axis[0]), axis[-1]):g}"
            for name, value, axis in (("people", people, self.sizes), ("fpir", fpir, self.fpir))
            if not axis[0] <= value <= axis[-1]
        ]
        return Threshold(self._value(people, fpir, walks), "model", "; ".join(outside) or None)

    def _value(self, people: float, fpir: float, walks: float) -> float:
        """Interpolate a threshold in the logarithms of all three axes, never beyond the edges."""

        def interpolate(value: float, axis: Doubles, heights: list[float]) -> float:
            return float(np.interp(np.log(value), np.log(axis), heights))

        by_walks = []
        for rows in self.threshold:
            by_size = [interpolate(fpir, self.fpir, row) for row in rows]
            by_walks.append(interpolate(people, self.sizes, by_size))
        return interpolate(walks, self.walks, by_walks)


@dataclass(frozen=True)
class TemplateIndex:
    """All templates in memory, grouped by person; searched by brute force."""

    names: tuple[str, ...]
    starts: npt.NDArray[np.intp]  # [people]: where the templates of each begin
    templates: Floats  # [p, d, n], contiguous

    @cached_property
    def norms(self) -> Floats:
        """Squared length of every part of every template, [p, n]."""
        return np.stack([np.einsum("dn,dn->n", part, part) for part in self.templates])

    def template_distances(self, queries: Floats) -> Floats:
        """Return the part-mean distance from queries [k, p, d] to every template, [k, n]."""
        by_part = np.ascontiguousarray(queries.transpose(1, 0, 2))  # [p, k, d]
        total = np.zeros((len(queries), self.templates.shape[2]), np.float32)
        for part, norms, query in zip(self.templates, self.norms, by_part, strict=True):
            total += _euclidean(part, norms, query)
        return total / np.float32(len(self.templates))

    def person_distances(self, queries: Floats) -> Floats:
        """Return the distance from queries [k, p, d] to everyone's nearest template [k, people]."""
        nearest = np.empty((len(queries), len(self.names)), np.float32)
        for start in range(0, len(queries), _BLOCK):
            block = slice(start, start + _BLOCK)
            distances = self.template_distances(queries[block])
            nearest[block] = np.minimum.reduceat(distances, self.starts, axis=1)
        return nearest

    @cached_property
    def impostor_scores(self) -> Floats:
        """Each person's distance to the nearest other person, rising, [people] (≤ MAX_PROBES).

        A score is the smallest distance of one person's templates to all other people: an impostor
        search of n - 1 people that errs on the side of `unknown`.
        """
        people = _spread(len(self.names), MAX_PROBES)
        ends = np.append(self.starts[1:], self.templates.shape[2])
        per_person = max(1, MAX_PROBES // len(people))
        probes = [self.starts[i] + _spread(ends[i] - self.starts[i], per_person) for i in people]
        owner = np.repeat(np.arange(len(people)), [len(columns) for columns in probes])
        columns = np.concatenate(probes)
        queries = self.templates[:, :, columns].transpose(2, 0, 1)  # [k, p, d]
        distances = self.person_distances(queries)
        distances[np.arange(len(columns)), people[owner]] = np.inf
        scores = np.full(len(people), np.inf, np.float32)
        np.minimum.at(scores, owner, distances.min(axis=1))
        return np.sort(scores)


def choose_threshold(index: TemplateIndex, table: ImpostorTable | None, fpir: float) -> Threshold:
    """Find the distance that an impostor falls below with probability `fpir` in this gallery.

    Up to MODEL_PEOPLE people it comes from the model's table, above from the gallery's own impostor
    scores: as many of them lie below the threshold as `fpir` allows. When it allows none, the
    smallest score is extrapolated to `fpir` along the model's curve; without a table the smallest
    score is the threshold. A note reports both cases.

    Args:
        index: Templates of the gallery.
        table: Impostor table of the model, None when it ships none.
        fpir: Requested false-positive identification rate, 0..1.
    """
    people = len(index.names)
    each = index.templates.shape[2] / people
    if people <= MODEL_PEOPLE:
        return table.threshold_at(people, fpir, each) if table else Threshold(None, "none")
    scores = index.impostor_scores
    allowed = int(fpir * len(scores) + 1e-9)
    value = float(scores[allowed])
    if allowed:
        return Threshold(value, "gallery")
    cannot = f"{len(scores)} scores of this gallery cannot show a rate of {fpir:g}: the smallest"
    if table is None:
        return Threshold(value, "gallery", f"{cannot} is the threshold")
    value *= table._value(people, fpir, each) / table._value(people, 1 / len(scores), each)
    return Threshold(value, "gallery", f"{cannot} is carried there along the model's curve")


def decide(index: TemplateIndex, queries: Floats, threshold: Threshold, fpir: float) -> Decision:
    """Name the nearest person, if near enough.

    The distance to a person is the mean over windows of that to their nearest template. Two people
    at exactly the same distance (one walker under two names) are ambiguous: neither is named.

    Args:
        index: Templates of the gallery.
        queries: Embeddings of windows of one walk, [k, p, d].
        threshold: Distance below which a match counts.
        fpir: Rate that the threshold is for; it is only reported.
    """
    distances = index.person_distances(queries).mean(axis=0)  # [people]
    order = np.argsort(distances, kind="stable")[:2]
    best, *others = (float(distances[i]) for i in order)
    nearest, *runners_up = (index.names[i] for i in order)
    reason: NoMatch | None = None
    if threshold.value is None:
        reason = NoMatch.NO_CALIBRATION
    elif not best < threshold.value:
        reason = NoMatch.TOO_FAR
    elif others and others[0] == best:
        reason = NoMatch.AMBIGUOUS
    return Decision(
        name=None if reason else nearest,
        distance=best,
        threshold=threshold.value,
        runner_up=runners_up[0] if others else None,
        margin=others[0] - best if others else None,
        threshold_source=threshold.source,
        fpir=fpir,
        people=len(index.names),
        reason=reason,
        nearest=nearest,
        note=threshold.note,
    )


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


def _spread(count: int, most: int) -> npt.NDArray[np.intp]:
    """Return 0..count-1, or `most` of them evenly spaced."""
    return np.unique(np.linspace(0, count - 1, min(count, most)).astype(np.intp))
