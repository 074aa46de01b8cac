"""Open-set decision: who of a gallery a walk belongs to, if anybody.

With `cosine` a walk is the mean embedding of everything seen of it; the distance to a person is
that to the nearest of their templates and of the means of their walks, fused with that to the walks
together (`fusion`) where the model says so. With `euclidean`, of folders without matching
statistics, it is the mean over the newest windows of the distance to the nearest template.
Letters: k windows, p parts, d embedding dimensions.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from enum import Enum

import numpy as np

from cstl_edge.arrays import Floats
from cstl_edge.gallery.confidence import ConfidenceCurve
from cstl_edge.gallery.index import TemplateIndex
from cstl_edge.gallery.thresholds import Threshold


class NoMatch(str, Enum):
    """Reason why a search names nobody; the values are shown to people and stand in events."""

    NO_GALLERY = "no gallery"  # there is no gallery to search
    GALLERY_EMPTY = "gallery is empty"  # nobody is enrolled
    NOT_FINITE = "embedding is not finite"  # it holds a NaN or an infinity
    NO_CALIBRATION = "no calibration"  # no threshold for the wanted rate
    TOO_FAR = "nearest is too far"  # beyond the threshold
    AMBIGUOUS = "ambiguous"  # two people are equally near
    CORRECTED = "a correction says who it is not"  # and nobody else is near enough

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
    confidence: float | None = None
    """How often answers like it are right, 0..1 (`gallery.confidence`); None: not calibrated."""


@dataclass(frozen=True)
class SeenWalk:
    """Everything seen of one walk."""

    windows: Floats  # [k, p, d], the newest; they overlap by half at most
    mean: Floats  # [p, d], over all windows, earlier ones too
    seen: float  # windows that do not overlap, at least 1

    @classmethod
    def of_windows(cls, windows: Floats, seen: float | None = None) -> SeenWalk:
        """Return the walk of windows [k, p, d].

        Args:
            windows: Embeddings [k, p, d].
            seen: How many windows it would be without overlap; by default each overlaps the last
                by half.
        """
        return cls(windows, windows.mean(axis=0), seen or (len(windows) + 1) / 2)


@dataclass(frozen=True)
class RuledOut:
    """A walk that, somebody said, is not of this person."""

    name: str
    embedding: Floats  # [p, d], the mean of the walk
    camera: str | None = None  # that saw it


def walk_query(index: TemplateIndex, walk: SeenWalk, centre: Floats | None) -> Floats:
    """Return the queries [k, p, d] of a walk, over whose distances the mean is taken.

    Args:
        index: Templates of the gallery, with its distance.
        walk: What was seen.
        centre: [p, d], the mean to subtract from it, of its camera; `cosine` only.
    """
    if index.distance.name == "euclidean":
        return walk.windows
    return index.distance.project(walk.mean[None], centre)  # [1, p, d]


def walk_distances(index: TemplateIndex, walk: SeenWalk, centre: Floats | None) -> Floats:
    """Return the distance of a walk to every person of an index: [people].

    Args:
        index: Templates of the gallery, with its distance.
        walk: What was seen.
        centre: [p, d], the mean to subtract from it, of its camera; `cosine` only.
    """
    distances = index.person_distances(walk_query(index, walk, centre))
    return np.asarray(distances.mean(axis=0), np.float32)


def decide(
    index: TemplateIndex,
    distances: Floats,
    threshold: Threshold,
    fpir: float,
    *,
    seen: float = 1,
    curve: ConfidenceCurve | None = None,
    ruled_out: Collection[str] = (),
) -> Decision:
    """Name the nearest person, if near enough.

    Two people at exactly the same distance (one walker under two names) are ambiguous: neither is
    named. Who is ruled out is nobody's nearest and nobody's runner-up.

    Args:
        index: Templates of the gallery.
        distances: Distance to every person, [people].
        threshold: Distance below which a match counts.
        fpir: Rate that the threshold is for; it is only reported.
        seen: Windows of the walk that do not overlap.
        curve: The model's confidence curve.
        ruled_out: Names of people who it is not.
    """
    ranking = np.argsort(distances, kind="stable")
    order = [i for i in ranking if index.names[i] not in ruled_out][:2]
    if not order:
        return _nobody_left(index, threshold, fpir)
    best, *others = (float(distances[i]) for i in order)
    nearest, *runners_up = (index.names[i] for i in order)
    reason = _reason(best, others, threshold)
    if reason is NoMatch.TOO_FAR and ruled_out and distances[ranking[0]] < (threshold.value or 0):
        reason = NoMatch.CORRECTED
    decision = Decision(
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
    if curve is None:
        return decision
    return replace(decision, confidence=_confidence(decision, curve, seen))


def _reason(best: float, others: list[float], threshold: Threshold) -> NoMatch | None:
    """Return why the nearest person is not named, None where they are."""
    if threshold.value is None:
        return NoMatch.NO_CALIBRATION
    if not best < threshold.value:
        return NoMatch.TOO_FAR
    return NoMatch.AMBIGUOUS if others and others[0] == best else None


def _nobody_left(index: TemplateIndex, threshold: Threshold, fpir: float) -> Decision:
    return Decision(
        threshold=threshold.value,
        threshold_source=threshold.source,
        fpir=fpir,
        people=len(index.names),
        reason=NoMatch.CORRECTED,
        note=threshold.note,
    )


def _confidence(decision: Decision, curve: ConfidenceCurve, seen: float) -> float | None:
    """Return how often answers like a decision are right, None where it is no answer."""
    if decision.distance is None or decision.reason not in (None, NoMatch.TOO_FAR):
        return None
    nearest = curve.is_nearest(decision.distance, decision.margin, seen, decision.people)
    return nearest if decision.reason is None else 1 - nearest
