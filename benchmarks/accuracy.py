"""Measure a model on Walkers that it never saw: closed set, open set, and what its motion tells.

python benchmarks/accuracy.py             # the shipped model, 50 people; 100 with one body for all
python benchmarks/accuracy.py MODEL --out results.jsonl    # an exported folder or a checkpoint

The people differ from those of training (ids 1000 and up) and from those on which Walkers were
calibrated (900000 and up). The closed set is compared by the plain distance, as the field does, and
by the model's own under the mean of these people; the open set by the latter alone, at the
thresholds that the model ships.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import replace
from typing import Any, cast

import numpy as np
from study import append_record, run_study, study_parser

from cstl_edge.arrays import Floats
from cstl_edge.evaluation.closed_set import rank1_table
from cstl_edge.evaluation.embeddings import LabelledEmbeddings, gait_energy
from cstl_edge.evaluation.impostors import ImpostorRecord, measure_open_set
from cstl_edge.runtime import load
from cstl_edge.runtime.base import Encoder
from cstl_edge.walkers import generate

TEST_ID = 910_000
ONE_BODY = 910_000
FRAMES = 30
BATCH = 4  # sequences
MOTION_VIEWS_DEG = (0, 36, 72, 108, 144, 180)


def make(first: int, people: int, **more: Any) -> Any:
    """Return a Walkers set in the CASIA-B protocol.

    Args:
        first: Id of the first person.
        people: Number of people.
        more: Further arguments of `walkers.generate`.
    """
    return generate.generate(range(first, first + people), frames=FRAMES, workers=2, **more)


def embeddings(encoder: Encoder, collection: Any) -> tuple[LabelledEmbeddings, LabelledEmbeddings]:
    """Embed a set, and again with the frames of each sequence in a random order of its own."""
    rng = np.random.default_rng(0)
    plain, mixed = [], []
    for start in range(0, len(collection.silhouettes), BATCH):
        batch = collection.silhouettes[start : start + BATCH]  # [n, s, h, w]
        flat = encoder.frames(batch.reshape(-1, *batch.shape[2:]))  # [n*s, p, c]
        features = flat.reshape(*batch.shape[:2], *flat.shape[1:])  # [n, s, p, c]
        lengths = np.full(len(batch), batch.shape[1], np.int32)
        plain.append(encoder.head(features, lengths).embedding)
        other = np.stack([window[rng.permutation(len(window))] for window in features])
        mixed.append(encoder.head(other, lengths).embedding)
    return walks_of(collection, np.concatenate(plain)), walks_of(collection, np.concatenate(mixed))


def matched(walks: LabelledEmbeddings, encoder: Encoder) -> LabelledEmbeddings:
    """Return walks that are compared as the product does, under the mean of all of them."""
    mean = np.asarray(walks.embeddings.mean(axis=0, dtype=np.float64), np.float32)
    return replace(walks, distance=encoder.info.distance, mean=mean)


def walks_of(collection: Any, embedded: Floats) -> LabelledEmbeddings:
    """Return embeddings with what is known of each sequence."""
    labels = (collection.people, collection.sequences, collection.views_deg)
    return LabelledEmbeddings(embedded, *labels)


def closed_set(encoder: Encoder, people: int) -> tuple[dict[str, Any], LabelledEmbeddings]:
    """Return rank-1 of the model, of the baseline and of shuffled frames, and the walks."""
    own_bodies = make(TEST_ID, people)
    one_body = make(TEST_ID, 2 * people, body_seed=ONE_BODY, views_deg=MOTION_VIEWS_DEG)
    rows, embedded = {}, []
    for prefix, collection in (("", own_bodies), ("one body: ", one_body)):
        walks, mixed = embeddings(encoder, collection)
        still = walks_of(collection, gait_energy(collection.silhouettes))
        rows[f"{prefix}model"] = rank1_table(walks)
        rows[f"{prefix}model, by its own distance"] = rank1_table(matched(walks, encoder))
        rows[f"{prefix}gait energy image"] = rank1_table(still)
        rows[f"{prefix}model, frames shuffled"] = rank1_table(mixed)
        embedded.append(walks)
    return rows, embedded[0]


def study(args: argparse.Namespace) -> None:
    """Measure, print the figures, append the record."""
    encoder = load(args.model)
    closed, walks = closed_set(encoder, args.people)
    table = encoder.info.impostors
    searches = {
        f"enrolled from {count} walks": measure_open_set(
            matched(walks, encoder), cast(ImpostorRecord, table), walks_each=count
        )
        for count in (1, 4, 12)
        if table is not None
    }
    for name, rows in closed.items():
        cells = (
            f"{c} {rows[c]['same_view']:.3f}/{rows[c]['cross_view']:.3f}"
            for c in generate.CONDITIONS
        )
        mean = rows["mean"]
        low, high = mean["cross_view_95"]
        print(
            f"{name:42} {', '.join(cells)}, mean {mean['same_view']:.3f}/{mean['cross_view']:.3f} "
            f"({low:.3f} to {high:.3f})"
        )
    print(json.dumps(searches))
    info, share = encoder.info, 1 / args.people
    record = {
        "model": info.model_name,
        "weights_sha256": info.weights_sha256,
        "backend": f"{info.backend} {info.precision}",
        "people": args.people,
        "chance": {"own bodies": round(share, 4), "one body": round(share / 2, 4)},
        "closed_set": closed,
        "open_set": searches,
        "distance": encoder.info.distance.name,
    }
    append_record(args.out, "accuracy", record)


def main(argv: list[str] | None = None) -> int:
    """Run the command; return its exit code."""
    parser = study_parser(__doc__)
    parser.add_argument("model", nargs="?", help="folder or checkpoint (default: the shipped one)")
    parser.add_argument("--people", type=int, default=50)
    return run_study(parser, study, argv)


if __name__ == "__main__":
    sys.exit(main())
