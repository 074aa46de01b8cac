"""Train CSTL: `python train/run_train.py --config train/configs/cstl-walkers.yaml`.

Makes the Walkers that the configuration asks for (once, into --cache), trains, and leaves
`weights.safetensors`, `resume.safetensors`, `config.yaml` and `log.jsonl` in --folder.
"""

from __future__ import annotations

import argparse
import logging
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

import yaml

from cstl_edge.config import load_config
from cstl_edge.data.shards import ShardedSequences
from cstl_edge.data.walkers_shards import make_shards
from cstl_edge.errors import ConfigError, CstlEdgeError
from cstl_edge.measure import environment
from cstl_edge.training.settings import TrainConfig
from cstl_edge.training.trainer import prepare_process, train


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code."""
    args = _parser().parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    try:
        return _run(args)
    except CstlEdgeError as err:
        print(f"error: {err}", file=sys.stderr)
        return err.exit_code


def _run(args: argparse.Namespace) -> int:
    overrides = list(args.override)
    if args.minutes is not None:
        overrides += [f"run.minutes={args.minutes}", "run.iterations=null"]
    config = load_config(TrainConfig, args.config, overrides)
    folder = Path(args.folder or Path("runs/train") / Path(args.config).stem)
    if (folder / "resume.safetensors").exists() and not args.resume:
        raise ConfigError(f"{folder} holds a run already. Give --resume or another --folder")
    prepare_process(config.run)
    folder.mkdir(parents=True, exist_ok=True)
    resolved = config.model_dump(mode="json")
    (folder / "config.yaml").write_text(yaml.safe_dump(resolved, sort_keys=False), encoding="utf-8")
    data = ShardedSequences(_shards(config, args))
    stop = _Stop()
    about = {"command": _command(args, overrides), "environment": environment()}
    weights = train(
        config, data, folder, resume=args.resume, first=args.first, stop=stop, about=about
    )
    print(weights)
    return 130 if stop.asked else 0


def _shards(config: TrainConfig, args: argparse.Namespace) -> list[Path]:
    if args.data:
        return sorted(Path(args.data).glob("*.json"))
    if config.walkers is None:
        raise ConfigError("expected data: give --data FOLDER or a `walkers` section")
    return make_shards(config.walkers, args.cache, workers=args.workers)


class _Stop:
    """Turn the first Ctrl-C or SIGTERM into a clean end with a checkpoint; the second kills."""

    def __init__(self) -> None:
        self.asked = False
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._ask)

    def __call__(self) -> bool:
        return self.asked

    def _ask(self, number: int, frame: FrameType | None) -> None:
        self.asked = True
        signal.signal(number, signal.SIG_DFL)


def _command(args: argparse.Namespace, overrides: Sequence[str]) -> str:
    parts = ["train/run_train.py", "--config", f"train/configs/{Path(args.config).name}"]
    return " ".join([*parts, *(f"-o {text}" for text in overrides)])


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config", required=True, help="a file of train/configs/")
    parser.add_argument(
        "-o", dest="override", action="append", default=[], help="key=value, e.g. run.seed=1"
    )
    parser.add_argument("--first", help="checkpoint of the same network to start from")
    parser.add_argument("--folder", help="of the run (default: runs/train/NAME)")
    parser.add_argument("--data", help="folder of shards to train on instead of Walkers")
    parser.add_argument("--cache", default="runs/cache", help="folder where Walkers are kept")
    parser.add_argument("--workers", type=int, default=2, help="processes that make Walkers")
    parser.add_argument("--minutes", type=float, help="train so long instead of by iterations")
    parser.add_argument("--resume", action="store_true", help="go on from the last checkpoint")
    return parser


if __name__ == "__main__":
    sys.exit(main())
