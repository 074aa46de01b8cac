"""Open set: how often a known person is missed (FNIR) where strangers get a name so rarely (FPIR).

As in ISO/IEC 19795-1: FPIR(T) is the share of non-mated searches with an entry nearer than T,
FNIR(N, R=1, T) that of mated searches whose person is not the nearest of the N enrolled, or not
nearer than T. The nearest entry of a person counts. Half of the people are drawn to be enrolled,
several times. A sequence that failed to enrol is a miss when it is searched and never an alarm.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypedDict

import numpy as np

from cstl_edge.arrays import Bools, Doubles, Floats, Indices
from cstl_edge.errors import ConfigError, DataError
from cstl_edge.evaluation.closed_set import DIGITS, DRAWS
from cstl_edge.evaluation.embeddings import LabelledEmbeddings, distance_rows
from cstl_edge.evaluation.intervals import drawn_people
from cstl_edge.evaluation.protocols import Trials

FPIRS = (0.001, 0.003, 0.01, 0.1)
SPLITS = 10
LEAST_PEOPLE = 4
DET_POINTS = 60


class OpenSetErrors(TypedDict):
    """Error rates at one wanted FPIR; a threshold of None accepts every distance."""

    fpir: float
    fnir: float
    threshold: float | None
    fpir_wanted: float
    fnir_95: list[float]
    provable: bool


class OpenSetRecord(TypedDict, total=False):
    """Error rates and DET curve, means over the splits; numbers of searches are the smallest."""

    splits: int
    gallery_people: int
    strangers: int
    mated_searches: int
    non_mated_searches: int
    provable_fpir: float
    errors: list[OpenSetErrors]
    det: list[dict[str, float | None]]  # points of `fpir`, `fnir` and `threshold`


@dataclass(frozen=True)
class Searches:
    """Distances of every search in every split; infinite where there is none."""

    people: Indices  # [probes], index of the searched person
    known: Bools  # [splits, people]
    mate: Floats  # [splits, probes], own distance where it is the smallest of all
    stranger: Floats  # [splits, probes], smallest distance to another person who is enrolled


def evaluate_open_set(
    labelled: LabelledEmbeddings,
    trials: Trials,
    fpirs: Sequence[float] = FPIRS,
    *,
    splits: int = SPLITS,
    seed: int = 0,
    draws: int = DRAWS,
) -> OpenSetRecord:
    """Evaluate FNIR at each wanted FPIR with 95 % intervals over people, and a DET curve.

    Thresholds are distances. Each is the largest at which the non-mated searches of the same split
    stay within the wanted rate; results are means over the splits. A rate below `provable_fpir`, 3
    divided by the non-mated searches, cannot be proved: none of them may be wrong by luck alone.

    Args:
        labelled: m embedded sequences with their labels.
        trials: Of the protocol `open-set`.
        fpirs: Wanted false-positive identification rates, 0..1.
        splits: Random halves of the people who are enrolled.
        seed: Of splits and bootstrap.
        draws: Of people, for the intervals.

    Raises:
        ConfigError: A rate is not within 0..1.
        DataError: Fewer than 4 people can be enrolled.
    """
    if not fpirs or not all(0 < rate < 1 for rate in fpirs):
        raise ConfigError(f"expected rates between 0 and 1, got {list(fpirs)}")
    searched = run_searches(labelled, trials, splits, seed)
    mated = np.array([known[searched.people].sum() for known in searched.known])
    others = len(searched.people) - mated
    if not min(mated.min(), others.min()):
        raise DataError(
            "protocol open-set: expected probes of enrolled people and of strangers in every split,"
            f" got at least {mated.min()} and {others.min()} among {len(searched.people)}"
        )
    weights = drawn_people(searched.known.shape[1], seed, draws)  # [draws, people]
    provable = 3 / int(others.min())
    return {
        "splits": splits,
        "gallery_people": int(searched.known[0].sum()),
        "strangers": int((~searched.known[0]).sum()),
        "mated_searches": int(mated.min()),
        "non_mated_searches": int(others.min()),
        "provable_fpir": round(provable, 5),
        "errors": _rows(searched, np.array(fpirs, np.float64), weights, provable),
        "det": _curve(searched, int(others.min())),
    }


def compare_fnir(
    a: Searches, b: Searches, fpir: float, *, seed: int = 0, draws: int = DRAWS
) -> tuple[float, tuple[float, float]]:
    """Return FNIR of `a` minus FNIR of `b` at a wanted FPIR, and its 95 % interval.

    The interval is that of a paired bootstrap over people.

    Args:
        a: Searches of the first model.
        b: Searches of the second, of the same people in the same splits.
        fpir: Wanted false-positive identification rate; each model has its own thresholds.
        seed: Of the draws.
        draws: Number of resamples.

    Raises:
        ValueError: People or splits differ.
    """
    if not (np.array_equal(a.people, b.people) and np.array_equal(a.known, b.known)):
        raise ValueError("expected searches of the same people in the same splits")
    whole = np.ones((1, a.known.shape[1]))
    weights = np.concatenate([whole, drawn_people(a.known.shape[1], seed, draws)])
    rates = np.array([fpir], np.float64)
    gain = _errors(a, rates, weights)[:, 0, 1] - _errors(b, rates, weights)[:, 0, 1]  # [1 + draws]
    low, high = np.nanquantile(gain[1:], [0.025, 0.975])
    return float(gain[0]), (float(low), float(high))


def _rows(
    searched: Searches, rates: Doubles, weights: Doubles, provable: float
) -> list[OpenSetErrors]:
    """Return FPIR, FNIR, interval and threshold at each wanted rate."""
    points = _errors(searched, rates, np.ones((1, weights.shape[1])))[0]  # [rates, 3]
    spread = np.nanquantile(_errors(searched, rates, weights)[..., 1], [0.025, 0.975], axis=0)
    return [
        {
            "fpir_wanted": float(rate),
            "fpir": round(float(fpir), 5),
            "fnir": round(float(fnir), DIGITS),
            "fnir_95": [round(float(end), DIGITS) for end in ends],
            "threshold": _finite(threshold),
            "provable": bool(rate >= provable),
        }
        for rate, (fpir, fnir, threshold), ends in zip(rates, points, spread.T, strict=True)
    ]


def run_searches(
    labelled: LabelledEmbeddings, trials: Trials, splits: int = SPLITS, seed: int = 0
) -> Searches:
    """Search every probe in the gallery of every split. Raises DataError for too few people."""
    (probes,) = trials.probes.values()
    ids = np.union1d(labelled.people[trials.gallery], labelled.people[probes])
    enrolled, columns = np.unique(labelled.people[trials.gallery], return_inverse=True)
    if len(enrolled) < LEAST_PEOPLE:
        raise DataError(
            f"protocol open-set: expected a gallery of {LEAST_PEOPLE} people at least, got "
            f"{len(enrolled)}"
        )
    order = np.argsort(columns, kind="stable")
    starts = np.searchsorted(columns[order], np.arange(len(enrolled)))
    rng, known = np.random.default_rng(seed), np.zeros((splits, len(ids)), np.bool_)
    places = np.flatnonzero(np.isin(ids, enrolled))
    for row in known:  # half of those who can be enrolled, drawn for every split
        row[rng.choice(places, len(places) // 2, replace=False)] = True
    in_gallery = known[:, np.searchsorted(ids, enrolled)]  # [splits, enrolled]
    who = np.searchsorted(ids, labelled.people[probes])
    mate = np.full((splits, len(probes)), np.inf, np.float32)
    stranger = np.full_like(mate, np.inf)
    for some, distance in distance_rows(labelled.embeddings, probes, trials.gallery[order]):
        nearest = np.minimum.reduceat(distance, starts, axis=1)  # [i, enrolled]
        own = enrolled[None] == labelled.people[probes[some], None]
        for split in range(splits):
            there = np.where(in_gallery[split], nearest, np.inf)
            stranger[split, some] = np.where(own, np.inf, there).min(axis=1)
            mine = np.where(own, there, np.inf).min(axis=1)
            # a tie with somebody else is no answer
            mate[split, some] = np.where(mine < stranger[split, some], mine, np.inf)
    return Searches(who, known, mate, stranger)


def _errors(searched: Searches, rates: Doubles, weights: Doubles) -> Doubles:
    """Return FPIR, FNIR and threshold at each wanted rate, means over splits.

    weights: [draws, people], how often each person counts; returns [draws, rates, 3]
    """
    total = np.zeros((len(weights), len(rates), 3))
    for known, mate, stranger in zip(searched.known, searched.mate, searched.stranger, strict=True):
        mated = known[searched.people]
        strange, mates = np.flatnonzero(~mated), np.flatnonzero(mated)
        strange = strange[np.argsort(stranger[strange], kind="stable")]
        mates = mates[np.argsort(mate[mates], kind="stable")]
        near, far = stranger[strange], mate[mates]  # sorted
        for draw, weight in enumerate(weights):
            alarms = np.cumsum(weight[searched.people[strange]])
            rights = np.cumsum(weight[searched.people[mates]])
            total[draw] += _at_rates(near, alarms, far, rights, rates)
    return total / len(searched.known)


def _at_rates(
    near: Floats, alarms: Doubles, far: Floats, rights: Doubles, rates: Doubles
) -> Doubles:
    """Return FPIR, FNIR and threshold of one split at each rate: [rates, 3].

    near, far: sorted distances of strangers and of mates; alarms, rights: how many are as near
    """
    with np.errstate(invalid="ignore"):  # a draw may hold no stranger, or nobody known: NaN
        allowed = np.searchsorted(alarms, rates * alarms[-1] + 1e-9, side="right")
        threshold = np.append(near, np.inf)[allowed]
        fpir = _below(near, alarms, threshold) / alarms[-1]
        fnir = 1 - _below(far, rights, threshold) / rights[-1]
    return np.stack([fpir, fnir, threshold], axis=1)


def _below(ordered: Floats, counts: Doubles, threshold: Floats) -> Doubles:
    """Return how many of the sorted distances lie below each threshold."""
    below: Doubles = np.append(0.0, counts)[np.searchsorted(ordered, threshold, side="left")]
    return below


def _curve(searched: Searches, non_mated: int) -> list[dict[str, float | None]]:
    """Return the DET curve from one alarm in all non-mated searches to nearly all of them."""
    rates = np.asarray(np.geomspace(1 / non_mated, 0.999, DET_POINTS), np.float64)
    points = _errors(searched, rates, np.ones((1, searched.known.shape[1])))[0]
    return [
        {"fpir": round(float(x), 6), "fnir": round(float(y), 6), "threshold": _finite(threshold)}
        for x, y, threshold in points
    ]


def _finite(threshold: float) -> float | None:
    """Return a threshold fit for JSON: None where every distance may pass."""
    return round(float(threshold), 5) if np.isfinite(threshold) else None
