"""Closed-set metrics: rank-k, mAP and mINP of a protocol's trials, rank-1 in CASIA-B's protocol.

`evaluate_closed_set` evaluates the trials of any protocol; `rank1_table` is the short form for
CASIA-B (gallery nm-01..04, probes nm-05/06, bg, cl). All intervals are 95 % over people.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any, TypedDict, cast

import numpy as np

from cstl_edge.arrays import Bools, Doubles, Floats, Indices
from cstl_edge.errors import DataError
from cstl_edge.evaluation.embeddings import GALLERY, PROBES, LabelledEmbeddings, distance_rows
from cstl_edge.evaluation.intervals import bootstrap, by_person, drawn_people
from cstl_edge.evaluation.protocols import BY_PAIR, WHOLE, Trials

DRAWS = 500
DIGITS = 4
RANKS = (1, 5, 10)
METRICS = (*(f"rank-{k}" for k in RANKS), "mAP", "mINP")
SORTED_AT_ONCE = 2**21  # distances, about 40 bytes each

Metrics = TypedDict("Metrics", {  # METRICS as shares in 0..1, each with its interval
    "rank-1": float, "rank-1_95": list[float], "rank-5": float, "rank-5_95": list[float],
    "rank-10": float, "rank-10_95": list[float],
    "mAP": float, "mAP_95": list[float], "mINP": float, "mINP_95": list[float],
})  # fmt: skip


class ConditionRecord(Metrics):
    """Metrics of one condition's probes."""

    probes: int
    people: int
    unmated: int  # probes whose person is not in the gallery that they were searched in
    per_view: dict[int, float | None]  # rank-1 by probe view; empty for a protocol without views


class ClosedSetRecord(TypedDict, total=False):
    """Metrics by condition, and their mean over the conditions."""

    conditions: dict[str, ConditionRecord]
    mean: Metrics


class Rank1ByView(TypedDict):
    """Rank-1 in CASIA-B's protocol where gallery and probe have the same view, and others."""

    same_view: float
    same_view_95: list[float]
    cross_view: float
    cross_view_95: list[float]


@dataclass(frozen=True)
class Cells:
    """Sums of METRICS and numbers of probes by person and pair of views."""

    sums: Doubles  # [people, probe views, gallery views, metrics]
    counts: Doubles  # [people, probe views, gallery views]
    unmated: int  # probes whose person is not in the gallery that they were searched in


def evaluate_closed_set(
    labelled: LabelledEmbeddings, trials: Trials, *, seed: int = 0, draws: int = DRAWS
) -> ClosedSetRecord:
    """Evaluate METRICS of every condition, and of their mean, with 95 % intervals.

    Args:
        labelled: m embedded sequences with their labels.
        trials: Probes by condition and the gallery, as indices of the m sequences.
        seed: Seed of the bootstrap.
        draws: Number of resamples of people for the intervals.

    Raises:
        DataError: No pair of views has a probe that counts.
    """
    probed = np.concatenate(list(trials.probes.values()))
    people = np.unique(labelled.people[probed])
    weights = drawn_people(len(people), seed, draws)  # [draws, people]
    conditions: dict[str, ConditionRecord] = {}
    means, drawn = [], []
    for name, probes in trials.probes.items():
        cells = score_pairs(labelled, trials, probes, people)
        by_view, mean = _averages(cells.sums.sum(0)[None], cells.counts.sum(0)[None])
        resampled = _resampled(cells, weights)
        if np.isnan(mean[0]).any():
            raise DataError(
                f"protocol {trials.protocol}: expected somebody who is both searched and in the "
                f"gallery ({trials.description}), got nobody among {len(probes)} probes"
            )
        means.append(mean[0])
        drawn.append(resampled)
        views = [] if trials.averaged == WHOLE else _views(labelled, probes, together=False)
        conditions[name] = {
            "probes": len(probes),
            "people": len(np.unique(labelled.people[probes])),
            "unmated": cells.unmated,
            **_with_intervals(mean[0], resampled),
            "per_view": {
                view: None if np.isnan(share) else round(float(share), DIGITS)
                for view, share in zip(views, by_view[0, :, 0], strict=False)
            },
        }
    return {
        "conditions": conditions,
        "mean": _with_intervals(np.mean(means, axis=0), np.mean(drawn, axis=0)),
    }


