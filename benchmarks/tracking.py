"""Measure detection, tracking, and whose silhouettes reach an embedding, on synthetic streets.

    python benchmarks/tracking.py --kinds 8 dense --seeds 0-11 --out results.jsonl
    python benchmarks/tracking.py --final --out results.jsonl
    python benchmarks/tracking.py --peers ENVIRONMENT --out results.jsonl

The truth of a street is known in every frame. A person counts from a visible share of 25 %; whoever
is seen less is neither missed nor a false box. A row per street: `recall` and `precision` of the
detector, `idf1`, `hota`, `switches`, `tracks_per_person`, `wrong` (share of the boxes of a track
that show another person than most of them), `wrong_embedded` (share of the silhouettes behind an
embedding that show another person than most of them, or nobody), and `bound`, the IDF1 of perfect
ids on the same detections. Seeds 0 to 11 are for choosing, 100 to 111 (`--final`) for figures.

`--peers` compares with ByteTrack and OC-SORT of the package `trackers` on the same detections, in
an environment of their own, which is made where it is not there.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
from study import append_record, run_study, study_parser
from tracks.follow import NOBODY, Outcome, follow
from tracks.peers import peer_tracks
from tracks.replay import ReplaySegmenter, ReplaySource, StoredStreet, stored_street
from tracks.scores import MATCHED, Boxes, iou_matrix, matches, score
from tracks.streets import FINAL_SEEDS, KINDS, TUNING_SEEDS, open_street

from cstl_edge.live.boxes import Box
from cstl_edge.live.segmentation.base import Detection, Segmenter
from cstl_edge.live.segmentation.open import open_segmenter
from cstl_edge.runtime import load
from cstl_edge.runtime.base import Encoder

VISIBLE = 0.25  # share of a person from which they count
STORE = Path("runs/tracking")


class Remembering:
    """A segmenter that remembers the detections of every frame."""

    def __init__(self, segmenter: Segmenter) -> None:
        self._segmenter = segmenter
        self.detections: list[list[Detection]] = []

    def __getattr__(self, name: str) -> Any:
        """Return the segmenter's own."""
        return getattr(self._segmenter, name)

    def segment(self, *args: Any) -> list[Detection]:
        """Return the people of one frame."""
        self.detections.append(self._segmenter.segment(*args))
        return self.detections[-1]


def measure(
    street: StoredStreet, detections: Sequence[Sequence[Detection]], outcome: Outcome
) -> dict[str, Any]:
    """Return the figures of one street.

    Args:
        street: Its truth.
        detections: People detected in each frame.
        outcome: What became of them.
    """
    boxes = [{i: d.box for i, d in enumerate(frame)} for frame in detections]
    truth, detected = counted(street, boxes)
    _, tracks = counted(street, outcome.tracks)
    detector = score(truth, detected)
    scores = score(truth, tracks)
    people = len({walker for frame in truth for walker in frame})
    numbers = {number for frame in outcome.tracks for number in frame}
    silhouettes = sum(sum(walk.values()) for walk in outcome.embedded)
    return {
        "recall": round(detector.recall, 4),
        "precision": round(detector.precision, 4),
        "idf1": round(scores.idf1, 4),
        "hota": round(scores.hota, 4),
        "switches": scores.switches,
        "tracks_per_person": round(len(numbers) / max(people, 1), 3),
        "wrong": round(wrong_share(truth, tracks), 4),
        "wrong_embedded": round(_mixed(outcome.embedded) / max(silhouettes, 1), 4),
        "silhouettes": silhouettes,
        "walks": len(outcome.embedded),
        "bound": round(bound(truth, detected), 4),
    }


def counted(street: StoredStreet, frames: Sequence[Boxes]) -> tuple[list[Boxes], list[Boxes]]:
    """Return the people who count in each frame, and the boxes without those of other people."""
    truth: list[Boxes] = []
    rest: list[Boxes] = []
    for index, boxes in enumerate(frames):
        people = street.people(index)
        visible = [share >= VISIBLE for _, _, share in people]
        numbers = list(boxes)
        overlap = iou_matrix([box for _, box, _ in people], list(boxes.values()))
        hidden = {numbers[t] for g, t in matches(overlap, MATCHED) if not visible[g]}
        truth.append({walker: box for walker, box, share in people if share >= VISIBLE})
        rest.append({number: box for number, box in boxes.items() if number not in hidden})
    return truth, rest


def shown_people(truth: Sequence[Boxes], boxes: Sequence[Boxes]) -> Iterable[list[tuple[int, int]]]:
    """Yield, frame by frame, the person and the number of each box that shows somebody."""
    for people, frame in zip(truth, boxes, strict=True):
        names, numbers = list(people), list(frame)
        overlap = iou_matrix(list(people.values()), list(frame.values()))
        yield [(names[g], numbers[t]) for g, t in matches(overlap, MATCHED)]


