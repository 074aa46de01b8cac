"""Measure detection, tracking, and whose silhouettes reach an embedding, on synthetic streets.

    python benchmarks/tracking.py --kinds 8 dense --seeds 0-11 --out results.jsonl
    python benchmarks/tracking.py --final --out results.jsonl
    python benchmarks/tracking.py --peers ENVIRONMENT --out results.jsonl

The truth of a street is known in every frame. A person counts from a visible share of 25 %; whoever
is seen less is neither missed nor a false box, for us and for the peers. A row per street: `recall`
and `precision` of the detector, `idf1`, `hota`, `switches`, `tracks_per_person`, `wrong` (share of
the boxes of a track that show another person than most of them), `wrong_embedded` (share of the
silhouettes behind an embedding that show another person than most of them, or nobody), and `bound`,
the IDF1 of perfect ids on the same detections. Seeds 0 to 11 are for choosing, 300 to 311
(`--final`) for figures.

`--peers` compares with ByteTrack and OC-SORT of the package `trackers` on the same detections, in
an environment of their own, which is made where it is not there.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from study import append_record, run_study, study_parser
from tracks.follow import NOBODY, Outcome, follow
from tracks.peers import peer_tracks
from tracks.scores import MATCHED, Boxes, iou_matrix, matches, score
from tracks.streets import FINAL_SEEDS, KINDS, TUNING_SEEDS, open_street

from cstl_edge.live.boxes import Box, intersection
from cstl_edge.live.segmentation.base import Detection, Segmenter
from cstl_edge.live.segmentation.open import open_segmenter
from cstl_edge.runtime import load
from cstl_edge.runtime.base import Encoder

VISIBLE = 0.25  # share of a person from which they count
INSIDE = 0.5  # of a box inside somebody who does not count
People = Sequence[tuple[int, Box, float]]  # walker, box and visible share of one frame


@dataclass(frozen=True)
class Street:
    """Truth of a street, and the people detected in it, frame by frame."""

    fps: float
    people: Sequence[People]
    detections: Sequence[Sequence[Detection]]


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


def measure(street: Street, outcome: Outcome) -> dict[str, Any]:
    """Return the figures of one street, and what became of the people detected in it."""
    boxes = [{i: d.box for i, d in enumerate(frame)} for frame in street.detections]
    truth, detected = counted(street.people, boxes)
    _, tracks = counted(street.people, outcome.tracks)
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


def counted(street: Sequence[People], frames: Sequence[Boxes]) -> tuple[list[Boxes], list[Boxes]]:
    """Return the people who count in each frame, and the boxes without those of other people."""
    truth: list[Boxes] = []
    rest: list[Boxes] = []
    for people, boxes in zip(street, frames, strict=True):
        hidden = _of_hidden(people, boxes)
        truth.append({walker: box for walker, box, share in people if share >= VISIBLE})
        rest.append({number: box for number, box in boxes.items() if number not in hidden})
    return truth, rest


def _of_hidden(people: People, boxes: Boxes) -> set[int]:
    """Return the boxes that show somebody who does not count.

    They fit one of them, or fit nobody and lie inside one of them by more than half, and more than
    inside anybody who counts (the rule of KITTI for regions that do not count).

    Args:
        people: Walker, box and visible share.
        boxes: Of one frame, by number.
    """
    hidden, numbers = [share < VISIBLE for _, _, share in people], list(boxes)
    fits = matches(iou_matrix([box for _, box, _ in people], list(boxes.values())), MATCHED)
    shown = {numbers[t] for g, t in fits if hidden[g]}
    for number in set(numbers) - {numbers[t] for _, t in fits}:
        box = boxes[number]
        inside = [intersection(box, person) / max(box[2] * box[3], 1e-9) for _, person, _ in people]
        most = max((part for part, out in zip(inside, hidden, strict=True) if out), default=0.0)
        rest = max((part for part, out in zip(inside, hidden, strict=True) if not out), default=0.0)
        if most >= INSIDE and most > rest:
            shown.add(number)
    return shown


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


def compare(environment: Path, street: Street) -> dict[str, float]:
    """Return the figures of ByteTrack and OC-SORT on the same detections.

    environment: folder with `trackers`
    """
    figures = {}
    for name, tracks in peer_tracks(environment, street.detections, street.fps).items():
        truth, boxes = counted(street.people, tracks)
        scores = score(truth, boxes)
        figures[f"{name}_idf1"] = round(scores.idf1, 4)
        figures[f"{name}_hota"] = round(scores.hota, 4)
        figures[f"{name}_switches"] = scores.switches
        figures[f"{name}_wrong"] = round(wrong_share(truth, boxes), 4)
    return figures


def run_street(kind: str, seed: int, segmenter: str, encoder: Encoder) -> tuple[Street, Outcome]:
    """Follow everybody in one street; return its truth and what became of them.

    Args:
        kind: Kind of the street.
        seed: Its seed.
        segmenter: Name in the table of segmenters.
        encoder: Embeds the silhouettes.
    """
    scene = open_street(kind, seed)
    found = Remembering(open_segmenter(segmenter, threads=1))
    outcome = follow(scene, found, encoder, scene.labels)
    people: list[People] = []
    for index in range(len(found.detections)):
        seen = [(truth.walker, truth.box, truth.visible) for truth in scene.truth(index)]
        people.append(seen)
    return Street(scene.fps, people, found.detections), outcome


def study(args: argparse.Namespace) -> None:
    """Run the streets, print and append a row for each and the mean of each kind."""
    seeds = FINAL_SEEDS if args.final else args.seeds
    with closing(load(threads=1)) as encoder:
        for kind in args.kinds:
            rows = []
            for seed in seeds:
                street, outcome = run_street(kind, seed, args.segmenter, encoder)
                row = measure(street, outcome)
                if args.peers is not None:
                    row |= compare(args.peers, street)
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
    parser.add_argument("--peers", type=Path, help="environment with `trackers`, made if missing")
    parser.add_argument("--label", help="name of the code that is measured, for the rows")
    parser.add_argument("--verbose", action="store_true", help="print every street")
    return run_study(parser, study, argv)


if __name__ == "__main__":
    sys.exit(main())
