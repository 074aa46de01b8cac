"""What another precision changes in who is recognised: rank-1 and decisions on the same walks."""

from __future__ import annotations

from typing import Any

import numpy as np

from cstl_edge.evaluation import (
    GALLERY,
    PROBES,
    Walks,
    part_mean_distance,
    rank1_hits,
    rank1_table,
)

DECISION_FPIR = 0.01
SURE = 1.645  # standard errors: 95 of 100 losses like it lie below


def rank1(before: Walks, after: Walks) -> dict[str, Any]:
    """Return rank-1 of float32 and of another precision, and what was lost between them."""
    tables = [rank1_table(one)["mean"] for one in (before, after)]
    means = [{view: table[view] for view in ("same_view", "cross_view")} for table in tables]
    return {"float32": means[0], "found": means[1], "lost": lost_matches(before, after)}


def lost_matches(before: Walks, after: Walks) -> dict[str, Any]:
    """Compare rank-1 across views search by search, on the same walks in two precisions.

    Searches that end alike say nothing of the difference, so its standard error is that of the
    others: far smaller than that of either rank-1. People are what was sampled, hence it is taken
    over their means. `at_most_points` is what the loss on more people is below, 95 % certain.
    """
    differences, people = [], []
    for condition in PROBES:
        (hits, views, probes), (others, _, _) = (
            rank1_hits(one, condition) for one in (before, after)
        )
        across = probes.views_deg[:, None] != np.array(views)[None]
        differences.append(np.where(across, hits - others, np.nan))  # [probes, gallery views]
        people.append(probes.people)
    lost, who = np.concatenate(differences), np.concatenate(people)
    by_person = 100 * np.array([np.nanmean(lost[who == person]) for person in np.unique(who)])
    error = float(by_person.std(ddof=1) / np.sqrt(len(by_person)))
    return {
        "compared": int(np.isfinite(lost).sum()),
        "only_float32": int((lost > 0).sum()),
        "only_found": int((lost < 0).sum()),
        "points": round(float(by_person.mean()), 4),
        "standard_error_points": round(error, 4),
        "at_most_points": round(float(by_person.mean()) + SURE * error, 4),
    }


def decisions(before: Walks, after: Walks) -> dict[str, Any]:
    """Count searches in a float32 gallery whose answer changes with the precision of the probe.

    The threshold is float32's own for a false-positive rate of `DECISION_FPIR`.
    """
    enrolled = np.isin(before.sequences, GALLERY)
    entries, people = before[enrolled], before.people[~enrolled]
    distances = [
        part_mean_distance(one.embeddings[~enrolled], entries.embeddings) for one in (before, after)
    ]  # [probes, entries] each
    strangers = np.where(entries.people == people[:, None], np.inf, distances[0])
    threshold = float(np.quantile(strangers.min(1), DECISION_FPIR))
    answered = [
        np.where(distance.min(1) < threshold, entries.people[distance.argmin(1)], -1)
        for distance in distances
    ]
    return {
        "compared": len(people),
        "changed": int((answered[0] != answered[1]).sum()),
        "named": int((answered[0] >= 0).sum()),
        "threshold": round(threshold, 5),
        "fpir": DECISION_FPIR,
    }
