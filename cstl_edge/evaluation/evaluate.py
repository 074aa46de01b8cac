"""From embeddings to the figures of a protocol, as one record that is fit for JSON."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from cstl_edge.arrays import Bools, Indices
from cstl_edge.evaluation.closed_set import DRAWS, match
from cstl_edge.evaluation.embed import EmbeddedSet
from cstl_edge.evaluation.open_set import FPIRS, search
from cstl_edge.evaluation.protocols import Trials, choose, trials


def evaluate(
    embedded: EmbeddedSet,
    protocol: str = "auto",
    *,
    fpirs: Sequence[float] = FPIRS,
    probe: Bools | None = None,
    drop_unmated: bool | None = None,
    seed: int = 0,
    draws: int = DRAWS,
) -> dict[str, Any]:
    """Return what a protocol finds: who was searched among whom, what failed, the figures.

    protocol: one of PROTOCOLS; `auto` goes by the names of the sequences
    fpirs: wanted FPIR under `open-set`
    probe, drop_unmated: as for `trials`
    Raises DataError when there is nothing to search for or among.
    """
    walks = embedded.walks
    chosen = choose(walks.sequences.tolist()) if protocol == "auto" else protocol
    asked = trials(walks, chosen, probe=probe, drop_unmated=drop_unmated)
    probes = np.concatenate(list(asked.probes.values()))
    figures = (
        search(walks, asked, fpirs, seed=seed, draws=draws)
        if chosen == "open-set"
        else match(walks, asked, seed=seed, draws=draws)
    )
    return {
        "protocol": chosen,
        "searched": asked.said,
        "averaged": asked.averaged,
        "drop_unmated": asked.drop_unmated,
        "people": len(np.unique(walks.people[np.concatenate([probes, asked.gallery])])),
        "gallery_sequences": len(asked.gallery),
        "probe_sequences": len(probes),
        "views": len(np.unique(walks.views_deg)),
        "failed_to_enrol": _failures(embedded, asked, probes),
        **figures,
    }


def _failures(embedded: EmbeddedSet, asked: Trials, probes: Indices) -> dict[str, Any]:
    """Return how many sequences of gallery and probes have no embedding that can match."""
    failed = np.union1d(embedded.short, embedded.not_finite)
    used = np.concatenate([asked.gallery, probes])
    return {
        "gallery": int(np.isin(asked.gallery, failed).sum()),
        "probes": int(np.isin(probes, failed).sum()),
        "short": int(np.isin(used, embedded.short).sum()),
        "not_finite": int(np.isin(used, embedded.not_finite).sum()),
        "rate": round(float(np.isin(used, failed).mean()), 5),
    }
