"""How much faster `frames` is in INT8 than in float32 under ONNX Runtime, by width of the network.

    python benchmarks/int8_frames.py --out results.jsonl

Random weights: the cost is the same. Both precisions in turn in one run, raw samples kept.
"""

from __future__ import annotations

import argparse
import sys
import time

import numpy as np
import torch

from cstl_edge.export.graphs import build
from cstl_edge.export.quantise import activations, quantise
from cstl_edge.export.ranges import ranges
from cstl_edge.measure import append_jsonl, environment, percentile, summary
from cstl_edge.model import Cstl, CstlConfig
from cstl_edge.runtime.ort import open_session

NETWORKS = {
    "paper's widths": CstlConfig(),
    "half widths": CstlConfig(widths=(16, 32, 64, 64), parts=16, embedding=128),
}
BATCHES = (1, 30)  # a live frame, and a window
WARM_UP = 5
BLOCK = 4  # pixels of a side: silhouettes have areas, not grains


def main(argv: list[str] | None = None) -> int:
    """Run the command; return its exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--out", help="append the record to this file of JSON lines")
    args = parser.parse_args(argv)
    torch.manual_seed(0)
    rows, raw = {}, {}
    for name, config in NETWORKS.items():
        h, w = config.size
        coarse = np.random.default_rng(0).integers(0, 2, (max(BATCHES), h // BLOCK, w // BLOCK))
        silhouettes = (coarse * 255).astype(np.uint8).repeat(BLOCK, 1).repeat(BLOCK, 2)
        plain = build(Cstl(config).eval().fused(), "frames")
        spans = ranges(plain, activations(plain), [{"silhouettes": silhouettes}])
        reduced = quantise(plain, {key: span.largest for key, span in spans.items()})
        graphs = {"float32": plain, "int8": reduced}
        sessions = {
            k: open_session(k, g.SerializeToString(), args.threads) for k, g in graphs.items()
        }
        for batch in BATCHES:
            taken: dict[str, list[float]] = {key: [] for key in sessions}
            for turn in range(args.rounds + WARM_UP):
                for key, session in sessions.items():
                    start = time.perf_counter()
                    session.run(None, {"silhouettes": silhouettes[:batch]})
                    if turn >= WARM_UP:
                        taken[key].append((time.perf_counter() - start) * 1e3)
            median = {key: percentile(samples, 50) for key, samples in taken.items()}
            case = f"{name}, {batch} frames"
            ratio = round(median["float32"] / median["int8"], 2)
            rows[case] = {"int8_times_as_fast": ratio} | {k: summary(s) for k, s in taken.items()}
            raw[case] = taken
            times = ", ".join(f"{key} {ms:.2f} ms" for key, ms in median.items())
            print(f"{case}: {times}, {ratio}x")
    if args.out:
        record = {"benchmark": "int8 frames", "threads": args.threads, **rows, "raw_ms": raw}
        append_jsonl(args.out, {**record, "environment": environment()})
    return 0


if __name__ == "__main__":
    sys.exit(main())
