"""Protocols and metrics of gait recognition in numpy, for any encoder.

Closed set: rank-1 in the CASIA-B protocol (gallery nm-01..04, probes nm-05/06, bg, cl, every pair
of views). Open set: FNIR at a wanted FPIR, and the table of impostor thresholds by gallery size
that travels with a model. Letters: `m` sequences, `s` frames, `p` parts, `d` embedding dimensions.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
Bools = npt.NDArray[np.bool_]

GALLERY = ("nm-01", "nm-02", "nm-03", "nm-04")
PROBES = {"nm": ("nm-05", "nm-06"), "bg": ("bg-01", "bg-02"), "cl": ("cl-01", "cl-02")}
FPIR = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3)
SIZES = (1, 2, 4, 8, 16, 20)  # people; above 20 a gallery's own scores serve
WALKS = (1, 4, 12)  # that each of them is enrolled from


@dataclass(frozen=True)
class Walks:
    """Embedded sequences and what is known of each: person, sequence name (`nm-05`), view [deg]."""

    embeddings: Floats  # [m, p, d]
    people: npt.NDArray[np.int64]  # [m]
    sequences: npt.NDArray[np.str_]  # [m]
    views_deg: npt.NDArray[np.int64]  # [m]

    def __getitem__(self, keep: Any) -> Walks:
        """Return the sequences that `keep` (an index or a mask over m) selects."""
        return Walks(
            self.embeddings[keep], self.people[keep], self.sequences[keep], self.views_deg[keep]
        )


def gait_energy(silhouettes: npt.NDArray[np.uint8]) -> Floats:
    """Return gait energy images, the mean over frames, as embeddings of one part: [m, 1, h·w]."""
    mean = np.stack([sequence.mean(axis=0) for sequence in silhouettes]) / 255
    return np.asarray(mean.reshape(len(mean), 1, -1), np.float32)  # [m, 1, h·w]


def part_mean_distance(a: Floats, b: Floats) -> Floats:
    """Return the mean over parts of the Euclidean distance: [i, p, d] and [j, p, d] to [i, j]."""
    total = np.zeros((len(a), len(b)), np.float32)
    for part in range(a.shape[1]):
        x, y = a[:, part], b[:, part]  # [i, d], [j, d]
        square = (x * x).sum(1)[:, None] + (y * y).sum(1)[None] - 2 * (x @ y.T)
        total += np.sqrt(np.maximum(square, 0))
    total /= a.shape[1]
    return total


def rank1_hits(walks: Walks, condition: str) -> tuple[npt.NDArray[np.float64], list[int], Walks]:
    """Match every probe of a condition against every gallery view.

    Returns hits [probes, gallery views] of 0, 1 or NaN (the probe's person is not in that view's
    gallery), the gallery's views and the probes.
    """
    gallery = walks[np.isin(walks.sequences, GALLERY)]
    probes = walks[np.isin(walks.sequences, PROBES[condition])]
    views = sorted(set(gallery.views_deg.tolist()))
    hits = np.full((len(probes.people), len(views)), np.nan)
    for column, view in enumerate(views):
        entries = gallery[gallery.views_deg == view]
        nearest = part_mean_distance(probes.embeddings, entries.embeddings).argmin(axis=1)
        known = np.isin(probes.people, entries.people)
        hits[known, column] = (entries.people[nearest] == probes.people)[known]
    return hits, views, probes


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
    by_person = {
        "same_view": _by_person(np.where(same, hits, np.nan), probes.people),
        "cross_view": _by_person(others, probes.people),
    }
    for name, values in by_person.items():
        result[name] = round(float(values.mean()), 4)
        result[f"{name}_95"] = bootstrap(values, seed=seed, draws=draws)
    result["per_view"] = {
        view: round(float(np.nanmean(others[probes.views_deg == view])), 4)
        for view in sorted(set(probes.views_deg.tolist()))
    }
    return result, by_person


def bootstrap(
    by_person: npt.NDArray[np.float64],
    statistic: Callable[[npt.NDArray[np.float64]], float] = lambda x: float(np.mean(x)),
    *,
    seed: int = 0,
    draws: int = 500,
) -> list[float]:
    """Return the 95 % interval of a statistic over people, who are drawn with replacement."""
    rng = np.random.default_rng(seed)
    values = [statistic(rng.choice(by_person, len(by_person))) for _ in range(draws)]
    return [round(float(v), 4) for v in np.quantile(values, [0.025, 0.975])]


def impostor_table(
    walks: Walks,
    *,
    sizes: Sequence[int] = SIZES,
    walks_each: Sequence[int] = WALKS,
    draws: int = 20_000,
    seed: int = 0,
) -> dict[str, Any]:
    """Return the distances below which impostors fall, by walks, gallery size and wanted FPIR.

    One draw is a search as it happens in use: N people are enrolled, each from W sequences (any
    view, any condition), and a stranger is searched once. threshold[k][i][j] is the quantile
    fpir[j] of the nearest distance over all draws with sizes[i] people of walks_each[k] walks.
    """
    rng = np.random.default_rng(seed)
    distance = part_mean_distance(walks.embeddings, walks.embeddings)  # [m, m]
    ids = np.unique(walks.people)
    of_person = [np.flatnonzero(walks.people == person) for person in ids]
    if max(sizes) >= len(ids):
        raise ValueError(f"expected more than {max(sizes)} people, got {len(ids)}")
    threshold = [
        [_impostor_quantiles(distance, of_person, size, count, draws, rng) for size in sizes]
        for count in walks_each
    ]
    return {
        "walks": list(walks_each),
        "sizes": list(sizes),
        "fpir": list(FPIR),
        "threshold": threshold,
    }


def _impostor_quantiles(
    distance: Floats,
    of_person: Sequence[npt.NDArray[np.int64]],
    size: int,
    walks_each: int,
    draws: int,
    rng: np.random.Generator,
) -> list[float]:
    nearest = np.empty(draws, np.float32)
    for k in range(draws):
        stranger, *enrolled = rng.choice(len(of_person), size + 1, replace=False)
        entries = [rng.choice(of_person[person], walks_each) for person in enrolled]
        nearest[k] = distance[rng.choice(of_person[stranger]), np.concatenate(entries)].min()
    return [round(float(t), 5) for t in np.quantile(nearest, FPIR)]


def open_set(
    walks: Walks,
    table: dict[str, Any],
    *,
    size: int = 20,
    walks_each: int = 1,
    draws: int = 200,
    seed: int = 1,
) -> list[dict[str, float]]:
    """Measure FNIR and FPIR of the thresholds of `impostor_table`, on other people than its own.

    Per draw `size` people are enrolled, each from `walks_each` of their sequences nm-01..04 at
    views drawn at random; all others are strangers. A mated search fails when the nearest entry is
    another person's or lies beyond the threshold (FNIR, rank 1), a non-mated one when its nearest
    entry lies below it (FPIR).
    """
    rng = np.random.default_rng(seed)
    distance = part_mean_distance(walks.embeddings, walks.embeddings)
    ids, in_gallery = np.unique(walks.people), np.isin(walks.sequences, GALLERY)
    row = table["threshold"][table["walks"].index(walks_each)][table["sizes"].index(size)]
    misses, alarms = [], []
    for _ in range(draws):
        enrolled = rng.choice(ids, size, replace=False)
        member = np.isin(walks.people, enrolled)
        entries = _draw_sequences(walks, enrolled, in_gallery, walks_each, rng)
        probes = np.flatnonzero(~in_gallery)
        block = distance[np.ix_(probes, entries)]
        best = block.argmin(axis=1)
        nearest = block[np.arange(len(probes)), best]
        right = walks.people[entries][best] == walks.people[probes]
        mated = member[probes]
        misses.append([float(np.mean(~(right & (nearest < t))[mated])) for t in row])
        alarms.append([float(np.mean((nearest < t)[~mated])) for t in row])
    return [
        {"fpir_wanted": want, "fpir": round(float(a), 4), "fnir": round(float(m), 4)}
        for want, a, m in zip(table["fpir"], np.mean(alarms, 0), np.mean(misses, 0), strict=True)
    ]


def _draw_sequences(
    walks: Walks,
    people: npt.NDArray[np.int64],
    allowed: Bools,
    count: int,
    rng: np.random.Generator,
) -> npt.NDArray[np.int64]:
    own = (np.flatnonzero(allowed & (walks.people == person)) for person in people)
    return np.concatenate([rng.choice(rows, count, replace=False) for rows in own])


def _by_person(
    hits: npt.NDArray[np.float64], people: npt.NDArray[np.int64]
) -> npt.NDArray[np.float64]:
    return np.array([np.nanmean(hits[people == person]) for person in np.unique(people)])
