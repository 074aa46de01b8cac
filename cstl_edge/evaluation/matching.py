"""Closed-set figures of a protocol, with intervals over people.

The mean is that of the field: over the probes of a pair of views, then over the other gallery
views, then over the probe views. A bootstrap draws people and does all of it again. (`closed_set`
takes the mean of each person first, which is the same where nobody misses a sequence.)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from cstl_edge.errors import DataError
from cstl_edge.evaluation.intervals import drawn_people
from cstl_edge.evaluation.protocols import BY_PAIR, WHOLE, Trials
from cstl_edge.evaluation.ranking import METRICS, scores
from cstl_edge.evaluation.walks import Bools, Rows, Walks

DRAWS = 500
DIGITS = 4

Numbers = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Cells:
    """Sums of METRICS and numbers of probes by person and pair of views."""

    sums: Numbers  # [people, probe views, gallery views, metrics]
    counts: Numbers  # [people, probe views, gallery views]
    unmated: int
    """Probes whose person is not in the gallery that they were searched in."""


def match(walks: Walks, trials: Trials, *, seed: int = 0, draws: int = DRAWS) -> dict[str, Any]:
    """Return METRICS of every condition, and of their mean, with 95 % intervals; fit for JSON.

    Shares are in 0..1; `per_view` is rank-1 by probe view. Raises DataError when no pair of views
    has a probe that counts.
    """
    probed = np.concatenate(list(trials.probes.values()))
    people = np.unique(walks.people[probed])
    weights = drawn_people(len(people), seed, draws)  # [draws, people]
    conditions: dict[str, Any] = {}
    means, drawn = [], []
    for name, probes in trials.probes.items():
        cells = count(walks, trials, probes, people)
        by_view, mean = _averages(cells.sums.sum(0)[None], cells.counts.sum(0)[None])
        resampled = _resampled(cells, weights)
        if np.isnan(mean[0]).any():
            raise DataError(
                f"protocol {trials.protocol}: expected somebody who is both searched and in the "
                f"gallery ({trials.said}), got nobody among {len(probes)} probes"
            )
        means.append(mean[0])
        drawn.append(resampled)
        conditions[name] = {
            "probes": len(probes),
            "people": len(np.unique(walks.people[probes])),
            "unmated": cells.unmated,
            **_told(mean[0], resampled),
            "per_view": _per_view(walks, trials, probes, by_view[0, :, 0]),
        }
    return {
        "conditions": conditions,
        "mean": _told(np.mean(means, axis=0), np.mean(drawn, axis=0)),
    }


def count(walks: Walks, trials: Trials, probes: Rows, people: Rows) -> Cells:
    """Score the probes of one condition.

    people: sorted ids, the first axis of what is returned
    """
    probe_views = _views(walks, probes, trials.averaged == WHOLE)
    gallery_views = _views(walks, trials.gallery, trials.averaged != BY_PAIR)
    shape = (len(people), len(probe_views), len(gallery_views))
    sums, counts, unmated = np.zeros((*shape, len(METRICS))), np.zeros(shape), 0
    for i, (view, searched) in enumerate(probe_views.items()):
        who = np.searchsorted(people, walks.people[searched])
        for j, (other, entries) in enumerate(gallery_views.items()):
            if trials.averaged == BY_PAIR and view == other:
                continue
            found, mated = scores(walks, searched, entries)
            unmated += int((~mated).sum())
            kept: Bools = mated if trials.drop_unmated else np.ones_like(mated)
            np.add.at(sums[:, i, j], who[kept], found[kept])
            np.add.at(counts[:, i, j], who[kept], 1)
    return Cells(sums, counts, unmated)


def _views(walks: Walks, rows: Rows, together: bool) -> dict[int, Rows]:
    """Return the rows by view, or all of them as one."""
    if together:
        return {-1: rows}
    views = walks.views_deg[rows]
    return {view: rows[views == view] for view in sorted(set(views.tolist()))}


def _averages(sums: Numbers, counts: Numbers) -> tuple[Numbers, Numbers]:
    """Return the means by probe view [k, views, metrics] and over them [k, metrics].

    sums: [k, probe views, gallery views, metrics]; counts: [k, probe views, gallery views]
    A pair of views without probes is left out.
    """
    pairs = np.divide(
        sums, counts[..., None], out=np.full(sums.shape, np.nan), where=counts[..., None] > 0
    )
    by_view = _mean(pairs, axis=2)
    return by_view, _mean(by_view, axis=1)


def _mean(values: Numbers, axis: int) -> Numbers:
    """Return the mean of what is not NaN; NaN, in silence, where nothing is left."""
    there = ~np.isnan(values)
    number = there.sum(axis)
    total = np.where(there, values, 0).sum(axis)
    mean: Numbers = np.divide(total, number, out=np.full(total.shape, np.nan), where=number > 0)
    return mean


def _resampled(cells: Cells, weights: Numbers) -> Numbers:
    """Return the mean of every draw of people [draws, metrics]."""
    people, *rest = cells.sums.shape
    sums = (weights @ cells.sums.reshape(people, -1)).reshape(-1, *rest)
    counts = (weights @ cells.counts.reshape(people, -1)).reshape(-1, *rest[:-1])
    return _averages(sums, counts)[1]


def _told(mean: Numbers, drawn: Numbers) -> dict[str, Any]:
    """Return the metrics by name, each with its interval."""
    told: dict[str, Any] = {}
    ends = np.nanquantile(drawn, [0.025, 0.975], axis=0)  # [2, metrics]
    for k, metric in enumerate(METRICS):
        told[metric] = round(float(mean[k]), DIGITS)
        told[f"{metric}_95"] = [round(float(end), DIGITS) for end in ends[:, k]]
    return told


def _per_view(walks: Walks, trials: Trials, probes: Rows, rank1: Numbers) -> dict[int, Any]:
    if trials.averaged == WHOLE:
        return {}
    views = sorted(set(walks.views_deg[probes].tolist()))
    shown = zip(views, rank1, strict=True)
    return {view: None if np.isnan(x) else round(float(x), DIGITS) for view, x in shown}
