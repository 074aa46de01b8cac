"""Measure identification by distance: one window against everything seen of a walk.

    python benchmarks/identification.py [MODEL] [--clip FILE ...] --out results.jsonl

Sets: shifted Walkers (other strides, garments, bags and pictures than any training), held-out
Walkers of 120 frames, and halves of the tracks of real clips. Everybody is enrolled from one walk
and searched by walks seen from other sides (clips: by the other half, which shares side, clothes
and camera). For each distance: rank-1, the area under the ROC curve of all pairs, true accepts at 1
and 10 % false accepts. `own mean` subtracts the mean of the set's own people, as a camera has it
after a while. Letters: k windows of a walk, p parts, d embedding dimensions.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from study import append_record, run_study, study_parser

from cstl_edge.arrays import Bools, Floats, Silhouettes
from cstl_edge.distance import EUCLIDEAN, Distance
from cstl_edge.live.pipeline.collect import collect
from cstl_edge.live.pipeline.options import PipelineOptions
from cstl_edge.runtime import load
from cstl_edge.runtime.base import Encoder
from cstl_edge.walkers import collection

CACHE = Path("runs/cache")
WINDOW, HOP = 30, 15  # frames
SIDE_DEG = 45  # views nearer than this are one side
LONG_ID, LONG_PEOPLE, LONG_FRAMES = 915_000, 40, 120
LONG_VIEWS_DEG = (0, 60, 90, 120, 180)
LEAST = 20  # frames of half a track


@dataclass(frozen=True)
class Walk:
    """One walk, embedded."""

    person: str
    name: str  # nm-01 is enrolled, the others are searched
    view_deg: float
    windows: Floats  # [k, p, d], overlapping by half


@dataclass(frozen=True)
class Rule:
    """How a search is compared with an entry."""

    distance: Distance
    mean: Floats | None  # [p, d] to subtract
    seen: str = "all"  # windows of the search: one, all
    entry: str = "both"
    """Windows of the entry: both (nearest of windows and mean), nearest, mean; fused, as a gallery
    compares a person of one walk with a model that fuses walks: half of both, half of mean."""
    search: str = "mean"  # mean embedding, nearest (mean of the windows' distances), half of each

    def matrix(self, searches: list[Walk], entries: list[Walk]) -> Floats:
        """Return the distances of searches to entries, [i, j]."""
        if self.entry == "fused":
            nearest, mean = (replace(self, entry=kind) for kind in ("both", "mean"))
            both = nearest.matrix(searches, entries) + mean.matrix(searches, entries)
            return np.asarray(both / 2, np.float32)
        probes = [w.windows[:1] if self.seen == "one" else w.windows for w in searches]
        columns = [self._entry(walk.windows) for walk in entries]
        if self.search == "half":
            mean, nearest = (replace(self, search=kind) for kind in ("mean", "nearest"))
            both = mean.matrix(searches, entries) + nearest.matrix(searches, entries)
            return np.asarray(both / 2, np.float32)
        if self.search == "mean":
            probes = [windows.mean(axis=0, keepdims=True) for windows in probes]
        firsts, starts = (np.cumsum([0, *map(len, x[:-1])]) for x in (probes, columns))
        searched, entered = (
            self.distance.project(np.concatenate(x), self.mean) for x in (probes, columns)
        )
        distances = self.distance.between(searched, entered)  # windows of all, [n, m]
        to_entry = np.minimum.reduceat(distances, starts, axis=1)
        counts = np.array([len(windows) for windows in probes], np.float32)
        return np.asarray(np.add.reduceat(to_entry, firsts, axis=0) / counts[:, None], np.float32)

    def _entry(self, windows: Floats) -> Floats:
        mean = windows.mean(axis=0, keepdims=True)
        both = np.concatenate([windows, mean])
        entry: Floats = {"nearest": windows, "mean": mean, "both": both}[self.entry]
        return entry


def embed(encoder: Encoder, silhouettes: Silhouettes) -> Floats:
    """Return the embeddings of a walk's windows, [s, h, w] to [k, p, d]."""
    length = min(WINDOW, len(silhouettes))
    parts = range(0, len(silhouettes), WINDOW)
    features = np.concatenate([encoder.frames(silhouettes[i : i + WINDOW]) for i in parts])
    starts = range(0, len(features) - length + 1, HOP)
    windows = np.stack([features[i : i + length] for i in starts])  # [k, s, p, c]
    return encoder.head(windows, np.full(len(windows), length, np.int32)).embedding


