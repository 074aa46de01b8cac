"""Impostor thresholds by gallery size and FPIR, stored in a model's manifest.

`impostor_table` computes them from sequences of synthetic people; `measure_open_set` measures FNIR
and FPIR at these thresholds on other people.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypedDict

import numpy as np

from cstl_edge.evaluation.embeddings import GALLERY, LabelledEmbeddings, part_mean_distance

FPIR = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3)
SIZES = (1, 2, 4, 8, 16, 20)  # people; a larger gallery is calibrated by its own scores
WALKS = (1, 4, 12)  # sequences that each person is enrolled from


class ImpostorRecord(TypedDict, total=False):
    """Impostor thresholds of a model, as its manifest stores them."""

    data: str  # description of the people
    walks: list[int]
    sizes: list[int]
    fpir: list[float]
    threshold: list[list[list[float]]]
    """threshold[k][i][j] is the quantile fpir[j] of the nearest distance over all draws with
    sizes[i] people of walks[k] sequences each."""


def impostor_table(
    labelled: LabelledEmbeddings,
    *,
    sizes: Sequence[int] = SIZES,
    walks_each: Sequence[int] = WALKS,
    draws: int = 20_000,
    seed: int = 0,
) -> ImpostorRecord:
    """Compute impostor thresholds by sequences per person, gallery size and wanted FPIR.

    One draw simulates one search: N people are enrolled, each from W sequences (any view, any
    condition), and a stranger is searched once.

    Args:
        labelled: m embedded sequences of more than max(sizes) people.
        sizes: Gallery sizes [people].
        walks_each: Numbers of sequences that each is enrolled from.
        draws: Number of searches for each cell of the table.
        seed: Seed of the draws.

    Raises:
        ValueError: Too few people.
    """
    rng = np.random.default_rng(seed)
    distance = part_mean_distance(labelled.embeddings, labelled.embeddings)  # [m, m]
    ids = np.unique(labelled.people)
    of_person = [np.flatnonzero(labelled.people == person) for person in ids]
    if max(sizes) >= len(ids):
        raise ValueError(f"expected more than {max(sizes)} people, got {len(ids)}")

    def quantiles(count: int, size: int) -> list[float]:
        nearest = np.empty(draws, np.float32)
        for k in range(draws):
            stranger, *enrolled = rng.choice(len(of_person), size + 1, replace=False)
            entries = [rng.choice(of_person[person], count) for person in enrolled]
            nearest[k] = distance[rng.choice(of_person[stranger]), np.concatenate(entries)].min()
        return [round(float(t), 5) for t in np.quantile(nearest, FPIR)]

    return {
        "walks": list(walks_each),
        "sizes": list(sizes),
        "fpir": list(FPIR),
        "threshold": [[quantiles(count, size) for size in sizes] for count in walks_each],
    }


def measure_open_set(
    labelled: LabelledEmbeddings,
    table: ImpostorRecord,
    *,
    size: int = 20,
    walks_each: int = 1,
    draws: int = 200,
    seed: int = 1,
) -> list[dict[str, float]]:
    """Return FNIR and FPIR at each threshold of an `impostor_table`, measured on other people.

    Per draw `size` people are enrolled, each from `walks_each` of their sequences nm-01..04 at
    views drawn at random; all others are strangers. A mated search fails when the nearest entry is
    another person's or lies beyond the threshold (FNIR, rank 1), a non-mated one when its nearest
    entry lies below it (FPIR).

    Args:
        labelled: m embedded sequences, of people who are not in the table.
        table: Thresholds of `impostor_table`.
        size: Number of enrolled people, one of the table's sizes.
        walks_each: Number of sequences that each is enrolled from, one of the table's walks.
        draws: Number of galleries.
        seed: Seed of the draws.
    """
    rng = np.random.default_rng(seed)
    distance = part_mean_distance(labelled.embeddings, labelled.embeddings)
    ids, in_gallery = np.unique(labelled.people), np.isin(labelled.sequences, GALLERY)
    row = table["threshold"][table["walks"].index(walks_each)][table["sizes"].index(size)]
    misses, alarms = [], []
    for _ in range(draws):
        enrolled = rng.choice(ids, size, replace=False)
        member = np.isin(labelled.people, enrolled)
        of_person = (
            np.flatnonzero(in_gallery & (labelled.people == person)) for person in enrolled
        )
        entries = np.concatenate(
            [rng.choice(rows, walks_each, replace=False) for rows in of_person]
        )
        probes = np.flatnonzero(~in_gallery)
        block = distance[np.ix_(probes, entries)]
        best = block.argmin(axis=1)
        nearest = block[np.arange(len(probes)), best]
        is_own = labelled.people[entries][best] == labelled.people[probes]
        mated = member[probes]
        misses.append([float(np.mean(~(is_own & (nearest < t))[mated])) for t in row])
        alarms.append([float(np.mean((nearest < t)[~mated])) for t in row])
    return [
        {"fpir_wanted": rate, "fpir": round(float(a), 4), "fnir": round(float(m), 4)}
        for rate, a, m in zip(table["fpir"], np.mean(alarms, 0), np.mean(misses, 0), strict=True)
    ]
