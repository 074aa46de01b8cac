"""Measure what fp16 and int8 cost and gain under ONNX Runtime on this machine.

python benchmarks/precision.py FOLDER                # an export with --precision fp16,int8
python benchmarks/precision.py FOLDER --people 50 --out results.jsonl

`frames` in INT8 against float32, in turn in one run, and rank-1 of every precision on Walkers that
neither training nor calibration saw. fp16 is computed in float32 on a CPU: its accuracy counts, its
speed does not.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from cstl_edge.data import walkers
from cstl_edge.errors import CstlEdgeError
from cstl_edge.evaluation import Walks, rank1_table
from cstl_edge.export.recognition import lost_matches
from cstl_edge.measure import append_jsonl, environment, percentile, summary
from cstl_edge.runtime import load
from cstl_edge.runtime.base import Encoder, usable_cores
from cstl_edge.runtime.cost import walk
from cstl_edge.runtime.manifest import read_manifest

TEST_ID = 930_000
FRAMES = 30
BATCHES = (1, FRAMES)  # a live frame, and a window
WARM_UP = 5
WANTED_SPEEDUP = 2.5


def trunk_times(encoders: dict[str, Encoder], rounds: int) -> dict[str, Any]:
    """Return milliseconds of `frames` by batch and precision, taken in turn."""
    rows: dict[str, Any] = {}
    for batch in BATCHES:
        silhouettes = walk(next(iter(encoders.values())), batch)
        samples: dict[str, list[float]] = {name: [] for name in encoders}
        for turn in range(rounds + WARM_UP):
            for name, encoder in encoders.items():
                start = time.perf_counter()
                encoder.frames(silhouettes)
                if turn >= WARM_UP:
                    samples[name].append((time.perf_counter() - start) * 1e3)
        median = {name: percentile(taken, 50) for name, taken in samples.items()}
        rows[f"{batch} frames"] = {
            "times": {name: summary(taken) for name, taken in samples.items()},
            "speedup": {n: round(median["float32"] / value, 3) for n, value in median.items()},
        }
    return rows


def accuracy(encoders: dict[str, Encoder], people: int) -> dict[str, Any]:
    """Return rank-1 of every precision on the same Walkers in the CASIA-B protocol.

    `lost` compares it with float32's search by search, with the error of the difference.
    """
    size = next(iter(encoders.values())).info.size
    made = walkers.generate(
        range(TEST_ID, TEST_ID + people), frames=FRAMES, size=size, workers=usable_cores()
    )
    rows, answers = {}, {}
    for name, encoder in encoders.items():
        embedded = [encoder.encode(sequence[None]).embedding for sequence in made.silhouettes]
        walks = Walks(np.concatenate(embedded), made.people, made.sequences, made.views_deg)
        answers[name] = walks
        rows[name] = rank1_table(walks) | {"lost": lost_matches(answers["float32"], walks)}
    return rows


def main(argv: list[str] | None = None) -> int:
    """Run the command; return its exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", help="an exported folder")
    parser.add_argument(
        "--people", type=int, default=50, help="Walkers for rank-1; 0 leaves it out"
    )
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--threads", type=int, default=usable_cores())
    parser.add_argument("--out", help="append the record to this file of JSON lines")
    args = parser.parse_args(argv)
    try:
        manifest = read_manifest(Path(args.model))
        names = ("float32", *manifest.precisions)
        encoders = {n: load(args.model, "onnxruntime", args.threads, n) for n in names}
        times = trunk_times(encoders, args.rounds)
        ranks = accuracy(encoders, args.people) if args.people else {}
    except CstlEdgeError as err:
        print(f"error: {err}", file=sys.stderr)
        return err.exit_code
    info, machine = encoders["float32"].info, environment()
    record = {
        "benchmark": "precision",
        "model": info.model_name,
        "weights_sha256": info.weights_sha256,
        "backend": f"{info.backend} {info.provider}",
        "threads": info.threads,
        "frames": times,
        "wanted_speedup": WANTED_SPEEDUP,
        "people": args.people,
        "rank1": ranks,
        "environment": machine,
    }
    for batch, row in times.items():
        cells = (
            f"{n} {row['times'][n]['p50_ms']:.2f} ms ({row['speedup'][n]:.2f}x)" for n in encoders
        )
        print(f"frames, {batch}: {', '.join(cells)}")
    for name, table in ranks.items():
        mean, lost = table["mean"], table["lost"]
        print(
            f"rank-1, {name}: {mean['same_view']:.4f} same view, {mean['cross_view']:.4f} across, "
            f"lost {lost['points']:.2f} ± {lost['standard_error_points']:.2f} points"
        )
    print(f"wanted: int8 at {WANTED_SPEEDUP}x on 2 cores; here {machine['vector']}")
    if args.out:
        append_jsonl(args.out, record)
    return 0


if __name__ == "__main__":
    sys.exit(main())