def score_pairs(
    labelled: LabelledEmbeddings, trials: Trials, probes: Indices, people: Indices
) -> Cells:
    """Sum the metrics of one condition's probes by person and pair of views.

    Args:
        labelled: m embedded sequences with their labels.
        trials: Gallery, averaging over pairs of views, and treatment of unmated probes.
        probes: [i], indices of the condition's probes.
        people: Sorted ids, the first axis of the sums.
    """
    probe_views = _views(labelled, probes, trials.averaged == WHOLE)
    gallery_views = _views(labelled, trials.gallery, trials.averaged != BY_PAIR)
    shape = (len(people), len(probe_views), len(gallery_views))
    sums, counts, unmated = np.zeros((*shape, len(METRICS))), np.zeros(shape), 0
    for i, (view, searched) in enumerate(probe_views.items()):
        person_index = np.searchsorted(people, labelled.people[searched])
        for j, (other, entries) in enumerate(gallery_views.items()):
            if trials.averaged == BY_PAIR and view == other:
                continue
            values, mated = score_probes(
                labelled, searched, entries, drop_same_view=trials.drop_same_view
            )
            unmated += int((~mated).sum())
            counted: Bools = mated if trials.drop_unmated else np.ones_like(mated)
            np.add.at(sums[:, i, j], person_index[counted], values[counted])
            np.add.at(counts[:, i, j], person_index[counted], 1)
    return Cells(sums, counts, unmated)


def _views(labelled: LabelledEmbeddings, rows: Indices, together: bool) -> dict[int, Indices]:
    """Return the rows by view, or all of them as one."""
    if together:
        return {-1: rows}
    views = labelled.views_deg[rows]
    return {view: rows[views == view] for view in sorted(set(views.tolist()))}


def _averages(sums: Doubles, counts: Doubles) -> tuple[Doubles, Doubles]:
    """Return the means by probe view [k, views, metrics] and over them [k, metrics].

    sums: [k, probe views, gallery views, metrics]; counts: [k, probe views, gallery views]
    A pair of views without probes is left out.
    """
    with np.errstate(invalid="ignore"), warnings.catch_warnings():
        warnings.simplefilter(
            "ignore", RuntimeWarning
        )  # NaN without a warning where no pair is left
        by_view: Doubles = np.nanmean(sums / counts[..., None], axis=2)
        return by_view, np.nanmean(by_view, axis=1)


def _resampled(cells: Cells, weights: Doubles) -> Doubles:
    """Return the mean of every draw of people [draws, metrics]."""
    people, *rest = cells.sums.shape
    sums = (weights @ cells.sums.reshape(people, -1)).reshape(-1, *rest)
    counts = (weights @ cells.counts.reshape(people, -1)).reshape(-1, *rest[:-1])
    return _averages(sums, counts)[1]


def _with_intervals(mean: Doubles, drawn: Doubles) -> Metrics:
    """Return the metrics by name, each with its interval."""
    record: dict[str, Any] = {}
    ends = np.nanquantile(drawn, [0.025, 0.975], axis=0)  # [2, metrics]
    for k, metric in enumerate(METRICS):
        record[metric] = round(float(mean[k]), DIGITS)
        record[f"{metric}_95"] = [round(float(end), DIGITS) for end in ends[:, k]]
    return cast(Metrics, record)


