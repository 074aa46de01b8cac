"""Trainings of the comparison at the common cost: one budget for every network.

The loop is `cstl_edge.reproduce.peers.training`; here are the networks by name, and their files.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch import nn

from cstl_edge.config import load_config
from cstl_edge.data.sampling import Sequences
from cstl_edge.reproduce.peers.training import load_peer, start_peer, train_peer
from cstl_edge.training.presets import SMALL, find_preset
from cstl_edge.training.run_state import WEIGHTS, TrainingRun
from cstl_edge.training.settings import TrainConfig
from peers.networks import CSTL, network

CLASS_HEAD_FORM = "head2"  # of CSTL since 2026-11-30: a matrix per part; trained in a new folder


def budget(iterations: int, seed: int = 1) -> TrainConfig:
    """Return the configuration of all trainings; its `model` section is not used."""
    changes = [f"run.iterations={iterations}", f"run.seed={seed}"]
    return load_config(TrainConfig, find_preset(SMALL), changes)


def weights_of(root: Path, name: str, config: TrainConfig) -> Path:
    """Return the path of a network's weights, in a folder of its own.

    Args:
        root: Folder of all trainings.
        name: Name of the network.
        config: The common configuration.
    """
    words = [name.lower().replace(" ", "-"), str(config.run.iterations)]
    words += [CLASS_HEAD_FORM] if name == CSTL else []
    words += [f"seed{config.run.seed}"] if config.run.seed != 1 else []
    return root / "-".join(words) / WEIGHTS


def train(
    name: str,
    config: TrainConfig,
    data: Sequences,
    weights: Path,
    progress: Callable[[str], None] = print,
) -> None:
    """Train a network to the end of its budget.

    Args:
        name: Name of the network.
        config: The common configuration.
        data: The people to train on.
        weights: File to write at the end, beside the checkpoint; where it is, nothing is trained.
        progress: Receiver of a line every `run.log_every` iterations.

    Raises:
        ModelError: at a loss that is not finite and for files that are damaged.
    """
    train_peer(name, network(name).scaled, config, data, weights, progress=progress)


def start(name: str, config: TrainConfig, data: Sequences) -> TrainingRun:
    """Return a run of a network at iteration 0.

    Args:
        name: Name of the network.
        config: The common configuration.
        data: The people to train on.
    """
    return start_peer(network(name).scaled, config, data)


def load(name: str, path: Path) -> tuple[nn.Module, dict[str, Any]]:
    """Return a trained network for inference and the record of its training (ModelError)."""
    return load_peer(name, network(name).scaled, path)