def shifted(encoder: Encoder) -> list[Walk]:
    """Return the shifted Walkers, mirrored where they walk to the right as the live path does."""
    from cstl_edge.data.shards import ShardedSequences
    from cstl_edge.data.shifted_walkers import shifted_shards

    data = ShardedSequences(shifted_shards(CACHE, encoder.info.size))
    walks = []
    for row, (person, name, view) in enumerate(
        zip(data.people, data.sequences, data.views_deg, strict=True)
    ):
        silhouettes = data.read(row)
        if 180 < view % 360 < 360:
            silhouettes = np.ascontiguousarray(silhouettes[:, :, ::-1])
        walks.append(Walk(str(person), str(name), float(view), embed(encoder, silhouettes)))
    return walks


def held_out(encoder: Encoder) -> list[Walk]:
    """Return long walks of Walkers that no training saw."""
    walks = []
    for person in range(LONG_ID, LONG_ID + LONG_PEOPLE):
        made = collection.generate(
            [person],
            recordings={"nm": 2, "cl": 1},
            frames=LONG_FRAMES,
            size=encoder.info.size,
            views_deg=LONG_VIEWS_DEG,
        )
        for row, silhouettes in enumerate(made.silhouettes):
            windows = embed(encoder, silhouettes)
            view = float(made.views_deg[row])
            walks.append(Walk(str(person), str(made.sequences[row]), view, windows))
    return walks


def clips(encoder: Encoder, files: list[Path]) -> list[Walk]:
    """Return both halves of each long track of real clips; the halves count as other sides."""
    walks = []
    for file in files:
        for record in collect(str(file), encoder, PipelineOptions(demand_walking=False)):
            half = len(record.silhouettes) // 2
            if half < LEAST:
                continue
            person = f"{file.stem} {record.track}"
            for name, part in (("nm-01", slice(half)), ("nm-02", slice(half, None))):
                view = 0.0 if name == "nm-01" else 180.0
                walks.append(Walk(person, name, view, embed(encoder, record.silhouettes[part])))
    return walks


def trials(walks: list[Walk]) -> Iterator[tuple[list[Walk], list[Walk], Bools]]:
    """Yield searches, a gallery of one walk of each person, and the pairs that count.

    A gallery has everybody's nm-01 from about one side; only searches from other sides count.
    """
    enrolled = [walk for walk in walks if walk.name == "nm-01"]
    searches = [walk for walk in walks if walk.name != "nm-01"]
    for side in sorted({side_of(walk) for walk in enrolled}):
        gallery = [walk for walk in enrolled if side_of(walk) == side]
        apart = np.array(
            [[angle(s.view_deg, g.view_deg) >= SIDE_DEG for g in gallery] for s in searches]
        )
        yield searches, gallery, apart


def side_of(walk: Walk) -> int:
    """Return which quarter of a circle a walk is seen from."""
    return round(walk.view_deg % 360 / 90) % 4


def angle(a: float, b: float) -> float:
    """Return the angle between two views, 0..180 degrees."""
    return abs((a - b + 180) % 360 - 180)


