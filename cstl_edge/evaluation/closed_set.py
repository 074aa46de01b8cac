"""Closed set: rank-1 in the CASIA-B protocol (gallery nm-01..04, probes nm-05/06, bg, cl)."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from cstl_edge.evaluation.intervals import bootstrap, by_person
from cstl_edge.evaluation.ranking import scores
from cstl_edge.evaluation.walks import GALLERY, PROBES, Walks


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
