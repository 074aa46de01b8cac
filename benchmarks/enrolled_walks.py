"""Measure what enrolment from several walks brings, with and without their fusion.

    python benchmarks/enrolled_walks.py [MODEL] --out results.jsonl

Sets: shifted Walkers, and held-out Walkers of both generators. Half of the people, 20 at most, are
enrolled from so many of their walks, drawn from all sides and clothes; all other walks of everybody
are searched. Rank-1 of those who are enrolled, and FNIR (not named, or as another) at the threshold
that lets 1 and 10 % of the strangers' searches of all draws pass. Letters: m walks, k windows of a
walk, p parts, d embedding dimensions.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np
from identification import CACHE, Walk, embed, shifted
from study import append_record, run_study, study_parser

from cstl_edge.arrays import Bools, Floats
from cstl_edge.data.shards import ShardedSequences
from cstl_edge.data.walkers_dataset import WalkersSettings, make_shards
from cstl_edge.distance import Distance
from cstl_edge.evaluation.impostors import WalkDistances
from cstl_edge.gallery.fusion import FUSED_WALKS
from cstl_edge.runtime import load
from cstl_edge.runtime.base import Encoder

ENROLLED = (1, 2, 4, 8, 12)  # walks of each
MOST_PEOPLE = 20
RATES = (0.01, 0.1)
SECOND = WalkersSettings(
    generator=2, first=930_000, people=40, nm=3, bg=1, cl=1, frames=30,
    views_deg=(0, 60, 90, 120, 180, 240, 270, 300),
)  # fmt: skip
FIRST = WalkersSettings(
    first=910_000, people=40, nm=2, bg=1, cl=1, frames=30, views_deg=(0, 36, 72, 108, 144, 180)
)


def walkers(settings: WalkersSettings, encoder: Encoder) -> list[Walk]:
    """Return held-out walks, mirrored where they go to the right as the live path does."""
    sized = settings.model_copy(update={"size": encoder.info.size})
    data = ShardedSequences(make_shards(sized, CACHE))
    walks = []
    for row, (person, name, view) in enumerate(
        zip(data.people, data.sequences, data.views_deg, strict=True)
    ):
        silhouettes = data.read(row)
        if 180 < view % 360 < 360:
            silhouettes = np.ascontiguousarray(silhouettes[:, :, ::-1])
        walks.append(Walk(str(person), str(name), float(view), embed(encoder, silhouettes)))
    return walks


def distances_between(walks: list[Walk], distance: Distance) -> WalkDistances:
    """Return the distances between walks of any lengths under their own mean, all windows seen."""
    means = np.stack([walk.windows.mean(axis=0) for walk in walks])
    centre = np.asarray(means.mean(axis=0), np.float32)
    together = distance.project(means, centre)
    windows = distance.project(np.concatenate([walk.windows for walk in walks]), centre)
    starts = np.cumsum([0, *(len(walk.windows) for walk in walks[:-1])])
    to_mean = distance.between(together, together)
    nearest = np.minimum.reduceat(distance.between(together, windows), starts, axis=1)
    nearest = np.minimum(nearest, to_mean)
    return WalkDistances(nearest[None], 1 - to_mean[None], 1 - to_mean, distance.fused_walks)


def figures(
    walks: list[Walk], between: WalkDistances, enrolled: int, draws: int
) -> dict[str, float]:
    """Return rank-1 and FNIR with people enrolled from so many walks.

    Args:
        walks: [m].
        between: Their distances.
        enrolled: Walks of each person.
        draws: Galleries.
    """
    rng, people = np.random.default_rng(0), np.array([walk.person for walk in walks])
    ids = np.unique(people)
    hits, own, others = list[Bools](), list[Floats](), list[Floats]()
    for _ in range(draws):
        known = rng.choice(ids, min(MOST_PEOPLE, len(ids) // 2), replace=False)
        entries = np.stack(
            [rng.choice(np.flatnonzero(people == x), enrolled, replace=False) for x in known]
        )
        probes = np.setdiff1d(np.arange(len(walks)), entries)
        found = between.to_people(1, probes[:, None], entries[None])
        mated = np.isin(people[probes], known)
        nearest = found.min(axis=1)
        hits.append((known[found.argmin(axis=1)] == people[probes])[mated])
        own.append(nearest[mated])
        others.append(nearest[~mated])
    right, distance = np.concatenate(hits), np.concatenate(own)
    values = {"rank1": float(np.mean([x.mean() for x in hits]))}
    for rate in RATES:
        limit = np.quantile(np.concatenate(others), rate)
        values[f"fnir_{rate:g}"] = float(1 - (right & (distance < limit)).mean())
    return {key: round(value, 4) for key, value in values.items()}


def study(args: argparse.Namespace) -> None:
    """Measure every set, print and append."""
    encoder = load(args.model)
    makers: Mapping[str, Callable[[], list[Walk]]] = {
        "shifted Walkers": lambda: shifted(encoder),
        "second generator": lambda: walkers(SECOND, encoder),
        "first generator": lambda: walkers(FIRST, encoder),
    }
    shipped = encoder.info.distance
    rules = {
        "nearest entry": replace(shipped, fused_walks=0),
        "fused": replace(shipped, fused_walks=shipped.fused_walks or FUSED_WALKS),
    }
    results: dict[str, dict[str, dict[int, dict[str, float]]]] = {}
    for name, make in makers.items():
        walks = make()
        for rule, distance in rules.items():
            between = distances_between(walks, distance)
            rows = {n: figures(walks, between, n, args.draws) for n in ENROLLED}
            results.setdefault(name, {})[rule] = rows
            for n, row in rows.items():
                print(f"{name}, {rule}, {n} walks: {row}", flush=True)
    record = {
        "weights_sha256": encoder.info.weights_sha256,
        "fused_walks": rules["fused"].fused_walks,
        "draws": args.draws,
        "sets": results,
    }
    append_record(args.out, "enrolled_walks", record)


def main(argv: list[str] | None = None) -> int:
    """Run the command; return its exit code."""
    parser = study_parser(__doc__)
    parser.add_argument("model", nargs="?", help="folder of a model (default: the shipped one)")
    parser.add_argument("--draws", type=int, default=40, help="galleries (default: 40)")
    return run_study(parser, study, argv)


if __name__ == "__main__":
    sys.exit(main())