def wrong_share(truth: Sequence[Boxes], tracks: Sequence[Boxes]) -> float:
    """Return the share of the tracks' boxes that show another person than most of the track."""
    by_track: dict[int, Counter[int]] = defaultdict(Counter)
    for pairs in shown_people(truth, tracks):
        for person, number in pairs:
            by_track[number][person] += 1
    every = sum(sum(counts.values()) for counts in by_track.values())
    return _mixed(by_track.values()) / max(every, 1)


def _mixed(counters: Iterable[Counter[int]]) -> int:
    """Return how many of the counted are not of the most frequent person; nobody is no person."""
    return sum(
        sum(counts.values()) - max((n for who, n in counts.items() if who != NOBODY), default=0)
        for counts in counters
    )


def bound(truth: Sequence[Boxes], detected: Sequence[Boxes]) -> float:
    """Return the IDF1 of perfect ids on the detections; a box of nobody is a track of its own."""
    frames: list[dict[int, Box]] = []
    for index, pairs in enumerate(shown_people(truth, detected)):
        names = {number: person for person, number in pairs}
        unknown = -1000 * (index + 1)
        frames.append({names.get(k, unknown - k): box for k, box in detected[index].items()})
    return score(truth, frames).idf1


def compare(
    environment: Path, street: StoredStreet, detections: Sequence[Sequence[Detection]]
) -> dict[str, float]:
    """Return the figures of ByteTrack and OC-SORT on the same detections.

    Args:
        environment: Folder with `trackers`.
        street: Its truth.
        detections: People detected in each frame.
    """
    figures = {}
    for name, tracks in peer_tracks(environment, detections, street.fps).items():
        truth, boxes = counted(street, tracks)
        scores = score(truth, boxes)
        figures[f"{name}_idf1"] = round(scores.idf1, 4)
        figures[f"{name}_hota"] = round(scores.hota, 4)
        figures[f"{name}_switches"] = scores.switches
        figures[f"{name}_wrong"] = round(wrong_share(truth, boxes), 4)
    return figures


def run_street(
    kind: str, seed: int, segmenter: str, encoder: Encoder, folder: Path
) -> tuple[StoredStreet, list[list[Detection]], Outcome]:
    """Follow everybody in one street; return its truth, the detections and what became of them.

    Args:
        kind: Kind of the street.
        seed: Its seed.
        segmenter: Name in the table of segmenters; background subtraction is replayed.
        encoder: Embeds the silhouettes.
        folder: Where streets are stored.
    """
    scene = open_street(kind, seed)
    street = stored_street(scene, folder)
    if segmenter == "background":
        replay = ReplaySegmenter(street)
        outcome = follow(ReplaySource(street), replay, encoder, street.labels.__getitem__)
        return street, replay.detections, outcome
    real = Remembering(open_segmenter(segmenter, threads=1))
    outcome = follow(scene, real, encoder, street.labels.__getitem__)
    return street, real.detections, outcome


def study(args: argparse.Namespace) -> None:
    """Run the streets, print and append a row for each and the mean of each kind."""
    seeds = FINAL_SEEDS if args.final else args.seeds
    with closing(load(threads=1)) as encoder:
        for kind in args.kinds:
            rows = []
            for seed in seeds:
                street, detections, outcome = run_street(
                    kind, seed, args.segmenter, encoder, args.store
                )
                row = measure(street, detections, outcome)
                if args.peers is not None:
                    row |= compare(args.peers, street, detections)
                rows.append(row)
                if args.verbose:
                    print(kind, seed, row, flush=True)
                names = {"kind": kind, "seed": seed, "segmenter": args.segmenter}
                append_record(args.out, "tracking", names | {"label": args.label} | row)
            print(_summary(kind, rows), flush=True)


def _summary(kind: str, rows: Sequence[dict[str, Any]]) -> str:
    """Return the means of a kind, for a person."""
    means = {name: float(np.mean([row[name] for row in rows])) for name in rows[0]}
    text = " ".join(f"{name} {value:.3f}" for name, value in means.items())
    return f"{kind:9}n={len(rows)} {text}"


def _seeds(text: str) -> tuple[int, ...]:
    first, _, last = text.partition("-")
    return tuple(range(int(first), int(last or first) + 1))


def main(argv: Sequence[str] | None = None) -> int:
    """Run the study; return the exit code."""
    parser = study_parser(__doc__)
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS))
    parser.add_argument("--seeds", type=_seeds, default=TUNING_SEEDS, help="such as 0-11")
    parser.add_argument("--final", action="store_true", help="the seeds for figures")
    parser.add_argument("--segmenter", default="background")
    parser.add_argument("--store", type=Path, default=STORE, help="folder of stored streets")
    parser.add_argument("--peers", type=Path, help="environment with `trackers`, made if missing")
    parser.add_argument("--label", help="name of the code that is measured, for the rows")
    parser.add_argument("--verbose", action="store_true", help="print every street")
    return run_study(parser, study, argv)


if __name__ == "__main__":
    sys.exit(main())
