"""Closed set: rank-1 in the CASIA-B protocol (gallery nm-01..04, probes nm-05/06, bg, cl)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from cstl_edge.arrays import Bools, Doubles, Floats, Indices
from cstl_edge.errors import DataError
from cstl_edge.evaluation.embeddings import GALLERY, PROBES, Walks, distance_rows
from cstl_edge.evaluation.intervals import bootstrap, by_person, drawn_people
from cstl_edge.evaluation.protocols import BY_PAIR, WHOLE, Trials

DRAWS = 500
DIGITS = 4


@dataclass(frozen=True)
class Cells:
    """Sums of METRICS and numbers of probes by person and pair of views."""

    sums: Doubles  # [people, probe views, gallery views, metrics]
    counts: Doubles  # [people, probe views, gallery views]
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


def count(walks: Walks, trials: Trials, probes: Indices, people: Indices) -> Cells:
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


def _views(walks: Walks, rows: Indices, together: bool) -> dict[int, Indices]:
    """Return the rows by view, or all of them as one."""
    if together:
        return {-1: rows}
    views = walks.views_deg[rows]
    return {view: rows[views == view] for view in sorted(set(views.tolist()))}


def _averages(sums: Doubles, counts: Doubles) -> tuple[Doubles, Doubles]:
    """Return the means by probe view [k, views, metrics] and over them [k, metrics].

    sums: [k, probe views, gallery views, metrics]; counts: [k, probe views, gallery views]
    A pair of views without probes is left out.
    """
    pairs = np.divide(
        sums, counts[..., None], out=np.full(sums.shape, np.nan), where=counts[..., None] > 0
    )
    by_view = _mean(pairs, axis=2)
    return by_view, _mean(by_view, axis=1)


def _mean(values: Doubles, axis: int) -> Doubles:
    """Return the mean of what is not NaN; NaN, in silence, where nothing is left."""
    there = ~np.isnan(values)
    number = there.sum(axis)
    total = np.where(there, values, 0).sum(axis)
    mean: Doubles = np.divide(total, number, out=np.full(total.shape, np.nan), where=number > 0)
    return mean


def _resampled(cells: Cells, weights: Doubles) -> Doubles:
    """Return the mean of every draw of people [draws, metrics]."""
    people, *rest = cells.sums.shape
    sums = (weights @ cells.sums.reshape(people, -1)).reshape(-1, *rest)
    counts = (weights @ cells.counts.reshape(people, -1)).reshape(-1, *rest[:-1])
    return _averages(sums, counts)[1]


def _told(mean: Doubles, drawn: Doubles) -> dict[str, Any]:
    """Return the metrics by name, each with its interval."""
    told: dict[str, Any] = {}
    ends = np.nanquantile(drawn, [0.025, 0.975], axis=0)  # [2, metrics]
    for k, metric in enumerate(METRICS):
        told[metric] = round(float(mean[k]), DIGITS)
        told[f"{metric}_95"] = [round(float(end), DIGITS) for end in ends[:, k]]
    return told


def _per_view(walks: Walks, trials: Trials, probes: Indices, rank1: Doubles) -> dict[int, Any]:
    if trials.averaged == WHOLE:
        return {}
    views = sorted(set(walks.views_deg[probes].tolist()))
    shown = zip(views, rank1, strict=True)
    return {view: None if np.isnan(x) else round(float(x), DIGITS) for view, x in shown}


RANKS = (1, 5, 10)
METRICS = (*(f"rank-{k}" for k in RANKS), "mAP", "mINP")

CELLS = 2**21  # distances that are sorted at a time, about 40 bytes each

Scores = npt.NDArray[np.float64]


def scores(walks: Walks, probes: Indices, gallery: Indices) -> tuple[Scores, Bools]:
    """Return METRICS of every probe [probes, 5], and whether its person is in the gallery.

    probes, gallery: indices into the walks; a probe without a mate scores 0
    """
    found = np.zeros((len(probes), len(METRICS)))
    who, entries = walks.people[probes], walks.people[gallery]
    if len(gallery):
        step = max(1, CELLS // len(gallery))
        for some, distance in distance_rows(walks.embeddings, probes, gallery):
            for top in range(0, len(distance), step):
                rows = slice(some.start + top, min(some.start + top + step, some.stop))
                mates = who[rows, None] == entries[None]  # [i, g]
                found[rows] = rank(distance[top : top + step], mates)
    return found, np.isin(who, entries)


def rank(distance: Floats, mates: Bools) -> Scores:
    """Return METRICS of probes [i, 5] from distances [i, g] and who is whose mate [i, g].

    Average precision is the mean over mates of the precision at each one's rank, inverse negative
    penalty the number of mates divided by the rank of the last of them; both are 0 for mates that
    are never found.
    """
    order = np.argsort(distance, axis=1, kind="stable")
    found = np.take_along_axis(mates & np.isfinite(distance), order, axis=1)  # by rank
    ranks = np.arange(1, found.shape[1] + 1)
    hits = np.cumsum(found, axis=1)
    count = np.maximum(mates.sum(axis=1), 1)
    out = np.empty((len(found), len(METRICS)))
    for column, k in enumerate(RANKS):
        out[:, column] = hits[:, min(k, found.shape[1]) - 1] > 0
    out[:, -2] = np.where(found, hits / ranks, 0).sum(axis=1) / count
    last = (found * ranks).max(axis=1)
    out[:, -1] = np.where(hits[:, -1] == count, count / np.maximum(last, 1), 0)
    return out


def rank1_hits(walks: Walks, condition: str) -> tuple[npt.NDArray[np.float64], list[int], Walks]:
    """Match every probe of a condition against every gallery view.

    Returns hits [probes, gallery views] of 0, 1 or NaN (the probe's person is not in that view's
    gallery), the gallery's views and the probes.
    """
    gallery = np.flatnonzero(np.isin(walks.sequences, GALLERY))
    probes = np.flatnonzero(np.isin(walks.sequences, PROBES[condition]))
    views = sorted(set(walks.views_deg[gallery].tolist()))
    hits = np.full((len(probes), len(views)), np.nan)
    for column, view in enumerate(views):
        found, known = scores(walks, probes, gallery[walks.views_deg[gallery] == view])
        hits[known, column] = found[known, 0]
    return hits, views, walks[probes]


def rank1(walks: Walks, condition: str, *, seed: int = 0, draws: int = 500) -> dict[str, Any]:
    """Return rank-1 of a condition in the CASIA-B protocol, same view and across views.

    Each with the 95 % interval of a bootstrap over people; `per_view` is the mean over the
    gallery's other views, by probe view.
    """
    return _rank1(walks, condition, seed, draws)[0]


def rank1_table(walks: Walks, *, seed: int = 0, draws: int = 500) -> dict[str, Any]:
    """Return `rank1` of every condition, and the mean over the three with intervals of its own."""
    found = {condition: _rank1(walks, condition, seed, draws) for condition in PROBES}
    rows: dict[str, Any] = {condition: row for condition, (row, _) in found.items()}
    mean: dict[str, Any] = {}
    for name in ("same_view", "cross_view"):
        mean[name] = round(float(np.mean([row[name] for row in rows.values()])), 4)
        # everybody walks in every condition: people are drawn with all three of them
        by_person = np.mean([by_person[name] for _, by_person in found.values()], axis=0)
        mean[f"{name}_95"] = bootstrap(by_person, seed=seed, draws=draws)
    return {**rows, "mean": mean}


def _rank1(
    walks: Walks, condition: str, seed: int, draws: int
) -> tuple[dict[str, Any], dict[str, npt.NDArray[np.float64]]]:
    """Return what `rank1` does, and the hits behind it by person [people]."""
    hits, views, probes = rank1_hits(walks, condition)
    same = probes.views_deg[:, None] == np.array(views)[None]
    others = np.where(same, np.nan, hits)  # identical views excluded
    result: dict[str, Any] = {"condition": condition, "people": len(set(probes.people.tolist()))}
    means = {
        "same_view": by_person(np.where(same, hits, np.nan), probes.people),
        "cross_view": by_person(others, probes.people),
    }
    for name, values in means.items():
        result[name] = round(float(values.mean()), 4)
        result[f"{name}_95"] = bootstrap(values, seed=seed, draws=draws)
    result["per_view"] = {
        view: round(float(np.nanmean(others[probes.views_deg == view])), 4)
        for view in sorted(set(probes.views_deg.tolist()))
    }
    return result, means
