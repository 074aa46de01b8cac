"""Training of peers: batches, losses, optimiser and schedule are those of CSTL's own training.

A network brings only its layers. A killed run resumes from its last checkpoint. One process trains
(peers are not for torchrun). Letters: n sequences, s frames, p parts, d embedding dimensions.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, cast

import torch
from torch import nn

from cstl_edge.checkpoint.weights import read_header, read_tensors, weights_sha256, write_tensors
from cstl_edge.data.sampling import Sampler, Sequences
from cstl_edge.errors import ModelError, one_line
from cstl_edge.measure.environment import environment
from cstl_edge.model import Cstl
from cstl_edge.training.distributed import Ranks, resolve_device
from cstl_edge.training.recorder import budget_spent
from cstl_edge.training.run_state import RESUME, TrainingRun, load_run, save_run
from cstl_edge.training.settings import TrainConfig
from cstl_edge.training.trainer import TrainingStep, learning_rate

Build = Callable[[int], nn.Module]  # from the number of people, for a class head, to the network


def train_peer(
    name: str,
    build: Build,
    config: TrainConfig,
    data: Sequences,
    weights: Path,
    *,
    progress: Callable[[str], None] = print,
    stop_requested: Callable[[], bool] = lambda: False,
) -> bool:
    """Train a network to the end of its budget; False when it was stopped before.

    Args:
        name: Name of the network.
        build: Function that builds it.
        config: Configuration; its `model` section says no more than the size of silhouettes.
        data: The people to train on.
        weights: File to write at the end, beside the checkpoint; where it is, nothing is trained.
        progress: Receiver of a line every `run.log_every` iterations.
        stop_requested: Callback before every iteration; True ends the run with a checkpoint.

    Raises:
        ModelError: A loss is not finite, or a file is damaged.
    """
    if weights.exists():
        return True
    weights.parent.mkdir(parents=True, exist_ok=True)
    resume = weights.with_name(RESUME)
    run = start_peer(build, config, data)
    if resume.exists():
        load_run(resume, run)
    step, saved_s = TrainingStep(run, resume), run.elapsed_s
    while (spent := budget_spent(config.run, run)) < 1:
        if stop_requested():
            save_run(resume, run)
            return False
        _iterate(step, config, spent, lambda text: progress(f"{name}: {text}"))
        if run.elapsed_s - saved_s > 60 * config.run.checkpoint_minutes:
            save_run(resume, run)
            saved_s = run.elapsed_s
    _finish(weights, name, run)
    resume.unlink(missing_ok=True)
    return True


def start_peer(build: Build, config: TrainConfig, data: Sequences) -> TrainingRun:
    """Return a run at iteration 0: the same seed, batches and optimiser for every network.

    Args:
        build: Function that builds the network.
        config: Configuration.
        data: The people to train on.
    """
    torch.manual_seed(config.run.seed)
    sampler = Sampler(
        data, **config.sampler.model_dump(), seed=config.run.seed, augmentation=config.augment
    )
    model = build(len(sampler.ids)).train().to(resolve_device(config.run.device))
    memory_format = getattr(model, "memory_format", torch.channels_last)
    model = model.to(memory_format=memory_format)  # type: ignore[call-overload]
    # A run asks a network for `training_outputs`, weights and device only: peers have them too.
    return TrainingRun.start(config, cast(Cstl, model), sampler, Ranks())


def training_record(path: Path) -> dict[str, Any]:
    """Return the record of training in a file of weights; ModelError for a damaged file."""
    training: dict[str, Any] = json.loads(read_header(path)[0].get("training", "{}"))
    return training


def load_peer(name: str, build: Build, path: Path) -> tuple[nn.Module, dict[str, Any]]:
    """Return a trained network for inference and the record of its training.

    Args:
        name: Name of the network.
        build: Function that builds it; it is given 0 people.
        path: File of weights.

    Raises:
        ModelError: The file is damaged or of another network.
    """
    training = training_record(path)
    if training.get("network") != name:
        raise ModelError(
            f"{one_line(path)}: expected weights of {name}, got {training.get('network')}. Train "
            "it again"
        )
    model = build(0)
    model.load_state_dict(read_tensors(path))
    return model.eval(), training


def _iterate(
    step: TrainingStep, config: TrainConfig, spent: float, progress: Callable[[str], None]
) -> None:
    """Train one iteration and tell of it."""
    run, count = step.run, config.run.accumulate
    # Processor time where there is no GPU: others share the machine.
    clock = time.process_time if run.device.type == "cpu" else time.perf_counter
    began_s, number = clock(), run.iteration
    batches = (run.sampler.batch(number * count + i) for i in range(count))
    losses = step.iterate(batches, learning_rate(config.optimiser, number, spent))
    run.elapsed_s += clock() - began_s
    if run.iteration % config.run.log_every == 0:
        entropy = losses.cross_entropy
        classes = "" if entropy is None else f", classes {entropy:.3f}"
        total = "" if config.run.iterations is None else f"/{config.run.iterations}"
        progress(
            f"{run.iteration}{total}, triplet {losses.triplet:.4f}{classes}, above zero "
            f"{losses.nonzero:.3f}, {run.elapsed_s:.0f} s"
        )


def _finish(path: Path, name: str, run: TrainingRun) -> None:
    heads = ("class_head.", "embedding_class_head.")
    state = {k: v for k, v in run.inference_state().items() if not k.startswith(heads)}
    training: Mapping[str, Any] = {
        "network": name,
        "iterations": run.iteration,
        "processor_s": round(run.elapsed_s, 1),
        "weights_sha256": weights_sha256(state),
        "configuration": run.config.model_dump(mode="json"),
        "environment": environment(),
    }
    write_tensors(path, state, {"training": json.dumps(training)})
