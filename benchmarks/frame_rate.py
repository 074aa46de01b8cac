"""Measure how many frames per second a walker needs: 25, 12.5, 8.3 and 5 over 2, 4 and 8 seconds.

    python benchmarks/frame_rate.py [MODEL] --people 60 --cache runs/frame_rate --out results.jsonl

Each walk is rendered once, at 25 frames per second for 8 seconds; the others are every second,
third and fifth of its frames, so that all rates see the same walk. Sets: held-out Walkers of the
second generator (`walkers`), and people of the shifted set's strides, clothes and bags, drawn over
its pictures and cut out by the person network (`shifted`; their masks are made here, in minutes).
Everybody is enrolled from one walk seen from the left side at the same rate, and searched by
another walk of the same outfit and by one in a coat, 45 and 90 degrees apart. `first` takes every
frame until FIRST frames are there and the rate after that. The model's own distance and everything
seen (`identification.Rule`), under the mean of these people. Per rate and duration: rank-1 and the
area under the ROC curve, with the standard error over people of the difference to 25 per second.
Letters: s frames, h w pixels, k windows, p parts, d embedding dimensions.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from identification import HOP, WINDOW, Rule, Walk
from study import append_record, run_study, study_parser

from cstl_edge.arrays import Bools, Doubles, Floats, Indices, Silhouettes
from cstl_edge.distance import Distance
from cstl_edge.runtime import load
from cstl_edge.runtime.base import Encoder
from cstl_edge.silhouette import align
from cstl_edge.walkers.clothed.backdrops import SHIFTED_FAMILIES
from cstl_edge.walkers.clothed.film import FilmSettings, film_masks
from cstl_edge.walkers.clothed.frames import silhouettes as render
from cstl_edge.walkers.clothed.outfit import draw_outfit, with_load
from cstl_edge.walkers.clothed.person_network import person_network
from cstl_edge.walkers.clothed.session import WalkSession, make_session
from cstl_edge.walkers.person import make_person

CAMERA_FPS, LONGEST_S = 25.0, 8.0
STRIDES = (1, 2, 3, 5)  # of the camera's frames: 25, 12.5, 8.3 and 5 per second
SECONDS = (1.0, 2.0, 4.0, 8.0)
FIRST = 15  # frames before the first answer
HEIGHT_PX = 100
FIRST_IDS = {"walkers": 940_000, "shifted": 925_000}
ENROLLED = ("nm", 1, 90.0, 1)  # condition, day of the outfit, view [degrees], number of the walk
SEARCHES = {
    "same outfit, 45°": ("nm", 1, 135.0, 2),
    "same outfit, 90°": ("nm", 1, 0.0, 3),
    "coat, 45°": ("cl", 4, 45.0, 4),
}


def session_of(person_id: int, shown: tuple[str, int, float, int], shifted: bool) -> WalkSession:
    """Return a walk of somebody at the camera's rate.

    Args:
        person_id: Who walks.
        shown: Condition, day, view and number of the walk.
        shifted: Whether to draw from what the shifted set keeps to itself.
    """
    condition, day, view, number = shown
    seed = int(np.random.SeedSequence([person_id, number]).generate_state(1, np.uint64)[0])
    session = make_session(seed, day, person_id, condition, view, shifted=shifted)
    if condition == "cl":
        worn = draw_outfit(person_id, 1, "nm", shifted=shifted)
        session = replace(session, outfit=with_load(worn, session.outfit))
    camera = replace(session.camera, fps=CAMERA_FPS, height_px=HEIGHT_PX)
    return replace(session, camera=camera, turn_deg_s=0.0, pace_end=1.0)


def walk(
    person_id: int, shown: tuple[str, int, float, int], kind: str, size: tuple[int, int]
) -> Silhouettes:
    """Render one walk [s, h, w] at 25 frames per second.

    Args:
        person_id: Who walks.
        shown: Condition, day, view and number of the walk.
        kind: Name of the set.
        size: Height and width of a silhouette.
    """
    frames = round(CAMERA_FPS * LONGEST_S)
    session = session_of(person_id, shown, kind == "shifted")
    person = make_person(person_id)
    if kind == "walkers":
        return render(person, session, frames, size)
    settings = FilmSettings(SHIFTED_FAMILIES)
    masks = film_masks(person, session, frames, person_network(), settings)
    cut = [align(mask, size) if mask.any() else None for mask in masks]
    empty = np.zeros(size, np.uint8)  # a frame without a person, which `seen` leaves out
    return np.stack([empty if mask is None else mask for mask in cut])


def stored_walk(
    cache: Path, person_id: int, name: str, kind: str, size: tuple[int, int]
) -> Silhouettes:
    """Return a walk from the cache, which gets it first where it is missing.

    Args:
        cache: Folder.
        person_id: Who walks.
        name: A key of `SEARCHES`, or "enrolled".
        kind: Name of the set.
        size: Height and width of a silhouette.
    """
    shown = ENROLLED if name == "enrolled" else SEARCHES[name]
    path = cache / f"{kind}-{person_id}-{shown[3]}-{size[0]}.npz"
    if not path.exists():
        cache.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(".part.npz")
        np.savez_compressed(part, walk=walk(person_id, shown, kind, size))
        part.rename(path)
    stored: Silhouettes = np.load(path)["walk"]
    return stored


def seen(empty: Bools, stride: int, seconds: float, first: int = 0) -> Indices:
    """Return the numbers of the frames that are taken of a walk.

    Args:
        empty: Frames without a person at the camera's rate [s], which are left out.
        stride: One frame of so many is taken.
        seconds: Of the walk.
        first: Frames at the beginning that are all taken.
    """
    numbers = np.arange(round(seconds * CAMERA_FPS))
    taken = ((numbers < first) | (numbers % stride == 0)) & ~empty[: len(numbers)]
    return np.flatnonzero(taken)


def windows(encoder: Encoder, features: Floats) -> Floats:
    """Return the embeddings of a walk's windows, [s, p, c] to [k, p, d], overlapping by half."""
    length = min(WINDOW, len(features))
    starts = range(0, len(features) - length + 1, HOP)
    each = np.stack([features[i : i + length] for i in starts])
    return encoder.head(each, np.full(len(each), length, np.int32)).embedding


