"""Measure how many frames a camera drops with the default segmenter and N people in view at once.

    python benchmarks/people_in_view.py --draw pictures         # draw the streets, once
    python benchmarks/people_in_view.py --pictures pictures --out results.jsonl

Streets that people cross in turn, so that N are in view for the last `FULL_S` seconds, at 25 frames
per second, as from a camera; the whole pipeline of `cstl-edge live` runs on them, with a gallery of
20 people drawn at random. What counts is the time from when N are in view. Goal: at most 1 % of
its frames dropped, with 8 people at 640x360 and 4 at 1280x720.

The pictures are drawn beforehand, in minutes, and lie in memory, so that drawing costs nothing
while it is measured; a thread hands them out, one copy each, as it does with those of a camera.
Decoding is left out: `live` decodes in a process of its own.
"""

from __future__ import annotations

import argparse
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
from study import append_record, run_study, study_parser

import cstl_edge
from cstl_edge.bench.scenarios.end_to_end import PEOPLE, TEMPLATES, run_pipeline
from cstl_edge.bench.scenarios.synthetic_street import SEED, paced_source
from cstl_edge.gallery.gallery import Gallery
from cstl_edge.live.segmentation.open import DEFAULT_SEGMENTER
from cstl_edge.live.sources.base import FrameSource
from cstl_edge.live.sources.synthetic.cast import scheduled, street_walkers
from cstl_edge.live.sources.synthetic.source import FPS, SyntheticSource
from cstl_edge.measure.stats import percentile
from cstl_edge.runtime.base import Encoder

STREETS = ((8, (360, 640)), (4, (720, 1280)))  # people, height and width in pixels
CROSSING_S = 6.2  # between an entrance and the N-th after it: so long somebody is in sight
FILL_S, FULL_S = 10.0, 8.0  # until the people are in view; that they are measured
SEEN = 0.25  # of an outline: who is seen by less is not in view


def draw(folder: Path) -> None:
    """Write the pictures of each street, raw, and how many are in view in each."""
    folder.mkdir(parents=True, exist_ok=True)
    for walkers, size in STREETS:
        gap_s, seconds = CROSSING_S / walkers, FILL_S + FULL_S
        people = scheduled(street_walkers(round(seconds / gap_s), SEED), SEED, (gap_s, gap_s))
        with SyntheticSource(people, seed=SEED, seconds=seconds, size=size) as scene:
            pictures = [frame.image for frame in scene]
            in_view = [
                sum(each.visible >= SEEN for each in scene.truth(i)) for i in range(len(pictures))
            ]
        np.save(place(folder, walkers, size), np.stack(pictures))
        np.savetxt(place(folder, walkers, size).with_suffix(".txt"), in_view, "%d")


def place(folder: Path, walkers: int, size: tuple[int, int]) -> Path:
    """Return the file of a street's pictures."""
    return folder / f"{walkers}-{size[1]}x{size[0]}.npy"


def one_street(
    source: FrameSource, model: Encoder, gallery: Gallery, segmenter: str
) -> dict[str, Any]:
    """Run the pipeline over a street once.

    Args:
        source: The street, at its pace.
        model: Encoder.
        gallery: Who may be named.
        segmenter: Name out of the table.
    """
    result = run_pipeline(source, model, gallery, segmenter, steady_frame=round(FILL_S * FPS))
    stages = {k: [round(v, 3) for v in values] for k, values in result.samples.items()}
    return {
        "values": result.values,
        "conditions": result.conditions,
        "notes": result.notes,
        "samples_ms": stages,
    }


def study(args: argparse.Namespace) -> None:
    """Draw, or measure, print and append a record per run."""
    if args.draw:
        draw(args.draw)
        return
    model = cstl_edge.load(threads=args.threads)
    gallery_file = args.pictures / "people.db"
    gallery_file.unlink(missing_ok=True)
    rng = np.random.default_rng(0)
    with closing(Gallery.open(gallery_file, model=model)) as gallery:
        for number in range(PEOPLE):
            drawn = rng.normal(size=(TEMPLATES, model.info.parts, model.info.embedding))
            gallery.enroll(
                f"person {number}", drawn.astype(np.float32), consent="nobody real", force=True
            )
        for walkers, size in STREETS:
            pictures = list(np.load(place(args.pictures, walkers, size)))
            in_view = np.loadtxt(place(args.pictures, walkers, size).with_suffix(".txt"))
            people = float(in_view[round(FILL_S * FPS) :].mean())
            for segmenter in args.segmenter or [DEFAULT_SEGMENTER]:
                name = f"{walkers} people, {size[1]}x{size[0]}"
                run = one_street(paced_source(pictures, name), model, gallery, segmenter)
                record = {"source": name, "segmenter": segmenter, "people_in_view": people}
                append_record(args.out, "people_in_view", record | run)
                total = run["samples_ms"]["total"]
                print(
                    f"{name}, {segmenter}: {run['values']['dropped_share']:.1%} dropped, "
                    f"{people:.1f} in view, {run['values']['walkers_in_view']:.1f} tracked, p50 "
                    f"{percentile(total, 50):.0f} ms, p99 {percentile(total, 99):.0f} ms",
                    flush=True,
                )


def main(argv: list[str] | None = None) -> int:
    """Run the command; return its exit code."""
    parser = study_parser(__doc__)
    parser.add_argument("--draw", type=Path, help="folder into which the pictures are drawn")
    parser.add_argument("--pictures", type=Path, help="folder of drawn pictures")
    parser.add_argument("--segmenter", action="append", help="instead of the default; repeatable")
    parser.add_argument("--threads", type=int, default=2)
    return run_study(parser, study, argv)


if __name__ == "__main__":
    sys.exit(main())
