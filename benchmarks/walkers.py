"""Measure Walkers: cost per frame, how hard the baseline finds them, what their motion tells.

python benchmarks/walkers.py                       # ms per frame on this core
python benchmarks/walkers.py --calibrate           # baseline's rank-1 in the CASIA-B protocol
python benchmarks/walkers.py --sheet people.png    # a contact sheet to look at
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from study import append_record, run_study, study_parser

from cstl_edge.arrays import Floats, Silhouettes
from cstl_edge.evaluation.closed_set import rank1_table
from cstl_edge.evaluation.embeddings import LabelledEmbeddings, gait_energy
from cstl_edge.measure.environment import environment
from cstl_edge.measure.stats import summary
from cstl_edge.walkers import generate

FIRST_ID = 900_000  # people that no training set holds
MOTION_BODY = 900_000  # the one body of the motion study
SHEET_VIEWS = (0, 18, 54, 72, 126, 144, 180)


def speed(recordings: int, frames: int, size: tuple[int, int]) -> dict[str, Any]:
    """Take the processor time of silhouettes of many recordings, everything included.

    Args:
        recordings: Number of recordings, each of another person.
        frames: Number of frames of a recording.
        size: Height and width of the silhouettes.
    """
    cv2.setNumThreads(1)
    generate.silhouettes(generate.person(0), generate.recording(0), frames, size)
    samples_ms = []
    for i in range(recordings):
        person = generate.person(FIRST_ID + i)
        walk = generate.recording(i, generate.CONDITIONS[i % 3], 18.0 * (i % 11))
        start = time.process_time()
        generate.silhouettes(person, walk, frames, size)
        samples_ms.append((time.process_time() - start) * 1e3 / frames)
    return {"size": list(size), "frames": frames, "ms_per_frame": summary(samples_ms)}


def motion_features(silhouettes: Silhouettes) -> Floats:
    """Return what a still picture lacks: deviation over time and spectrum of coarse pixels."""
    out = []
    for sequence in silhouettes:
        coarse = np.stack([cv2.resize(f, (22, 32), interpolation=cv2.INTER_AREA) for f in sequence])
        moving = coarse.astype(np.float32) / 255
        moving -= moving.mean(0)
        waves = np.abs(np.fft.rfft(moving, axis=0))[1:9] / len(moving)
        out.append(np.concatenate([moving.std(0).ravel(), waves.sum((1, 2)) / 10, waves.ravel()]))
    return np.stack(out)[:, None].astype(np.float32)  # [m, 1, d]


def calibrate(people: int, frames: int, workers: int) -> dict[str, Any]:
    """Measure and print rank-1 of nearest neighbours on hand-made features in CASIA-B's protocol.

    Of people with their own bodies, and of people who share one.

    Args:
        people: Number of people.
        frames: Number of frames of a recording.
        workers: Number of processes.
    """
    ids = range(FIRST_ID, FIRST_ID + people)
    tables: dict[str, Any] = {}
    for bodies, seed in (("own bodies", None), ("one body", MOTION_BODY)):
        walkers = generate.generate(ids, frames=frames, workers=workers, body_seed=seed)
        labels = (walkers.people, walkers.sequences, walkers.views_deg)
        for features, make in (("mean picture", gait_energy), ("motion", motion_features)):
            table = rank1_table(LabelledEmbeddings(make(walkers.silhouettes), *labels))
            name = f"{bodies}, {features}"
            tables[name] = {"people": people, "frames": frames, **table}
            cells = (
                f"{c} {table[c]['same_view']:.3f}/{table[c]['cross_view']:.3f}"
                for c in generate.CONDITIONS
            )
            print(f"{name:24s} rank-1 same view / across views: {', '.join(cells)}", flush=True)
    return tables


def sheet(path: Path, people: int) -> None:
    """Draw people in rows: eight frames from the side, then other views, per condition."""
    rows = []
    for i in range(people):
        for condition in generate.CONDITIONS:
            person = generate.person(FIRST_ID + i)
            side = generate.silhouettes(person, generate.recording(i, condition), 8, (128, 88))
            views = [
                generate.silhouettes(person, generate.recording(i, condition, v), 5, (128, 88))[4]
                for v in SHEET_VIEWS
            ]
            rows.append(np.hstack([*side, *views]))
    cv2.imwrite(str(path), np.vstack(rows))


def study(args: argparse.Namespace) -> None:
    """Run what was asked for, print it, append it to --out."""
    if args.sheet:
        sheet(args.sheet, min(args.people, 8))
        return
    record: dict[str, Any] = {"environment": environment()}
    record["speed"] = [speed(60, args.frames, size) for size in ((64, 44), (128, 88))]
    for row in record["speed"]:
        print(f"{row['size']}: {row['ms_per_frame']} ms per frame per core")
    if args.calibrate:
        record["calibration"] = calibrate(args.people, args.frames, args.workers)
    append_record(args.out, "walkers", record)


def main(argv: list[str] | None = None) -> int:
    """Run the command; return its exit code."""
    parser = study_parser(__doc__)
    parser.add_argument("--calibrate", action="store_true", help="rank-1 of the baselines")
    parser.add_argument("--sheet", type=Path, help="write a contact sheet (PNG) and stop")
    parser.add_argument("--people", type=int, default=50)
    parser.add_argument("--frames", type=int, default=30)
    parser.add_argument("--workers", type=int, default=1)
    return run_study(parser, study, argv)


if __name__ == "__main__":
    sys.exit(main())
