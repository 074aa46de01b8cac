"""A training run as a command: its configuration, people, folder and signals.

Under torchrun every process comes through here; the first one makes data and writes files.
"""

from __future__ import annotations

import signal
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple

import numpy as np
import yaml

from cstl_edge.config import load_config
from cstl_edge.data.dataset import is_dataset, open_dataset, read_index
from cstl_edge.data.shards import ShardedSequences
from cstl_edge.data.splits import FIELD, SPLITS, Labelled, People, test_ids, train_ids
from cstl_edge.data.walkers_dataset import WalkersSettings, make_shards
from cstl_edge.errors import ConfigError, DataError, one_line
from cstl_edge.measure.environment import environment
from cstl_edge.training.distributed import Ranks, device_of, joined
from cstl_edge.training.presets import find
from cstl_edge.training.run_state import RESUME, prepare_process
from cstl_edge.training.settings import DataSettings, EvaluateSettings, TrainConfig
from cstl_edge.training.trainer import train

RUNS, CACHE = Path("runs/train"), Path("runs/cache")


class Finished(NamedTuple):
    """How a run ended."""

    weights: Path
    stopped: bool
    """By Ctrl-C or SIGTERM, before its budget was spent."""
    speaks: bool
    """Whether this process tells of it: the first of those that trained."""


def run(
    name: str | Path,
    overrides: Sequence[str] = (),
    *,
    data: str | Path | None = None,
    folder: str | Path | None = None,
    first: str | Path | None = None,
    resume: bool = False,
    cache: str | Path = CACHE,
    workers: int = 2,
    command: str = "",
) -> Finished:
    """Train as a configuration says.

    name: a file, or a preset of train/configs/
    overrides: texts such as `run.seed=1`
    data: a prepared dataset or a folder of shards; None makes the Walkers of the configuration
    folder: of the run; None means runs/train/NAME
    first, resume: as in `train`
    cache: folder where Walkers are kept
    workers: processes that make Walkers
    command: what the weights should say they were made by
    Raises ConfigError where the folder holds a run already and `resume` is false.
    """
    path = find(name)
    config = load_config(TrainConfig, path, overrides)
    folder = Path(folder or RUNS / path.stem)
    if (folder / RESUME).exists() and not resume:
        raise ConfigError(
            f"{one_line(folder)} holds a run already. Give --resume or another --folder"
        )
    prepare_process(config.run)
    with joined(device_of(config.run.device)) as ranks, _Stop() as stop:
        if ranks.first:
            _write_config(folder, config)
        trained, tested = _people(config, data, cache, workers, ranks)
        about = {"command": command, "environment": environment()}
        weights = train(
            config,
            trained,
            folder,
            resume=resume,
            first=first,
            test=tested,
            stop=stop,
            about=about,
        )
    return Finished(weights, stop.asked, ranks.first)


def choose(data: Labelled, kind: str, settings: DataSettings) -> Labelled:
    """Return the people of a dataset to train on; ConfigError where it has no such split."""
    ids = np.unique(data.people)
    chosen = ids if (split := _split(kind, settings)) is None else train_ids(kind, split, ids)
    chosen = np.setdiff1d(chosen, settings.without)
    return data if len(chosen) == len(ids) else People(data, chosen)


def choose_tested(
    data: Labelled, kind: str, settings: DataSettings, evaluate: EvaluateSettings
) -> Labelled:
    """Return the people of a dataset to evaluate on during training.

    Raises ConfigError where the split leaves nobody, DataError where the data have too few.
    """
    split = _split(kind, settings)
    if split is None:
        raise ConfigError(
            "evaluate needs evaluate.walkers where all people of the data are trained on"
        )
    ids = test_ids(kind, split, np.unique(data.people))[: evaluate.people]
    if len(ids) < 2:
        raise DataError(f"expected at least 2 people to evaluate on, the data have {len(ids)}")
    return People(data, ids)


def _people(
    config: TrainConfig, data: str | Path | None, cache: str | Path, workers: int, ranks: Ranks
) -> tuple[Labelled, Labelled | None]:
    evaluate = config.evaluate
    tested = None
    if evaluate is not None and evaluate.walkers is not None:
        tested = _walkers(evaluate.walkers, cache, workers, ranks)
        if evaluate.people is not None:
            tested = People(tested, np.unique(tested.people)[: evaluate.people])
    if data is None:
        if config.walkers is None:
            raise ConfigError("expected data: give --data FOLDER or a `walkers` section")
        return _walkers(config.walkers, cache, workers, ranks), tested
    opened, kind = _open(data)
    if evaluate is not None and tested is None:
        tested = choose_tested(opened, kind, config.data, evaluate)
    return choose(opened, kind, config.data), tested


def _open(folder: str | Path) -> tuple[Labelled, str]:
    """Return a prepared dataset, or a folder of shards, and its kind."""
    return open_dataset(folder), read_index(folder).kind if is_dataset(folder) else "shards"


def _walkers(settings: WalkersSettings, cache: str | Path, workers: int, ranks: Ranks) -> Labelled:
    """Return Walkers; the first process makes those that are missing, the others wait."""
    if ranks.first:
        make_shards(settings, cache, workers=workers)
    ranks.wait()
    return ShardedSequences(make_shards(settings, cache, workers=workers))


def _split(kind: str, settings: DataSettings) -> str | None:
    if settings.split == "auto":
        return FIELD if kind in SPLITS else None
    return None if settings.split == "all" else settings.split


def _write_config(folder: Path, config: TrainConfig) -> None:
    resolved = yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "config.yaml").write_text(resolved, encoding="utf-8")
    except OSError as err:
        raise ConfigError(f"cannot write into {one_line(folder)}: {one_line(err)}") from err


class _Stop:
    """Turn the first Ctrl-C or SIGTERM into a clean end with a checkpoint; the second kills."""

    SIGNALS = (signal.SIGINT, signal.SIGTERM)

    def __init__(self) -> None:
        self.asked = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> _Stop:
        self._before = {number: signal.signal(number, self._ask) for number in self.SIGNALS}
        return self

    def __exit__(self, *err: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def __call__(self) -> bool:
        return self.asked

    def _ask(self, number: int, frame: FrameType | None) -> None:
        self.asked = True
        signal.signal(number, signal.SIG_DFL)
