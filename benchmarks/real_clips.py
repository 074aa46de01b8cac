"""Measure how well a model distinguishes real people: halves of the tracks of real clips.

    python benchmarks/real_clips.py [MODEL.safetensors] [--clip FILE ...] --out results.jsonl

Each track of a clip is cut in half; windows of the second half look for their person among the
first halves of all tracks. Beside the model: a gait energy image, and the same network untrained
(random weights are a strong baseline here). The shipped clip is looked at with 30, 15 and 10 frames
per second; further clips come as they are. A clip has few people, and
both halves share view, clothes and camera, so even a gait energy image does well: read the figures
as a smoke test. Letters: `k` windows, `s` frames, `h w` pixels, `p` parts, `d` dimensions.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from study import append_record, run_study, study_parser

import cstl_edge
from cstl_edge.arrays import Floats, Silhouettes
from cstl_edge.distance import EUCLIDEAN
from cstl_edge.evaluation.embeddings import gait_energy
from cstl_edge.live.pipeline.collect import collect
from cstl_edge.live.pipeline.options import PipelineOptions
from cstl_edge.live.sources.base import Frame, FrameSource
from cstl_edge.live.sources.open import open_source
from cstl_edge.runtime import load
from cstl_edge.runtime.base import Encoder

ASSETS = Path(cstl_edge.__file__).parent / "assets"
LEAST = 20  # frames of a half
UNTRAINED = 5  # random networks, whose figures are averaged
WINDOW, HOP = 30, 5  # frames

Halves = Mapping[str, tuple[Silhouettes, Silhouettes]]  # [s, h, w] each, by person


def windows(silhouettes: Silhouettes, window: int = WINDOW, hop: int = HOP) -> Silhouettes:
    """Return windows of up to `window` frames, `hop` apart: [s, h, w] to [k, s, h, w].

    Args:
        silhouettes: [s, h, w].
        window: Number of frames of a window.
        hop: Number of frames between the starts of two windows.
    """
    length = min(window, len(silhouettes))
    starts = range(0, len(silhouettes) - length + 1, hop)
    return np.stack([silhouettes[i : i + length] for i in starts])


def match_halves(people: Halves, embed: Callable[[Silhouettes], Floats]) -> dict[str, float]:
    """Match windows of everybody's second half with all first halves.

    Args:
        people: Halves of the walks by person.
        embed: Function of windows [k, s, h, w] that returns embeddings [k, p, d].

    Returns:
        `rank1`, the mean over people of the share of windows whose nearest person is the right one,
        and `auc`, how often a window is nearer to its own person than a window to another, 0..1.
    """
    first, second = ([embed(windows(half[i])) for half in people.values()] for i in (0, 1))
    nearest = [
        np.stack([EUCLIDEAN.pairwise(probe, entry).min(axis=1) for entry in first], axis=1)
        for probe in second
    ]  # [k, people] by person
    distance = np.concatenate(nearest)
    truth = np.repeat(np.arange(len(second)), [len(probe) for probe in second])
    right = truth[:, None] == np.arange(len(first))[None]
    rank1 = [(rows.argmin(axis=1) == i).mean() for i, rows in enumerate(nearest)]
    auc = np.mean(distance[right][:, None] < distance[~right][None])
    return {"rank1": round(float(np.mean(rank1)), 4), "auc": round(float(auc), 4)}


class Thinned(FrameSource):
    """Every k-th frame of a recording: what a slower camera would have seen."""

    def __init__(self, source: FrameSource, every: int) -> None:
        super().__init__(source.uri)
        self._source, self._every = source, every
        self.fps, self.size = source.fps / every, source.size
        self.frames = None if source.frames is None else -(-source.frames // every)
        self._thinned: Iterator[Frame] = (f for i, f in enumerate(source) if i % every == 0)

    def _next(self) -> Frame | None:
        return next(self._thinned, None)

    def _release(self) -> None:
        self._source.close()

    def reopen(self) -> FrameSource:
        """Return the same from the beginning."""
        return Thinned(self._source.reopen(), self._every)


def halves(clip: Path, every: int, encoder: Encoder) -> dict[str, tuple[Silhouettes, Silhouettes]]:
    """Return both halves of each track that is long enough, standing people too.

    Args:
        clip: Video file.
        every: Step between the frames that are used.
        encoder: Encoder of the model; the live path uses it.
    """
    options = PipelineOptions(demand_walking=False)
    records = collect(Thinned(open_source(clip), every), encoder, options)
    cut = {r.track: len(r.silhouettes) // 2 for r in records if len(r.silhouettes) >= 2 * LEAST}
    return {
        f"{clip.stem} {r.track}": (r.silhouettes[: cut[r.track]], r.silhouettes[cut[r.track] :])
        for r in records
        if r.track in cut
    }


def untrained(weights: Path) -> Iterator[Any]:
    """Yield embedders of the network of a checkpoint with random weights."""
    import torch

    from cstl_edge.checkpoint.weights import load_checkpoint
    from cstl_edge.model import Cstl

    config = load_checkpoint(weights)[0].config
    for seed in range(UNTRAINED):
        torch.manual_seed(seed)
        network = Cstl(config).eval()

        def embed(sequences: Silhouettes, network: Cstl = network) -> Floats:
            with torch.no_grad():
                embedding: Floats = network(torch.from_numpy(sequences))[0].numpy()
            return embedding

        yield embed


def compare(people: Halves, encoder: Encoder, weights: Path) -> dict[str, Any]:
    """Return the figures of model, gait energy image and untrained network; none of one person.

    Args:
        people: Halves of the walks by person.
        encoder: Encoder of the model.
        weights: Checkpoint of the same network, for its untrained form.
    """
    if len(people) < 2:
        return {"people": {name: [len(a), len(b)] for name, (a, b) in people.items()}}
    random = [match_halves(people, embed) for embed in untrained(weights)]
    return {
        "people": {name: [len(a), len(b)] for name, (a, b) in people.items()},
        "model": match_halves(people, lambda s: encoder.encode(s).embedding),
        "gait energy image": match_halves(people, gait_energy),
        "untrained": {
            key: round(float(np.mean([r[key] for r in random])), 4) for key in ("rank1", "auc")
        },
    }


def study(args: argparse.Namespace) -> None:
    """Match the halves at three frame rates, print the figures, append the record."""
    encoder = load(args.model)
    others: dict[str, tuple[Silhouettes, Silhouettes]] = {}
    for clip in args.clip:
        others |= halves(clip, 1, encoder)
    results = {
        f"shipped clip at {30 // every} frames per second": compare(
            {**halves(ASSETS / "walk.mp4", every, encoder), **others}, encoder, args.model
        )
        for every in (1, 2, 3)
    }
    print(json.dumps(results, indent=1))
    about = {"weights_sha256": encoder.info.weights_sha256, "clips": [x.name for x in args.clip]}
    append_record(args.out, "real clips", about | results)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code."""
    parser = study_parser(__doc__)
    parser.add_argument("model", nargs="?", type=Path, default=ASSETS / "cstl-walkers.safetensors")
    parser.add_argument("--clip", type=Path, action="append", default=[], help="a further clip")
    return run_study(parser, study, argv)


if __name__ == "__main__":
    sys.exit(main())
