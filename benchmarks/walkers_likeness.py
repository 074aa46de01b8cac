"""Compare Walkers with real people: measures of silhouettes, parts, pictures, a classifier.

    python benchmarks/walkers_likeness.py --generator 2 --people 24
    python benchmarks/walkers_likeness.py --generator 2 --filmed 1 --people 10
    python benchmarks/walkers_likeness.py --video ../shared/data/one-by-one-person-detection.mp4 \
        --page docs/images/walkers.webp

The reference figures (REAL) were taken from hidden recordings of real walkers in coats and jackets,
with measures of their own; `first generator` is what the same hand measured on the first
generator. Measures here were chosen so that the first generator has about those figures; a real
figure is compared through the ratio to it. Letters: `m` sequences, `s` frames, `h w` pixels.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from study import append_record

from cstl_edge import load, read_walks
from cstl_edge.live.segmentation.mask_network import (
    crop_square,
    main_components,
    square_around,
)
from cstl_edge.runtime.masks.open import open_mask_network
from cstl_edge.silhouette import align, refusal
from cstl_edge.walkers.clothed.collection import person_walks
from cstl_edge.walkers.collection import generate

FIRST_ID = 910_000
VIEWS_DEG = (75, 90, 105, 30, 150, 0, 270)
FIRST_VIEWS_DEG = (72, 90, 108, 36, 144, 0, 180)  # the first generator's are left sides
TRUNK, FEET, ARMS = slice(20, 36), slice(56, 64), slice(16, 36)  # rows of 64
REAL = {  # measure: real, first generator (both by the measures of the hidden recordings)
    "trunk width, mean": (16.9, 12.5),
    "trunk width, between": (1.8, 1.2),
    "trunk width, within": (1.5, 1.5),
    "largest step, between": (1.2, 2.2),
    "largest step, within": (4.1, 3.6),
    "arm blur, between": (0.3, 0.5),
    "arm blur, within": (0.5, 0.3),
}
REAL_PARTS = (0.69, 0.71, 0.71, 0.70, 0.73, 0.69, 0.73, 0.75, 0.78, 0.76, 0.77, 0.72, 0.73, 0.64,
              0.61, 0.57)  # fmt: skip
FIRST = {  # the same rows by the measures here, first generator, 25 people
    "trunk width, mean": 12.53,
    "trunk width, between": 1.67,
    "trunk width, within": 1.15,
    "largest step, between": 2.83,
    "largest step, within": 3.63,
    "arm blur, between": 1.98,
    "arm blur, within": 1.31,
}
LEAST_TURN_DEG = 45  # between two walks whose parts are compared
LUMA_STEP = 28
WINDOW = 25  # frames


@dataclass(frozen=True)
class Walks:
    """Sequences of one outfit per person, from several sides."""

    silhouettes: list[Any]  # m of [s, h, w]
    people: Any  # [m]
    views_deg: Any  # [m]


def make_walks(generator: int, people: int, filmed: float) -> Walks:
    """Render two walks of each person in one outfit."""
    ids = range(FIRST_ID, FIRST_ID + people)
    if generator == 1:
        made = generate(ids, recordings={"nm": 2}, views_deg=FIRST_VIEWS_DEG, frames=24)
        return Walks(list(made.silhouettes), made.people, made.views_deg)
    rows = [
        (identity, view, silhouettes)
        for identity in ids
        for _, view, silhouettes in person_walks(
            identity, recordings={"nm": 2}, views_deg=VIEWS_DEG, frames=24, filmed=filmed
        )
    ]
    names, views, silhouettes = zip(*rows, strict=True)
    return Walks(list(silhouettes), np.array(names), np.array(views))


def measures(silhouettes: Any) -> dict[str, float]:
    """Return the measures of one sequence [s, 64, 44], in pixels."""
    seen = silhouettes > 127
    first = seen.argmax(2)
    last = seen.shape[2] - seen[:, :, ::-1].argmax(2)
    extent = np.where(seen.any(2), last - first, 0)  # [s, h]
    mean = seen.mean(0)
    return {
        "trunk width": float(extent[:, TRUNK].mean()),
        "largest step": float(extent[:, FEET].max()),
        "arm blur": float(4 * (mean * (1 - mean))[ARMS].sum(1).mean()),
        "roughness": roughness(seen),
    }


def roughness(seen: Any) -> float:
    """Return the outline's length over that of its convex hull, mean over frames."""
    out = []
    for frame in seen:
        lines, _ = cv2.findContours(frame.astype(np.uint8), cv2.RETR_EXTERNAL,
                                    cv2.CHAIN_APPROX_NONE)  # fmt: skip
        line = max(lines, key=len)
        out.append(cv2.arcLength(line, True) / cv2.arcLength(cv2.convexHull(line), True))
    return float(np.mean(out))