def score_probes(
    labelled: LabelledEmbeddings,
    probes: Indices,
    gallery: Indices,
    *,
    drop_same_view: bool = False,
) -> tuple[Doubles, Bools]:
    """Return METRICS of every probe [i, 5], and whether its person is in the gallery [i].

    A probe without a mate has metrics of 0.

    Args:
        labelled: m embedded sequences with their labels.
        probes: [i], indices of the m sequences.
        gallery: [g], indices of the m sequences.
        drop_same_view: Search each probe without its person's entries of the probe's own view.
    """
    values, mated = np.zeros((len(probes), len(METRICS))), np.zeros(len(probes), np.bool_)
    probe_people, gallery_people = labelled.people[probes], labelled.people[gallery]
    probe_views, gallery_views = labelled.views_deg[probes], labelled.views_deg[gallery]
    if len(gallery):
        step = max(1, SORTED_AT_ONCE // len(gallery))
        for block, distance in distance_rows(labelled, probes, gallery):
            for top in range(0, len(distance), step):
                rows = slice(block.start + top, min(block.start + top + step, block.stop))
                mates = probe_people[rows, None] == gallery_people[None]  # [i, g]
                searched = distance[top : top + step]
                if drop_same_view:
                    left_out = mates & (probe_views[rows, None] == gallery_views[None])
                    searched, mates = np.where(left_out, np.inf, searched), mates & ~left_out
                mated[rows] = mates.any(axis=1)
                values[rows] = rank_metrics(searched, mates)
    return values, mated


def rank_metrics(distance: Floats, mates: Bools) -> Doubles:
    """Compute METRICS of probes [i, 5] from distances [i, g] and mates [i, g].

    Average precision is the mean over mates of the precision at each one's rank, inverse negative
    penalty the number of mates divided by the rank of the last of them; both are 0 for mates at
    infinite distance.
    """
    order = np.argsort(distance, axis=1, kind="stable")
    mated = np.take_along_axis(mates & np.isfinite(distance), order, axis=1)  # by rank
    ranks = np.arange(1, mated.shape[1] + 1)
    hits = np.cumsum(mated, axis=1)
    count = np.maximum(mates.sum(axis=1), 1)
    out = np.empty((len(mated), len(METRICS)))
    for column, k in enumerate(RANKS):
        out[:, column] = hits[:, min(k, mated.shape[1]) - 1] > 0
    out[:, -2] = np.where(mated, hits / ranks, 0).sum(axis=1) / count
    last = (mated * ranks).max(axis=1)
    out[:, -1] = np.where(hits[:, -1] == count, count / np.maximum(last, 1), 0)
    return out


def rank1_hits(
    labelled: LabelledEmbeddings, condition: str
) -> tuple[Doubles, list[int], LabelledEmbeddings]:
    """Match every probe of a condition against every gallery view.

    Returns hits [probes, gallery views] of 0, 1 or NaN (the probe's person is not in that view's
    gallery), the gallery's views and the probes.
    """
    gallery = np.flatnonzero(np.isin(labelled.sequences, GALLERY))
    probes = np.flatnonzero(np.isin(labelled.sequences, PROBES[condition]))
    views = sorted(set(labelled.views_deg[gallery].tolist()))
    hits = np.full((len(probes), len(views)), np.nan)
    for column, view in enumerate(views):
        values, mated = score_probes(labelled, probes, gallery[labelled.views_deg[gallery] == view])
        hits[mated, column] = values[mated, 0]
    return hits, views, labelled[probes]


def rank1_table(
    labelled: LabelledEmbeddings, *, seed: int = 0, draws: int = 500
) -> dict[str, Rank1ByView]:
    """Evaluate rank-1 in the CASIA-B protocol, same view and across views.

    Returns a record of every condition (`nm`, `bg` and `cl`: also `condition`, `people`, and by
    probe view the mean over the gallery's other views), and `mean` of the three with its own
    intervals.

    Args:
        labelled: m embedded sequences with their labels.
        seed: Seed of the bootstrap.
        draws: Number of resamples of people for the 95 % intervals.
    """
    evaluated = {condition: _rank1(labelled, condition, seed, draws) for condition in PROBES}
    rows = {condition: row for condition, (row, _) in evaluated.items()}
    mean: dict[str, Any] = {}
    for name in ("same_view", "cross_view"):
        mean[name] = round(float(np.mean([row[name] for row in rows.values()])), 4)
        # every person has all three conditions: a draw takes the person with all of them
        means = np.mean([means[name] for _, means in evaluated.values()], axis=0)  # [people]
        mean[f"{name}_95"] = bootstrap(means, seed=seed, draws=draws)
    return cast(dict[str, Rank1ByView], rows | {"mean": mean})


def _rank1(
    labelled: LabelledEmbeddings, condition: str, seed: int, draws: int
) -> tuple[dict[str, Any], dict[str, Doubles]]:
    """Return the record of a condition, and its hits by person [people]."""
    hits, views, probes = rank1_hits(labelled, condition)
    same = probes.views_deg[:, None] == np.array(views)[None]
    others = np.where(same, np.nan, hits)  # identical views excluded
    record: dict[str, Any] = {"condition": condition, "people": len(set(probes.people.tolist()))}
    means = {
        "same_view": by_person(np.where(same, hits, np.nan), probes.people),
        "cross_view": by_person(others, probes.people),
    }
    for name, values in means.items():
        record[name] = round(float(values.mean()), 4)
        record[f"{name}_95"] = bootstrap(values, seed=seed, draws=draws)
    record["per_view"] = {
        view: round(float(np.nanmean(others[probes.views_deg == view])), 4)
        for view in sorted(set(probes.views_deg.tolist()))
    }
    return record, means
