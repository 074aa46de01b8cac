"""Measure how well a model distinguishes real people: halves of the tracks of real clips.

    python benchmarks/real_clips.py [MODEL.safetensors] [--clip FILE ...] --out results.jsonl

Each track of a clip is cut in half; windows of the second half look for their person among the
first halves of all tracks. Beside the model: a gait energy image, and the same network untrained
(random weights are a strong baseline here). The shipped clip is looked at with 30, 15 and 10 frames
per second; further clips come as they are. A clip has few people: read the figures as a smoke test.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from split_half import Halves, Silhouettes, match_halves

import cstl_edge
from cstl_edge.errors import CstlEdgeError
from cstl_edge.evaluation.embeddings import gait_energy
from cstl_edge.live.pipeline.options import PipelineOptions
from cstl_edge.live.pipeline.run import collect
from cstl_edge.live.sources.base import Frame, FrameSource
from cstl_edge.live.sources.open import open_source
from cstl_edge.measure.environment import environment
from cstl_edge.measure.stats import append_jsonl
from cstl_edge.runtime import load
from cstl_edge.runtime.base import Encoder

ASSETS = Path(cstl_edge.__file__).parent / "assets"
LEAST = 20  # frames of a half
UNTRAINED = 5  # random networks, whose figures are averaged


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
    """Return both halves of each track that is long enough, standing people too."""
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

        def embed(sequences: Silhouettes, network: Cstl = network) -> npt.NDArray[np.float32]:
            with torch.no_grad():
                embedding: npt.NDArray[np.float32] = network(torch.from_numpy(sequences))[0].numpy()
            return embedding

        yield embed


def compare(people: Halves, encoder: Encoder, weights: Path) -> dict[str, Any]:
    """Return the figures of model, gait energy image and untrained network."""
    random = [match_halves(people, embed) for embed in untrained(weights)]
    return {
        "people": {name: [len(a), len(b)] for name, (a, b) in people.items()},
        "model": match_halves(people, lambda s: encoder.encode(s).embedding),
        "gait energy image": match_halves(people, gait_energy),
        "untrained": {
            key: round(float(np.mean([r[key] for r in random])), 4) for key in ("rank1", "auc")
        },
    }


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", nargs="?", type=Path, default=ASSETS / "cstl-walkers.safetensors")
    parser.add_argument("--clip", type=Path, action="append", default=[], help="a further clip")
    parser.add_argument("--out", help="append the record to this file of JSON lines")
    args = parser.parse_args(argv)
    try:
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
    except CstlEdgeError as err:
        print(f"error: {err}", file=sys.stderr)
        return err.exit_code
    print(json.dumps(results, indent=1))
    if args.out:
        record = {"benchmark": "real clips", "weights_sha256": encoder.info.weights_sha256}
        clips = {"clips": [clip.name for clip in args.clip]}
        append_jsonl(args.out, {**record, **clips, **results, "environment": environment()})
    return 0


if __name__ == "__main__":
    sys.exit(main())