def spread(values: Any, walks: Walks) -> tuple[float, float]:
    """Return deviations between and within people, the mean of each view taken out."""
    values = values.astype(np.float64).copy()
    for view in np.unique(walks.views_deg):
        values[walks.views_deg == view] -= values[walks.views_deg == view].mean()
    groups = [values[walks.people == p] for p in np.unique(walks.people)]
    inside = float(np.mean([g.var(ddof=1) for g in groups]))
    outside = float(np.var([g.mean() for g in groups], ddof=1))
    return float(np.sqrt(max(outside - inside / len(groups[0]), 0))), float(np.sqrt(inside))


def table(walks: Walks) -> dict[str, float]:
    """Return the rows of REAL as measured on walks."""
    rows = [measures(s) for s in walks.silhouettes]
    out = {}
    side = walks.views_deg % 180 == 90
    for name in ("trunk width", "largest step", "arm blur"):
        values = np.array([row[name] for row in rows])
        out[f"{name}, mean"] = float(values[side].mean())
        out[f"{name}, between"], out[f"{name}, within"] = spread(values, walks)
    return out


def auc(same: Any, other: Any) -> float:
    """Return how often a distance of one person is below one of two people."""
    both = np.concatenate([same, other])
    rank = both.argsort().argsort()[: len(same)] + 1
    above = rank.sum() - len(same) * (len(same) + 1) / 2
    return float(1 - above / (len(same) * len(other)))


def part_aucs(walks: Walks) -> tuple[float, list[float], float]:
    """Return the AUC of all parts together, of each, and of the energy image, across directions."""
    rows = []
    with closing(load()) as encoder:
        for silhouettes, view in zip(walks.silhouettes, walks.views_deg, strict=True):
            turned = silhouettes[:, :, ::-1] if 180 < view < 360 else silhouettes
            rows.append(encoder.encode(np.ascontiguousarray(turned)[None]).embedding[0])
    embeddings = np.stack(rows)  # [m, p, d]
    energy = np.stack([s.mean(0).ravel() for s in walks.silhouettes])
    i, j = np.triu_indices(len(walks.people), 1)
    turn = np.abs((walks.views_deg[i] - walks.views_deg[j] + 180) % 360 - 180)
    i, j = i[turn >= LEAST_TURN_DEG], j[turn >= LEAST_TURN_DEG]
    same = walks.people[i] == walks.people[j]
    apart = np.sqrt(((embeddings[i] - embeddings[j]) ** 2).sum(2))  # [pairs, p]
    each = [auc(apart[same, k], apart[~same, k]) for k in range(apart.shape[1])]
    whole, gei = apart.mean(1), np.sqrt(((energy[i] - energy[j]) ** 2).sum(1))
    return auc(whole[same], whole[~same]), each, auc(gei[same], gei[~same])


def clip_windows(video: Path) -> list[Any]:
    """Return windows [s, 64, 44] of people in a clip who may stand, by the mask network alone."""
    reader = cv2.VideoCapture(str(video))
    frames: list[Any] = []
    while (answer := reader.read())[0]:
        frames.append(answer[1])
    empty = np.median(frames[::25], 0).astype(np.uint8)
    network, found = open_mask_network(), []
    for number, frame in enumerate(frames):
        apart = (cv2.absdiff(frame, empty).max(2) > LUMA_STEP).astype(np.uint8)
        opened = cv2.morphologyEx(apart, cv2.MORPH_OPEN, np.ones((3, 3), np.uint8))
        whole = cv2.morphologyEx(opened, cv2.MORPH_CLOSE, np.ones((15, 9), np.uint8))
        count, _, stats, _ = cv2.connectedComponentsWithStats(whole)
        if count < 2:
            continue
        x, y, w, h = stats[1 + stats[1:, 4].argmax(), :4].tolist()
        inside = x > 1 and y > 1 and x + w < frame.shape[1] - 1 and y + h < frame.shape[0] - 2
        if h < 90 or not inside:
            continue
        crop = crop_square(frame, square_around((x, y, w, h), 1.25))
        logits, presence = network(crop[None])
        mask = main_components((logits[0] > 0).astype(np.uint8) * np.uint8(255))
        if presence[0] > 0.5 and refusal(mask) is None:
            found.append((number, align(mask)))
    numbers = np.array([number for number, _ in found])
    starts = [k for k in range(0, len(found) - WINDOW, 2 * WINDOW)
              if numbers[k + WINDOW] - numbers[k] < 1.5 * WINDOW]  # fmt: skip
    return [np.stack([s for _, s in found[k : k + WINDOW]]) for k in starts]


def real_windows(videos: Sequence[Path]) -> list[tuple[int, Any]]:
    """Return about ten real windows with the direction in degrees that they are seen from."""
    walk = np.array(read_walks(str(clip_of_the_package()))[0].silhouettes)
    out = [(270, walk[k : k + WINDOW]) for k in range(0, len(walk) - WINDOW, WINDOW)]
    for video in videos:
        out += [(0, window) for window in clip_windows(video)]
    return out[:10]


def clip_of_the_package() -> Path:
    """Return the walking clip that is shipped."""
    import cstl_edge

    return Path(cstl_edge.__file__).parent / "assets" / "walk.mp4"