class People:
    """Everybody's walks at every rate and duration, embedded once."""

    def __init__(self, encoder: Encoder, args: argparse.Namespace, kind: str) -> None:
        """Keep what is needed to make them."""
        first = FIRST_IDS[kind]
        self.ids = list(range(first, first + args.people))
        self._encoder, self._cache, self._kind = encoder, args.cache, kind
        self._done: dict[tuple[str, int, float, int], list[Walk]] = {}
        self._features: dict[tuple[str, int], tuple[Floats, Bools]] = {}

    def walks(self, name: str, stride: int, seconds: float, first: int = 0) -> list[Walk]:
        """Return everybody's walk.

        Args:
            name: A key of `SEARCHES`, or "enrolled".
            stride: One frame of so many is taken.
            seconds: Of the walk.
            first: Frames at the beginning that are all taken.
        """
        key = (name, stride, seconds, first)
        if key not in self._done:
            taken = [
                features[seen(empty, stride, seconds, first)]
                for features, empty in (self._walk(name, i) for i in self.ids)
            ]
            self._done[key] = [
                Walk(str(i), name, 0.0, windows(self._encoder, own))
                for i, own in zip(self.ids, taken, strict=True)
            ]
        return self._done[key]

    def _walk(self, name: str, person_id: int) -> tuple[Floats, Bools]:
        """Return the features [s, p, c] of a walk's frames, and which show nobody."""
        key = name, person_id
        if key not in self._features:
            size = self._encoder.info.size
            whole = stored_walk(self._cache, person_id, name, self._kind, size)
            parts = range(0, len(whole), WINDOW)
            features = [self._encoder.frames(whole[i : i + WINDOW]) for i in parts]
            empty: Bools = whole.reshape(len(whole), -1).max(axis=1) == 0
            self._features[key] = np.concatenate(features), empty
        return self._features[key]

    def mean(self) -> Floats:
        """Return the mean of all walks at the camera's rate, as a camera has it."""
        walks = [w for name in ("enrolled", *SEARCHES) for w in self.walks(name, 1, 4.0)]
        return np.asarray(np.mean([w.windows.mean(axis=0) for w in walks], axis=0), np.float32)


