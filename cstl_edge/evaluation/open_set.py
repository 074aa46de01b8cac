"""Open-set evaluation: FNIR at a given FPIR.

Definitions of ISO/IEC 19795-1: FPIR(T) is the share of non-mated searches with an entry nearer than
T, FNIR(N, R=1, T) that of mated searches whose person is not the nearest of the N enrolled, or not
nearer than T. The nearest entry of a person counts. A split draws half of the people to be
enrolled. A sequence that failed to enroll is a miss when it is searched and never an alarm.
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
        trials: Probes and gallery of the protocol `open-set`.
        fpirs: Wanted false-positive identification rates, 0..1.
        splits: Number of splits, each a random half of the people who are enrolled.
        seed: Seed of splits and bootstrap.
        draws: Number of resamples of people for the intervals.

    Raises:
        ConfigError: A rate is not within 0..1.
        DataError: Fewer than 4 people can be enrolled.
    """
    if not fpirs or not all(0 < rate < 1 for rate in fpirs):
        raise ConfigError(f"expected rates between 0 and 1, got {list(fpirs)}")
    searches = run_searches(labelled, trials, splits, seed)
    mated = np.array([known[searches.people].sum() for known in searches.known])
    non_mated = len(searches.people) - mated
    if not min(mated.min(), non_mated.min()):
        raise DataError(
            "protocol open-set: expected probes of enrolled people and of strangers in every split,"
            f" got at least {mated.min()} and {non_mated.min()} among {len(searches.people)}"
        )
    weights = drawn_people(searches.known.shape[1], seed, draws)  # [draws, people]
    provable = 3 / int(non_mated.min())
    return {
        "splits": splits,
        "gallery_people": int(searches.known[0].sum()),
        "strangers": int((~searches.known[0]).sum()),
        "mated_searches": int(mated.min()),
        "non_mated_searches": int(non_mated.min()),
        "provable_fpir": round(provable, 5),
        "errors": _rows(searches, np.array(fpirs, np.float64), weights, provable),
        "det": _curve(searches, int(non_mated.min())),
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
        seed: Seed of the resampling.
        draws: Number of resamples.

    Raises:
        ValueError: People or splits differ.
    """
    if not (np.array_equal(a.people, b.people) and np.array_equal(a.known, b.known)):
        raise ValueError("expected searches of the same people in the same splits")
    once = np.ones((1, a.known.shape[1]))  # everybody once: the value itself
    weights = np.concatenate([once, drawn_people(a.known.shape[1], seed, draws)])
    rates = np.array([fpir], np.float64)
    gain = _errors(a, rates, weights)[:, 0, 1] - _errors(b, rates, weights)[:, 0, 1]  # [1 + draws]
    low, high = np.nanquantile(gain[1:], [0.025, 0.975])
    return float(gain[0]), (float(low), float(high))


def _rows(
    searches: Searches, rates: Doubles, weights: Doubles, provable: float
) -> list[OpenSetErrors]:
    """Return FPIR, FNIR, interval and threshold at each wanted rate."""
    points = _errors(searches, rates, np.ones((1, weights.shape[1])))[0]  # [rates, 3]
    spread = np.nanquantile(_errors(searches, rates, weights)[..., 1], [0.025, 0.975], axis=0)
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
    """Search every probe in the gallery of every split.

    Args:
        labelled: m embedded sequences with their labels.
        trials: Probes and gallery of the protocol `open-set`.
        splits: Number of splits, each a random half of the people who are enrolled.
        seed: Seed of the splits.

    Raises:
        DataError: Fewer than 4 people can be enrolled.
    """
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
    can_enrol = np.flatnonzero(np.isin(ids, enrolled))  # indices of ids
    for row in known:  # half of those who can be enrolled, drawn for every split
        row[rng.choice(can_enrol, len(can_enrol) // 2, replace=False)] = True
    in_gallery = known[:, np.searchsorted(ids, enrolled)]  # [splits, enrolled]
    person_index = np.searchsorted(ids, labelled.people[probes])
    mate = np.full((splits, len(probes)), np.inf, np.float32)
    stranger = np.full_like(mate, np.inf)
    for rows, distance in distance_rows(labelled, probes, trials.gallery[order]):
        nearest = np.minimum.reduceat(distance, starts, axis=1)  # [i, enrolled]
        is_own = enrolled[None] == labelled.people[probes[rows], None]
        for split in range(splits):
            enrolled_distance = np.where(in_gallery[split], nearest, np.inf)
            stranger[split, rows] = np.where(is_own, np.inf, enrolled_distance).min(axis=1)
            own_distance = np.where(is_own, enrolled_distance, np.inf).min(axis=1)
            is_nearest = own_distance < stranger[split, rows]  # a tie with another person is a miss
            mate[split, rows] = np.where(is_nearest, own_distance, np.inf)
    return Searches(person_index, known, mate, stranger)


def _errors(searches: Searches, rates: Doubles, weights: Doubles) -> Doubles:
    """Return FPIR, FNIR and threshold at each wanted rate, means over splits: [draws, rates, 3].

    weights: [draws, people], how often each person counts
    """
    total = np.zeros((len(weights), len(rates), 3))
    for known, mate, stranger in zip(searches.known, searches.mate, searches.stranger, strict=True):
        mated = known[searches.people]
        strangers, mates = np.flatnonzero(~mated), np.flatnonzero(mated)
        strangers = strangers[np.argsort(stranger[strangers], kind="stable")]
        mates = mates[np.argsort(mate[mates], kind="stable")]
        stranger_sorted, mate_sorted = stranger[strangers], mate[mates]
        for draw, weight in enumerate(weights):
            alarms = np.cumsum(weight[searches.people[strangers]])
            hits = np.cumsum(weight[searches.people[mates]])
            total[draw] += _at_rates(stranger_sorted, alarms, mate_sorted, hits, rates)
    return total / len(searches.known)


def _at_rates(
    stranger_sorted: Floats, alarms: Doubles, mate_sorted: Floats, hits: Doubles, rates: Doubles
) -> Doubles:
    """Return FPIR, FNIR and threshold of one split at each rate: [rates, 3].

    stranger_sorted, mate_sorted: distances in rising order
    alarms, hits: weighted number of searches up to and with each of these distances
    """
    with np.errstate(invalid="ignore"):  # a draw may hold no stranger or no known person: NaN
        allowed = np.searchsorted(alarms, rates * alarms[-1] + 1e-9, side="right")
        threshold = np.append(stranger_sorted, np.inf)[allowed]
        fpir = _count_below(stranger_sorted, alarms, threshold) / alarms[-1]
        fnir = 1 - _count_below(mate_sorted, hits, threshold) / hits[-1]
    return np.stack([fpir, fnir, threshold], axis=1)


def _count_below(ordered: Floats, counts: Doubles, threshold: Floats) -> Doubles:
    """Count the sorted distances below each threshold; `counts` are cumulative."""
    below: Doubles = np.append(0.0, counts)[np.searchsorted(ordered, threshold, side="left")]
    return below


def _curve(searches: Searches, non_mated: int) -> list[dict[str, float | None]]:
    """Return the DET curve from one alarm in all non-mated searches to nearly all of them."""
    rates = np.asarray(np.geomspace(1 / non_mated, 0.999, DET_POINTS), np.float64)
    points = _errors(searches, rates, np.ones((1, searches.known.shape[1])))[0]
    return [
        {"fpir": round(float(x), 6), "fnir": round(float(y), 6), "threshold": _finite(threshold)}
        for x, y, threshold in points
    ]


def _finite(threshold: float) -> float | None:
    """Return a threshold for JSON: None where every distance may pass."""
    return round(float(threshold), 5) if np.isfinite(threshold) else None
