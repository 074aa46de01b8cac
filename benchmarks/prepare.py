"""Measure how many silhouettes per second `data prepare` makes of PNGs of CASIA-B's size.

python benchmarks/prepare.py                        # 2 workers, a tree of 13,200 masks, 5 runs
python benchmarks/prepare.py --out results.jsonl    # and append raw samples and the machine
"""

from __future__ import annotations

import argparse
import io
import os
import resource
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image
from study import append_record, run_study, study_parser

from cstl_edge.data.importing.layouts.published import CASIA_B_TYPES, CASIA_B_VIEWS_DEG
from cstl_edge.data.importing.prepare import prepare
from cstl_edge.data.importing.settings import PrepareSettings
from cstl_edge.measure.environment import environment
from cstl_edge.walkers import generate

CANVAS = (240, 320)  # of a frame of CASIA-B, in pixels
FRAMES = 60  # of a sequence; those of CASIA-B have about 80
DRAWN = 12  # different frames per view, each written several times


def make_tree(root: Path, people: int) -> tuple[int, float]:
    """Write a tree in CASIA-B's layout; return how many masks and their mean size in bytes."""
    masks = {view: _masks(view) for view in CASIA_B_VIEWS_DEG}
    count, size = 0, 0
    for person in range(1, people + 1):
        for kind in CASIA_B_TYPES:
            for view, images in masks.items():
                label = f"{person:03d}-{kind}-{view:03d}"
                place = root / f"{person:03d}" / kind / f"{view:03d}"
                place.mkdir(parents=True)
                for frame in range(FRAMES):
                    image = images[frame % DRAWN]
                    (place / f"{label}-{frame + 1:03d}.png").write_bytes(image)
                    count, size = count + 1, size + len(image)
    return count, size / count


def _masks(view: int) -> list[bytes]:
    """Draw masks of a walker from one view, persons of 90 to 170 pixels, as PNG files."""
    walker, walk = generate.person(900_100 + view), generate.recording(view, "nm", float(view))
    drawn = generate.silhouettes(walker, walk, DRAWN, (128, 88))
    images = []
    for i, silhouette in enumerate(drawn):
        height = 90 + 80 * i // DRAWN
        width = round(height * 88 / 128)
        person = cv2.resize(silhouette, (width, height), interpolation=cv2.INTER_AREA)
        frame = np.zeros(CANVAS, np.uint8)
        left = 20 + 15 * i
        frame[50 : 50 + height, left : left + width] = np.where(person >= 128, 255, 0)
        file = io.BytesIO()
        Image.fromarray(frame).save(file, "PNG")  # as most tools: adaptive filters, zlib's default
        images.append(file.getvalue())
    return images


def one_run(source: Path, size: tuple[int, int], workers: int) -> dict[str, Any]:
    """Prepare the tree once, start of the workers included.

    Args:
        source: Folder of the images.
        size: Height and width of the silhouettes.
        workers: Number of processes.
    """
    with tempfile.TemporaryDirectory() as folder:
        before = _cpu_s()
        start = time.perf_counter()
        settings = PrepareSettings(dataset="casia-b", size=size)
        index = prepare(source, folder, settings, workers=workers)
        wall_s = time.perf_counter() - start
    sample = {"silhouettes": index.frames, "wall_s": round(wall_s, 4)}
    return {**sample, "cpu_s": round(_cpu_s() - before, 4), "load_1min": os.getloadavg()[0]}


def _cpu_s() -> float:
    """Return the processor time of this process and of its children that have ended."""
    used = [resource.getrusage(x) for x in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in used)


def study(args: argparse.Namespace) -> None:
    """Run it several times, print silhouettes per second, append the record."""
    size = (64, 44) if args.size == "64x44" else (128, 88)
    record: dict[str, Any] = {"environment": environment(), "workers": args.workers}
    record |= {"note": args.note, "size": list(size), "samples": []}
    with tempfile.TemporaryDirectory() as folder:
        record["masks"], record["mean_bytes"] = make_tree(Path(folder), args.people)
        for _ in range(args.runs):
            sample = one_run(Path(folder), size, args.workers)
            record["samples"].append(sample)
            wall, cpu = (sample["silhouettes"] / sample[key] for key in ("wall_s", "cpu_s"))
            print(f"{wall:,.0f} per second, {cpu:,.0f} per second of one core", flush=True)
    append_record(args.out, "prepare", record)


def main(argv: list[str] | None = None) -> int:
    """Run the command; return its exit code."""
    parser = study_parser(__doc__)
    parser.add_argument("--people", type=int, default=2)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--size", choices=("64x44", "128x88"), default="64x44")
    parser.add_argument("--note", default="", help="what else goes on, for the record")
    return run_study(parser, study, argv)


if __name__ == "__main__":
    sys.exit(main())