def by_person(distances: Floats) -> Doubles:
    """Return each person's hit (0 or 1) and area under the ROC curve, [people, 2].

    distances: [searches, entries], the same people in the same order
    """
    own = np.diagonal(distances)
    others = distances[~np.eye(len(distances), dtype=bool)]
    hits = distances.argmin(axis=1) == np.arange(len(distances))
    above = 1 - np.searchsorted(np.sort(others), own, side="right") / len(others)
    return np.stack([hits, above], axis=1).astype(np.float64)


def compared(own: Doubles, base: Doubles) -> dict[str, float]:
    """Return the figures of a rate, and what it loses against the base with standard errors."""
    lost: Doubles = base - own  # [people, 2]
    error = lost.std(axis=0, ddof=1) / np.sqrt(len(lost))
    values = (*own.mean(axis=0), *lost.mean(axis=0), *error)
    names = ("rank1", "auc", "rank1_lost", "auc_lost", "rank1_error", "auc_error")
    return {name: round(float(value), 4) for name, value in zip(names, values, strict=True)}


def measure(people: People, distance: Distance) -> list[dict[str, Any]]:
    """Return a row per rate and duration."""
    rule, rows = Rule(distance, people.mean()), []
    for seconds in SECONDS:
        scores: dict[tuple[int, int], Doubles] = {}
        for stride in STRIDES:
            for first in (0, FIRST) if stride > 1 else (0,):
                entries = people.walks("enrolled", stride, LONGEST_S, first)
                each = [
                    by_person(rule.matrix(people.walks(name, stride, seconds, first), entries))
                    for name in SEARCHES
                ]
                scores[stride, first] = np.mean(each, axis=0)
        for (stride, first), score in scores.items():
            way = f"{CAMERA_FPS / stride:.3g}" + (f" after {first}" if first else "")
            row: Mapping[str, float] = compared(score, scores[1, 0])
            rows.append({"seconds": seconds, "frames_per_second": way, **row})
            print(rows[-1], flush=True)
    return rows


def people_with_walks(people: People, encoder: Encoder, cache: Path, kind: str) -> list[int]:
    """Return who has enough frames in every walk; the others' segmenter lost them."""
    size, least = encoder.info.size, round(0.6 * CAMERA_FPS * LONGEST_S)
    names = ("enrolled", *SEARCHES)
    return [
        i
        for i in people.ids
        if all(stored_walk(cache, i, n, kind, size).any(axis=(1, 2)).sum() > least for n in names)
    ]


def study(args: argparse.Namespace) -> None:
    """Measure the sets, print rows, append a record of each."""
    encoder = load(args.model)
    for kind in args.sets:
        people = People(encoder, args, kind)
        good = people_with_walks(people, encoder, args.cache, kind)
        people.ids = good
        print(f"{kind}: {len(good)} people", flush=True)
        record = {
            "weights_sha256": encoder.info.weights_sha256,
            "set": kind,
            "people": len(good),
            "rows": measure(people, encoder.info.distance),
        }
        append_record(args.out, "frame_rate", record)


def main(argv: list[str] | None = None) -> int:
    """Run the command; return its exit code."""
    parser = study_parser(__doc__)
    parser.add_argument("model", nargs="?", help="folder or checkpoint (default: the shipped one)")
    parser.add_argument("--people", type=int, default=60)
    parser.add_argument("--sets", nargs="+", choices=tuple(FIRST_IDS), default=list(FIRST_IDS))
    parser.add_argument("--cache", type=Path, default=Path("runs/frame_rate"))
    return run_study(parser, study, argv)


if __name__ == "__main__":
    sys.exit(main())
