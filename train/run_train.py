"""Train CSTL: `python train/run_train.py --config train/configs/cstl-walkers.yaml`.

The verb `cstl-edge train` as a script. Makes the Walkers that the configuration asks for (once,
into --cache), trains, and leaves `weights.safetensors`, `resume.safetensors`, `config.yaml` and
`log.jsonl` in --folder. Several GPUs: `torchrun --nproc-per-node 4 train/run_train.py …`.
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from cstl_edge.cli.train import overrides
from cstl_edge.errors import CstlEdgeError
from cstl_edge.training.command import run


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code."""
    args = _parser().parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    changes = overrides(args.override, args.split, args.minutes)
    name = f"train/configs/{Path(args.config).name}"
    command = ["train/run_train.py", "--config", name, *(f"-o {text}" for text in changes)]
    try:
        weights, stopped, speaks = run(
            args.config,
            changes,
            data=args.data,
            folder=args.folder,
            first=args.first,
            resume=args.resume,
            cache=args.cache,
            workers=args.workers,
            command=" ".join(command),
        )
    except CstlEdgeError as err:
        print(f"error: {err}", file=sys.stderr)
        return err.exit_code
    if speaks:
        print(weights)
    return 130 if stopped else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config", required=True, help="a file of train/configs/, or its name")
    parser.add_argument(
        "-o", dest="override", action="append", default=[], help="key=value, e.g. run.seed=1"
    )
    parser.add_argument("--first", help="checkpoint of the same network to start from")
    parser.add_argument("--folder", help="of the run (default: runs/train/NAME)")
    parser.add_argument("--data", help="prepared dataset or folder of shards instead of Walkers")
    parser.add_argument("--split", help="training people: auto, field, first-5153, all")
    parser.add_argument("--cache", default="runs/cache", help="folder where Walkers are kept")
    parser.add_argument("--workers", type=int, default=2, help="processes that make Walkers")
    parser.add_argument("--minutes", type=float, help="train so long instead of by iterations")
    parser.add_argument("--resume", action="store_true", help="go on from the last checkpoint")
    return parser


if __name__ == "__main__":
    sys.exit(main())
