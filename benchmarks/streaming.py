"""What one more frame of a walker costs: streaming, against the window anew, against PyTorch.

    python benchmarks/streaming.py --weights W.safetensors [--model FOLDER] --out results.jsonl

All in one run, the contenders in turn, raw samples kept; streaming both with windows that slide and
with whole ones. Without weights the paper's network is made with random ones: the cost is the same.
Then: how many walkers at 25 frames per second, paced as by a camera, keep p99 under 40 ms here.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path

from cstl_edge.measure import append_jsonl, environment, percentile, summary
from cstl_edge.runtime import load
from cstl_edge.runtime.cost import FPS, cost_of_a_frame, most_walkers, paced, ways

WINDOW, HOP = 30, 5
WHOLE = ("window anew, same runtime", "window anew, eager PyTorch")


def random_weights(folder: Path) -> Path:
    """Save the paper's network with random weights, rounded to float16."""
    import torch

    from cstl_edge.model import Cstl
    from cstl_edge.training.checkpoint import save_checkpoint

    torch.manual_seed(0)
    save_checkpoint(folder / "random.safetensors", Cstl(), {"name": "random"}, half=True)
    return folder / "random.safetensors"


def exported(weights: Path, folder: Path) -> Path:
    """Export the graphs that a runtime needs."""
    from cstl_edge.export import export_model

    export_model(weights, folder / "exported", graphs=("frames", "head"))
    return folder / "exported"


def arguments(argv: list[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--weights", type=Path, help="a checkpoint; random weights without")
    parser.add_argument("--model", type=Path, help="the export of these weights; made without")
    parser.add_argument("--int8", action="store_true", help="stream on int8 frames too (--model)")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("--seconds", type=float, default=12.0, help="per number of walkers")
    parser.add_argument("--out", type=Path, help="benchmarks/results/DEVICE/streaming.jsonl")
    args = parser.parse_args(argv)
    if args.int8 and args.model is None:
        parser.error("--int8 wants --model, an export that has int8 (cstl-edge export)")
    return args


def main(argv: list[str] | None = None) -> int:
    """Run, print the figures, append the raw record."""
    args = arguments(argv)
    with tempfile.TemporaryDirectory() as temporary:
        weights = args.weights or random_weights(Path(temporary))
        runtime = load(args.model or exported(weights, Path(temporary)), threads=args.threads)
        eager = load(weights, threads=args.threads)
    info = runtime.info
    if info.weights_sha256 != eager.info.weights_sha256:
        print("error: --model and --weights are different networks", file=sys.stderr)
        return 2
    int8 = load(args.model, threads=args.threads, precision="int8") if args.int8 else None
    others = {} if int8 is None else {"int8": int8}
    costs = cost_of_a_frame(runtime, eager, WINDOW, HOP, args.rounds, others)
    walkers = {
        name: most_walkers(
            lambda n, slide=slide: paced(runtime, n, WINDOW, HOP, args.seconds, slide)  # type: ignore[misc]
        )
        for name, slide in ways(runtime).items()
    }
    p50 = {name: percentile(taken, 50) for name, taken in costs.items()}
    told = {
        "cost_of_a_frame": {name: summary(taken) for name, taken in costs.items()},
        "times_as_fast": {
            f"{way}, hop {hop}, {name}": round(p50[name] / p50[f"{way}, hop {hop}"], 1)
            for way in (*ways(runtime), *(f"streaming, {added}" for added in others))
            for hop in (1, HOP)
            for name in WHOLE
        },
        "walkers_in_time": {way: most for way, (most, _) in walkers.items()},
        "walkers": {
            way: {n: summary(taken) for n, taken in sorted(tried.items())}
            for way, (_, tried) in walkers.items()
        },
    }
    print(json.dumps(told, indent=1))
    if args.out:
        record = {
            "benchmark": "streaming",
            "runtime": {"backend": info.backend, "provider": info.provider},
            "precision": info.precision,
            "threads": info.threads,
            "weights_sha256": info.weights_sha256,
            "window": WINDOW,
            "hop": HOP,
            "fps": FPS,
            **told,
            "raw_ms": {
                "cost_of_a_frame": costs,
                "walkers": {way: tried for way, (_, tried) in walkers.items()},
            },
            "environment": environment(),
        }
        append_jsonl(args.out, record)
    return 0


if __name__ == "__main__":
    sys.exit(main())
