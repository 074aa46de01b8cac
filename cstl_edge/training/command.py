"""Training run as a command: configuration, training and validation people, folder, signals.

Under torchrun every process runs this module; the first one makes data and writes files.
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
from cstl_edge.data.splits import FIELD, SPLITS, LabelledSequences, PeopleSubset, is_trained
from cstl_edge.data.walkers_dataset import WalkersSettings, make_shards
from cstl_edge.errors import ConfigError, DataError, one_line
from cstl_edge.measure.environment import environment
from cstl_edge.output import write_file
from cstl_edge.training.distributed import Ranks, join_ranks, resolve_device
from cstl_edge.training.presets import find_preset
from cstl_edge.training.run_state import RESUME, prepare_process
from cstl_edge.training.settings import DataSettings, EvaluateSettings, TrainConfig
from cstl_edge.training.trainer import train

RUNS, CACHE = Path("runs/train"), Path("runs/cache")


class TrainingResult(NamedTuple):
    """Outcome of a run."""

    weights: Path
    stopped: bool  # by Ctrl-C or SIGTERM, before its budget was spent
    first_rank: bool  # this process is the first of those that trained: it alone reports


def run_training(
    name: str | Path,
    overrides: Sequence[str] = (),
    *,
    data: str | Path | None = None,
    folder: str | Path | None = None,
    initial_weights: str | Path | None = None,
    resume: bool = False,
    cache: str | Path = CACHE,
    workers: int = 2,
    command: str = "",
) -> TrainingResult:
    """Train by a configuration file or a preset.

    Args:
        name: Configuration file, or a preset of train/configs/.
        overrides: Changes to the configuration, such as `run.seed=1`.
        data: Prepared dataset or folder of shards; None makes the Walkers of the configuration.
        folder: Folder of the run; None means runs/train/NAME.
        initial_weights: Checkpoint of the same network to start from.
        resume: True to continue from the folder's last checkpoint.
        cache: Folder of rendered Walkers.
        workers: Number of processes that make Walkers.
        command: Command line for the header of the weights.

    Raises:
        ConfigError: The folder holds a run already and `resume` is false.
    """
    config = load_config(TrainConfig, path := find_preset(name), overrides)
    folder = Path(folder or RUNS / path.stem)
    if (folder / RESUME).exists() and not resume:
        raise ConfigError(
            f"{one_line(folder)} holds a run already. Give --resume or another --folder"
        )
    prepare_process(config.run)
    with join_ranks(resolve_device(config.run.device)) as ranks, StopSignals() as stop:
        if ranks.is_first:
            _write_config(folder, config)
        training, validation = _load_people(config, data, cache, workers, ranks)
        weights = train(
            config,
            training,
            folder,
            resume=resume,
            initial_weights=initial_weights,
            validation_data=validation,
            stop_requested=stop,
            provenance={"command": command, "environment": environment()},
        )
    return TrainingResult(weights, stop.requested, ranks.is_first)


def training_people(
    data: LabelledSequences, kind: str, settings: DataSettings
) -> LabelledSequences:
    """Select the people of a dataset to train on.

    Args:
        data: The whole dataset.
        kind: Kind of the dataset, such as `casia-b`.
        settings: Split, and people left out.

    Raises:
        ConfigError: The dataset has no such split.
    """
    ids = np.unique(data.people)
    split = _split(kind, settings)
    chosen = ids if split is None else ids[is_trained(kind, split, ids)]
    chosen = np.setdiff1d(chosen, settings.without)
    return data if len(chosen) == len(ids) else PeopleSubset(data, chosen)


def validation_people(
    data: LabelledSequences, kind: str, settings: DataSettings, evaluate: EvaluateSettings
) -> LabelledSequences:
    """Select the people of a dataset to validate on during training.

    Args:
        data: The whole dataset.
        kind: Kind of the dataset, such as `casia-b`.
        settings: Split of the training people; these are all others.
        evaluate: Number of people.

    Raises:
        ConfigError: The split leaves nobody.
        DataError: The data have fewer than two such people.
    """
    split = _split(kind, settings)
    if split is None:
        raise ConfigError(
            "evaluate needs evaluate.walkers where all people of the data are trained on"
        )
    ids = np.unique(data.people)
    ids = ids[~is_trained(kind, split, ids)][: evaluate.people]
    if len(ids) < 2:
        raise DataError(f"expected at least 2 people to evaluate on, the data have {len(ids)}")
    return PeopleSubset(data, ids)


def training_data(
    config: TrainConfig, data: str | Path | None, cache: str | Path, workers: int
) -> LabelledSequences:
    """Return the sequences of the training people of a configuration.

    Args:
        config: Configuration.
        data: Prepared dataset or folder of shards; None makes its Walkers.
        cache: Folder of rendered Walkers.
        workers: Number of processes that make them.

    Raises:
        ConfigError: There are neither data nor Walkers.
    """
    plain = config.model_copy(update={"evaluate": None})
    return _load_people(plain, data, cache, workers, Ranks())[0]


def _load_people(
    config: TrainConfig, data: str | Path | None, cache: str | Path, workers: int, ranks: Ranks
) -> tuple[LabelledSequences, LabelledSequences | None]:
    """Return the sequences of the training people and of those to validate on."""
    evaluate = config.evaluate
    validation = None
    if evaluate is not None and evaluate.walkers is not None:
        validation = _load_walkers(evaluate.walkers, cache, workers, ranks)
        people = np.unique(validation.people)[: evaluate.people]
        validation = PeopleSubset(validation, people)
    if data is None:
        if config.walkers is None:
            raise ConfigError("expected data: give --data FOLDER or a `walkers` section")
        return _load_walkers(config.walkers, cache, workers, ranks), validation
    dataset = open_dataset(data)
    kind = read_index(data).kind if is_dataset(data) else "shards"
    if evaluate is not None and validation is None:
        validation = validation_people(dataset, kind, config.data, evaluate)
    return training_people(dataset, kind, config.data), validation


def _load_walkers(
    settings: WalkersSettings, cache: str | Path, workers: int, ranks: Ranks
) -> LabelledSequences:
    """Return Walkers; the first process makes those that are missing, the others wait."""
    if ranks.is_first:
        make_shards(settings, cache, workers=workers)
    ranks.wait()
    return ShardedSequences(make_shards(settings, cache, workers=workers))


def _split(kind: str, settings: DataSettings) -> str | None:
    """Return the name of the split, None for all people."""
    if settings.split == "auto":
        return FIELD if kind in SPLITS else None
    return None if settings.split == "all" else settings.split


def _write_config(folder: Path, config: TrainConfig) -> None:
    resolved = yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False)
    write_file(folder / "config.yaml", resolved)


class StopSignals:
    """End the run with a checkpoint at the first Ctrl-C or SIGTERM; the second kills."""

    SIGNALS = (signal.SIGINT, signal.SIGTERM)

    def __init__(self) -> None:
        self.requested = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> StopSignals:
        self._before = {number: signal.signal(number, self._request) for number in self.SIGNALS}
        return self

    def __exit__(self, *err: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def __call__(self) -> bool:
        """Return whether a stop was requested."""
        return self.requested

    def _request(self, number: int, frame: FrameType | None) -> None:
        self.requested = True
        signal.signal(number, signal.SIG_DFL)