def figures(walks: list[Walk], rule: Rule, keep: Callable[[Walk], bool]) -> dict[str, float]:
    """Return rank-1, AUC and true accept rates of the searches that `keep` accepts."""
    hits, mates, others = [], list[float](), list[float]()
    for searches, gallery, apart in trials(walks):
        wanted = np.array([keep(search) for search in searches])
        own = np.array([[s.person == g.person for g in gallery] for s in searches])
        counted = wanted & (own & apart).any(axis=1)
        distance = np.where(apart, rule.matrix(searches, gallery), np.inf)[counted]
        hits += (own[counted] & (distance == distance.min(axis=1, keepdims=True))).any(1).tolist()
        mates += distance[own[counted] & apart[counted]].tolist()
        others += distance[~own[counted] & apart[counted]].tolist()
    strangers = np.sort(np.array(others))
    above = 1 - np.searchsorted(strangers, mates, side="right") / len(strangers)
    accepts = {f"tar_{far:g}": np.mean(mates < np.quantile(strangers, far)) for far in (0.01, 0.1)}
    measured = {"rank1": np.mean(hits), "auc": above.mean(), **accepts, "searches": len(hits)}
    return {key: round(float(value), 4) for key, value in measured.items()}


def rules(shipped: Distance, walks: list[Walk]) -> dict[str, Rule]:
    """Return the distances to compare, by name."""
    own = np.asarray(np.mean([w.windows.mean(axis=0) for w in walks], axis=0), np.float32)
    cosine = Distance("cosine")
    white = replace(shipped, name="cosine")
    product = "fused" if shipped.fused_walks else "both"
    rows = {
        "euclidean, mean of nearest (before)": Rule(
            EUCLIDEAN, None, entry="nearest", search="nearest"
        ),
        "euclidean": Rule(EUCLIDEAN, None),
        "cosine": Rule(cosine, None),
        "cosine, synthetic mean": Rule(cosine, shipped.mean),
        "cosine, own mean": Rule(cosine, own),
        "whitened, synthetic mean": Rule(white, shipped.mean),
        "whitened, own mean (shipped)": Rule(white, own, entry=product),
        "whitened, own mean, mean of nearest": Rule(white, own, entry="nearest", search="nearest"),
        "whitened, own mean, half of each": Rule(white, own, search="half"),
        "whitened, own mean, against means": Rule(white, own, entry="mean"),
        "whitened, own mean, nearest of both": Rule(white, own),
    }
    if white.joint is not None:
        parts = replace(white, joint=None, weights=None)
        rows["whitened, own mean, without the joint row"] = Rule(parts, own, entry=product)
    return rows | {f"one window: {name}": replace(rule, seen="one") for name, rule in rows.items()}


def study(args: argparse.Namespace) -> None:
    """Measure every set by every distance, print and append."""
    encoder = load(args.model)
    sets = {"shifted Walkers": shifted, "held-out Walkers": held_out}
    if args.only:
        sets = {name: make for name, make in sets.items() if name in args.only}
    measured = {name: make(encoder) for name, make in sets.items()}
    if args.clip:
        measured["clips"] = clips(encoder, args.clip)
    results: dict[str, Any] = {}
    for name, walks in measured.items():
        kinds = {kind: lambda w, k=kind: w.name == k for kind in sorted({w.name for w in walks})}
        del kinds["nm-01"]
        for rule_name, rule in rules(encoder.info.distance, walks).items():
            row: dict[str, Any] = dict(figures(walks, rule, lambda walk: True))
            if "shipped" in rule_name or "before" in rule_name:
                row |= {f"{kind}": figures(walks, rule, keep) for kind, keep in kinds.items()}
            results.setdefault(name, {})[rule_name] = row
            print(f"{name}: {rule_name}: {row}", flush=True)
    record = {"weights_sha256": encoder.info.weights_sha256, "sets": results}
    append_record(args.out, "identification", record)


def main(argv: list[str] | None = None) -> int:
    """Run the command; return its exit code."""
    parser = study_parser(__doc__)
    parser.add_argument("model", nargs="?", help="folder or checkpoint (default: the shipped one)")
    parser.add_argument("--clip", type=Path, action="append", default=[], help="a real clip")
    parser.add_argument("--only", action="append", help="a set by name (default: all)")
    return run_study(parser, study, argv)


if __name__ == "__main__":
    sys.exit(main())