def page(real: list[tuple[int, Any]], filmed: float, out: Path) -> None:
    """Write a picture: real windows to the left, people of the same direction to the right."""
    rows = []
    for number, (view, window) in enumerate(real):
        walks = person_walks(FIRST_ID + 100 + number, recordings={"nm": 1}, views_deg=(view,),
                             frames=WINDOW, filmed=filmed)  # fmt: skip
        made = next(iter(walks))[2]
        gap = np.zeros((64, 30), np.uint8)
        pairs = [np.hstack(list(w[:: max(1, len(w) // 8)][:8])) for w in (window, made)]
        rows.append(np.hstack([pairs[0], gap + 60, pairs[1]]))
    picture = np.vstack(rows)
    cv2.imwrite(str(out), 255 - picture)


def places(real: list[tuple[int, Any]], walks: Walks) -> dict[str, float]:
    """Return each measure's place of the real side walks among synthetic ones, in deviations."""
    theirs = [measures(window) for view, window in real if view == 270]
    ours = [measures(s) for s, _ in side_walks(walks)]
    out = {}
    for name in theirs[0]:
        known = np.array([row[name] for row in ours])
        out[name] = float((np.mean([row[name] for row in theirs]) - known.mean()) / known.std())
    return out


def side_walks(walks: Walks) -> list[tuple[Any, int]]:
    """Return sequences seen from a side, all to the right, with their person."""
    rows = zip(walks.silhouettes, walks.people, walks.views_deg, strict=True)
    return [(s if v > 180 else s[:, :, ::-1], p) for s, p, v in rows if v % 180 == 90]


def classifier(real: list[tuple[int, Any]], walks: Walks) -> dict[str, float]:
    """Return the AUC of a linear classifier of frames, real or synthetic, whole and by rows.

    Windows and people are halved into training and test. The only real person who walks in the
    clips at hand is one man: some of what is left is he.
    """
    windows = [window for view, window in real if view == 270]
    half = len(windows) // 2
    ours, people = side_walks(walks), np.unique(walks.people)
    first = set(people[: len(people) // 2].tolist())
    sets = [np.concatenate(part) for part in (
        windows[:half], windows[half:], [s for s, p in ours if p in first],
        [s for s, p in ours if p not in first])]  # fmt: skip
    sets = [np.stack([cv2.resize(f, (22, 32), interpolation=cv2.INTER_AREA) for f in part]) / 255.0
            for part in sets]  # fmt: skip
    bands = {"all": (0, 32), "head": (0, 6), "trunk": (6, 17), "legs": (17, 27), "feet": (27, 32)}
    out = {}
    for name, (low, high) in bands.items():
        real_train, real_test, train, test = (x[:, low:high].reshape(len(x), -1) for x in sets)
        design = np.concatenate([real_train, train])
        label = np.concatenate([np.ones(len(real_train)), -np.ones(len(train))])
        weight = np.where(label > 0, 1 / len(real_train), 1 / len(train))[:, None]
        middle = (design * weight).sum(0) / 2
        centred = design - middle
        gram = (centred * weight).T @ centred + 0.01 * np.eye(design.shape[1])
        line = np.linalg.solve(gram, (centred * weight * label[:, None]).sum(0))
        out[name] = auc(-(real_test - middle) @ line, -(test - middle) @ line)
    return out


def main(argv: list[str] | None = None) -> int:
    """Measure what the options ask for, print it and keep it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--generator", type=int, choices=(1, 2), default=2)
    parser.add_argument("--people", type=int, default=24)
    parser.add_argument("--filmed", type=float, default=0.0, help="share cut out of pictures")
    parser.add_argument("--video", type=Path, action="append", default=[])
    parser.add_argument("--page", type=Path, help="picture to write: real beside synthetic")
    parser.add_argument("--out", type=Path, help="append the figures to this JSON-lines file")
    args = parser.parse_args(argv)
    if args.page:
        real = real_windows(args.video)
        page(real, args.filmed, args.page)
        print(f"{args.page}: {len(real)} windows")
    walks = make_walks(args.generator, args.people, args.filmed)
    found = table(walks)
    print(f"{'measure':24} {'here':>7} {'wanted':>7}")
    for name, (real_value, first) in REAL.items():
        print(f"{name:24} {found[name]:7.2f} {FIRST[name] * real_value / first:7.2f}")
    whole, parts, gei = part_aucs(walks)
    print(f"AUC {whole:.3f}, energy image {gei:.3f}; parts (real below)")
    for values in (parts, REAL_PARTS):
        print(" ".join(f"{value:.2f}" for value in values))
    record: dict[str, Any] = {"generator": args.generator, "filmed": args.filmed,
                              "people": args.people, **found, "auc": whole, "gei_auc": gei,
                              "parts": parts}  # fmt: skip
    if args.page:
        record["real_side_walk"], record["classifier"] = (
            places(real, walks),
            classifier(real, walks),
        )
        for name in ("real_side_walk", "classifier"):
            print(name, {k: round(v, 2) for k, v in record[name].items()})
    append_record(args.out, "walkers_likeness", record)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
