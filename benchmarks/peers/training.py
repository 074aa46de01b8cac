"""Training loop of the comparison: every network is trained alike.

Batches, losses, optimiser, learning rates, precision and moving average are those of the package's
own training; a network brings only its layers, and CSTL its class head. A killed run resumes
from its last checkpoint. Letters: n sequences, s frames, p parts, d embedding dimensions.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import torch
from torch import nn

from cstl_edge.checkpoint.weights import read_header, read_tensors, weights_sha256, write_tensors
from cstl_edge.config import load_config
from cstl_edge.data.sampling import Sampler, Sequences
from cstl_edge.errors import ModelError, one_line
from cstl_edge.measure.environment import environment
from cstl_edge.model import Cstl
from cstl_edge.training.distributed import Ranks
from cstl_edge.training.presets import SMALL, find_preset
from cstl_edge.training.run_state import RESUME, WEIGHTS, TrainingRun, load_run, save_run
from cstl_edge.training.settings import TrainConfig
from cstl_edge.training.trainer import TrainingStep, learning_rate
from peers.networks import network

SAVE_EVERY_S = 60.0


def budget(iterations: int) -> TrainConfig:
    """Return the configuration of all trainings; its `model` section is not used."""
    return load_config(TrainConfig, find_preset(SMALL), [f"run.iterations={iterations}"])


def weights_of(root: Path, name: str, config: TrainConfig) -> Path:
    """Return the path of a network's weights, in a folder of its own.

    Args:
        root: Folder of all trainings.
        name: Name of the network.
        config: The common configuration.
    """
    return root / f"{name.lower().replace(' ', '-')}-{config.run.iterations}" / WEIGHTS


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
    if weights.exists():
        return
    weights.parent.mkdir(parents=True, exist_ok=True)
    resume = weights.with_name(RESUME)
    run = start(name, config, data)
    if resume.exists():
        load_run(resume, run)
    step, total = TrainingStep(run, resume), config.run.iterations or 0
    saved_s = run.elapsed_s
    while run.iteration < total:
        began_s = time.process_time()
        rate = learning_rate(config.optimiser, run.iteration, run.iteration / total)
        losses = step.iterate(iter([run.sampler.batch(run.iteration)]), rate)
        run.elapsed_s += time.process_time() - began_s  # processor time: others share the machine
        if run.iteration % config.run.log_every == 0:
            entropy = losses.cross_entropy
            classes = "" if entropy is None else f", classes {entropy:.3f}"
            progress(
                f"{name}: {run.iteration}/{total}, triplet {losses.triplet:.4f}{classes}, above "
                f"zero {losses.nonzero:.3f}, {run.elapsed_s:.0f} processor seconds"
            )
        if run.elapsed_s - saved_s > SAVE_EVERY_S:
            save_run(resume, run)
            saved_s = run.elapsed_s
    _finish(weights, name, run)
    resume.unlink(missing_ok=True)


def start(name: str, config: TrainConfig, data: Sequences) -> TrainingRun:
    """Return a run at iteration 0: the same seed, batches and optimiser for every network.

    Args:
        name: Name of the network.
        config: The common configuration.
        data: The people to train on.
    """
    torch.manual_seed(config.run.seed)
    sampler = Sampler(
        data, **config.sampler.model_dump(), seed=config.run.seed, augmentation=config.augment
    )
    model = network(name).scaled(len(sampler.ids)).train()
    memory_format = getattr(model, "memory_format", torch.channels_last)
    model = model.to(memory_format=memory_format)  # type: ignore[call-overload]
    # A run asks a network for `training_outputs`, weights and device only: peers have them too.
    return TrainingRun.start(config, cast(Cstl, model), sampler, Ranks())


def training_record(path: Path) -> dict[str, Any]:
    """Return the record of training in a file of weights; ModelError for a damaged file."""
    training: dict[str, Any] = json.loads(read_header(path)[0].get("training", "{}"))
    return training


def load(name: str, path: Path) -> tuple[nn.Module, dict[str, Any]]:
    """Return a trained network for inference and the record of its training.

    Raises ModelError for a file that is damaged or of another network.
    """
    training = training_record(path)
    if training.get("network") != name:
        raise ModelError(
            f"{one_line(path)}: expected weights of {name}, got {training.get('network')}. Train "
            "it again"
        )
    model = network(name).scaled(0)
    model.load_state_dict(read_tensors(path))
    return model.eval(), training


def _finish(path: Path, name: str, run: TrainingRun) -> None:
    state = {k: v for k, v in run.inference_state().items() if not k.startswith("class_head.")}
    training = {
        "network": name,
        "iterations": run.iteration,
        "processor_s": round(run.elapsed_s, 1),
        "weights_sha256": weights_sha256(state),
        "configuration": run.config.model_dump(mode="json"),
        "environment": environment(),
    }
    write_tensors(path, state, {"training": json.dumps(training)})
