"""Run the live path over a street without an end and watch its memory.

python benchmarks/robustness/soak.py --segmenter background --out soak.jsonl
python benchmarks/robustness/soak.py --segmenter person-mask --frames 50000

Synthetic walkers cross the street again and again, read as fast as that goes. One line of JSON per
2,000 frames: resident memory, threads, open files. The slope is that of a straight line through the
second half of the run; exit 1 when it exceeds 1 MB per 100,000 frames or a thread or file is left.
"""

from __future__ import annotations

import argparse
import gc
import os
import sys
import tempfile
import threading
import time
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np

from cstl_edge.gallery.gallery import Gallery
from cstl_edge.live.pipeline.collect import collect
from cstl_edge.live.pipeline.options import PipelineOptions
from cstl_edge.live.pipeline.run import run
from cstl_edge.live.sources.base import Frame, FrameSource
from cstl_edge.live.sources.synthetic.source import SyntheticSource
from cstl_edge.measure.environment import environment
from cstl_edge.output import append_line
from cstl_edge.runtime import load

EVERY = 2000  # frames between two looks
LIMIT_MB = 1.0  # per 100,000 frames
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


class EndlessStreet(FrameSource):
    """A few streets, one after the other, again and again, under one clock."""

    def __init__(self, frames: int, streets: int = 4, people: int = 3) -> None:
        super().__init__("synthetic://soak")
        self._streets = [
            SyntheticSource(people, seed=seed, size=(180, 320)) for seed in range(streets)
        ]
        self.fps, self.size, self.frames = self._streets[0].fps, self._streets[0].size, frames
        self._index, self._number = 0, 0
        self._street = self._streets[0].reopen()

    def reopen(self) -> SyntheticSource:
        """Return the first street, from which the background is learned."""
        return self._streets[0].reopen()

    def _next(self) -> Frame | None:
        if self._index >= (self.frames or 0):
            return None
        frame = next(self._street, None)
        if frame is None:
            self._number += 1
            self._street = self._streets[self._number % len(self._streets)].reopen()
            return self._next()
        self._index += 1
        return replace(frame, index=self._index - 1, time_s=self._index / self.fps)


def resident_mb() -> float:
    """Return the resident memory of this process."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * PAGE_BYTES / 1e6


def soak(segmenter: str, frames: int, out: Path) -> float:
    """Run, write a row per look, return the slope in MB per 100,000 frames.

    Args:
        segmenter: Name in the table of segmenters.
        frames: Length of the run.
        out: File of JSON lines, appended to.
    """
    record = {"run": f"soak-{segmenter}-{int(time.time())}", "segmenter": segmenter}
    append_line(out, record | {"frames": frames, "environment": environment()})
    looks: list[tuple[int, float]] = []
    seen = events_seen = 0
    started_s = time.monotonic()

    def look(*_: object) -> None:
        nonlocal seen
        seen += 1
        if seen % EVERY:
            return
        gc.collect()
        looks.append((seen, resident_mb()))
        row = {"frame": seen, "resident_mb": round(looks[-1][1], 3), "events": events_seen}
        row |= {"threads": threading.active_count(), "files": len(os.listdir("/proc/self/fd"))}
        append_line(out, record | row | {"seconds": round(time.monotonic() - started_s, 1)})

    with tempfile.TemporaryDirectory() as folder, closing(load()) as encoder:
        options = PipelineOptions(segmenter=segmenter)
        with Gallery.open(Path(folder) / "g.db", model=encoder) as gallery:
            walk = collect(SyntheticSource(1, seed=1000), encoder, options)[0]
            gallery.enroll("Ada", walk.embeddings, consent="synthetic")
            street = EndlessStreet(frames)
            events = run(street, encoder=encoder, gallery=gallery, options=options, observer=look)
            with events:
                for _ in events:
                    events_seen += 1
    second_half = np.array(looks[len(looks) // 2 :])
    slope = float(np.polyfit(second_half[:, 0], second_half[:, 1], 1)[0]) * 1e5
    summary = {"slope_mb_per_100k": round(slope, 3), "tracks": events.summary.tracks}
    append_line(out, record | summary | {"events": events_seen, "answers": events.summary.answers})
    print(f"{segmenter}: {seen} frames, {summary}")
    return slope


def main() -> int:
    """Parse the command line and run."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--segmenter", default="background")
    parser.add_argument("--frames", type=int, default=300_000)
    results = Path(__file__).parents[1] / "results" / "robustness"
    parser.add_argument("--out", type=Path, default=results / "soak.jsonl")
    args = parser.parse_args()
    return int(soak(args.segmenter, args.frames, args.out) > LIMIT_MB)


if __name__ == "__main__":
    sys.exit(main())
