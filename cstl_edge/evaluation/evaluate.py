"""Evaluate embeddings by a protocol, as one record for JSON."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from cstl_edge.arrays import Bools, Indices
from cstl_edge.evaluation.closed_set import DRAWS, ClosedSetRecord, evaluate_closed_set
from cstl_edge.evaluation.embed import EmbeddedSet
from cstl_edge.evaluation.open_set import FPIRS, OpenSetRecord, evaluate_open_set
from cstl_edge.evaluation.protocols import Trials, choose_protocol, select_trials


class EvaluationRecord(ClosedSetRecord, OpenSetRecord):
    """Protocol, numbers of sequences, and the metrics of a closed set or of an open set."""

    protocol: str
    searched: str
    averaged: str
    drop_unmated: bool
    people: int
    gallery_sequences: int
    probe_sequences: int
    views: int
    failed_to_enrol: dict[str, float]


def evaluate(
    embedded: EmbeddedSet,
    protocol: str = "auto",
    *,
    fpirs: Sequence[float] = FPIRS,
    probe: Bools | None = None,
    drop_unmated: bool | None = None,
    seed: int = 0,
    draws: int = DRAWS,
) -> EvaluationRecord:
    """Evaluate the metrics of a protocol.

    Args:
        embedded: Embeddings [m, p, d] with their labels, and the sequences without one.
        protocol: One of PROTOCOLS; `auto` chooses by the names of the sequences.
        fpirs: Wanted false-positive identification rates of `open-set`, 0..1.
        probe: [m], the probes of `gait3d` and `open-set`; see `select_trials`.
        drop_unmated: Leave out probes whose person is not in the gallery; see `select_trials`.
        seed: Seed of the bootstrap.
        draws: Number of resamples of people for the 95 % intervals.

    Raises:
        DataError: No probes, or nothing in the gallery.
    """
    labelled = embedded.labelled
    chosen = choose_protocol(labelled.sequences.tolist()) if protocol == "auto" else protocol
    trials = select_trials(labelled, chosen, probe=probe, drop_unmated=drop_unmated)
    probes = np.concatenate(list(trials.probes.values()))
    metrics = (
        evaluate_open_set(labelled, trials, fpirs, seed=seed, draws=draws)
        if chosen == "open-set"
        else evaluate_closed_set(labelled, trials, seed=seed, draws=draws)
    )
    return {
        "protocol": chosen,
        "searched": trials.description,
        "averaged": trials.averaged,
        "drop_unmated": trials.drop_unmated,
        "people": len(np.unique(labelled.people[np.concatenate([probes, trials.gallery])])),
        "gallery_sequences": len(trials.gallery),
        "probe_sequences": len(probes),
        "views": len(np.unique(labelled.views_deg)),
        "failed_to_enrol": _failures(embedded, trials, probes),
        **metrics,
    }


def _failures(embedded: EmbeddedSet, trials: Trials, probes: Indices) -> dict[str, float]:
    """Count the sequences of gallery and probes without an embedding that can match."""
    failed = np.union1d(embedded.short, embedded.not_finite)
    used = np.concatenate([trials.gallery, probes])
    return {
        "gallery": int(np.isin(trials.gallery, failed).sum()),
        "probes": int(np.isin(probes, failed).sum()),
        "short": int(np.isin(used, embedded.short).sum()),
        "not_finite": int(np.isin(used, embedded.not_finite).sum()),
        "rate": round(float(np.isin(used, failed).mean()), 5),
    }
