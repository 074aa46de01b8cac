"""State of a training run: start, everything the next iteration depends on, resume file.

The resume file is safetensors; its metadata hold `run`, the state as JSON with the whole
configuration, and `sha256` over all of it. Letters: `s` frames, `h w` pixels.
"""

from __future__ import annotations

import ctypes
import hashlib
import json
import logging
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError
from torch import Tensor

from cstl_edge.checkpoint.weights import (
    inference_tensors,
    load_checkpoint,
    read_header,
    read_tensors,
    weights_sha256,
    write_tensors,
)
from cstl_edge.data.sampling import Sampler, Sequences
from cstl_edge.errors import ConfigError, ModelError, one_line
from cstl_edge.foreign import load_json, parsing
from cstl_edge.measure.environment import processor
from cstl_edge.model import Cstl
from cstl_edge.training.distributed import Ranks, resolve_device
from cstl_edge.training.settings import RunSettings, TrainConfig

# Files of a run folder
RESUME = "resume.safetensors"
WEIGHTS, BEST = "weights.safetensors", "best.safetensors"

CHANGEABLE_KEYS = {  # of the section `run`, when a run resumes; so may the section `evaluate`
    *("iterations", "minutes", "device", "threads", "checkpoint_minutes", "log_every"),
    "tensorboard",
}
BFLOAT16 = {"amx_bf16", "avx512_bf16", "bf16"}  # instructions of x86 and ARM, as Linux names them
M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_MAX = -1, -2, -4  # of glibc's malloc.h

logger = logging.getLogger(__name__)


class MovingAverage:
    """Exponential moving average of every floating-point tensor of a network, buffers included."""

    def __init__(self, model: Cstl, decay: float) -> None:
        """Start at the network's present weights."""
        self.decay = decay
        self.state = {key: tensor.detach().clone() for key, tensor in model.state_dict().items()}

    @torch.no_grad()
    def update(self, model: Cstl, iteration: int) -> None:
        """Move towards the network; early on faster, so that the first weights are forgotten."""
        decay = min(self.decay, (1 + iteration) / (10 + iteration))
        for key, tensor in model.state_dict().items():
            if tensor.is_floating_point():
                self.state[key].lerp_(tensor, 1 - decay)
            else:
                self.state[key].copy_(tensor)


@dataclass
class TrainingRun:
    """State of a training run between two iterations."""

    config: TrainConfig
    model: Cstl
    sampler: Sampler
    optimiser: torch.optim.Adam
    scaler: torch.amp.GradScaler  # of float16; it does nothing at any other precision
    average: MovingAverage | None
    ranks: Ranks = field(default_factory=Ranks)
    iteration: int = 0
    elapsed_s: float = 0.0
    initial: dict[str, Any] | None = None
    """`weights_sha256` and `training` of the weights it started from: `first` in its headers."""
    best: dict[str, Any] | None = None  # record of the validation with the highest rank-1 so far
    last: dict[str, Any] | None = None  # losses of the last logged iteration

    @classmethod
    def start(cls, config: TrainConfig, model: Cstl, sampler: Sampler, ranks: Ranks) -> TrainingRun:
        """Create a run at iteration 0, with an optimiser without history.

        Args:
            config: Configuration of the whole run.
            model: Network in training mode; parameters without gradient stay frozen.
            sampler: Batches of the training people.
            ranks: Rank of this process among those that train.
        """
        decay = config.optimiser.average_decay
        average = MovingAverage(model, decay) if decay else None
        trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
        optimiser = torch.optim.Adam(trainable, lr=config.optimiser.rate, fused=True)
        device = next(model.parameters()).device.type
        scaler = torch.amp.GradScaler(device, enabled=config.run.precision == "float16")
        return cls(config, model, sampler, optimiser, scaler, average, ranks)

    @property
    def precision(self) -> str:
        """Arithmetic of the forward pass, `auto` resolved for this device."""
        return resolve_precision(self.config.run.precision, self.device)

    @property
    def device(self) -> torch.device:
        """Device of the network."""
        return next(self.model.parameters()).device

    def inference_state(self) -> dict[str, Tensor]:
        """Return the weights to save: the moving average where there is one."""
        return self.model.state_dict() if self.average is None else self.average.state


def prepare_process(settings: RunSettings) -> None:
    """Set threads, denormals and malloc of a process that only trains, before its first tensor."""
    if settings.threads:
        torch.set_num_threads(settings.threads)
    torch.set_flush_denormal(True)  # Adam's moments decay into denormals, which CPUs add slowly
    # Activations of 100 MB would be mapped from the system and given back in every iteration: with
    # 200,000 page faults it took 835 ms where 555 are needed (2 cores, 512 frames).
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError, TypeError):
        return  # not glibc
    for option, value in (M_MMAP_MAX, 0), (M_TRIM_THRESHOLD, 2**31 - 1), (M_TOP_PAD, 2**28):
        mallopt(option, value)


def resolve_precision(setting: str, device: torch.device) -> str:
    """Return the precision that `auto` stands for on a device; any other setting is returned.

    bfloat16 needs instructions of its own: without them it takes ten times as long as float32.
    """
    if setting != "auto":
        return setting
    if device.type == "cuda":
        return "bfloat16" if torch.cuda.is_bf16_supported() else "float32"
    return "bfloat16" if BFLOAT16 & processor()[1] else "float32"


def start_run(config: TrainConfig, data: Sequences) -> TrainingRun:
    """Create a run at iteration 0, its first weights drawn from the seed.

    Raises ConfigError for silhouettes of another size than the network's, a missing GPU or a
    missing compiler.
    """
    settings, ranks = config.run, Ranks.current()
    torch.manual_seed(settings.seed)
    sampler = Sampler(
        data,
        **config.sampler.model_dump(),
        seed=settings.seed,
        augmentation=config.augment,
        rank=ranks.rank,
        ranks=ranks.count,
    )
    network = config.network(classes=len(sampler.ids))
    size = data.read(0).shape[1:]
    if size != network.size:
        raise ConfigError(
            f"expected silhouettes of {list(network.size)}, got {list(size)}. Set model.size or "
            "prepare the data at another size"
        )
    model = Cstl(network).train().to(resolve_device(settings.device))
    if settings.channels_last:
        model = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    for conv in model.backbone.convs[: config.optimiser.frozen_layers]:
        conv.requires_grad_(False)
    if settings.compile:  # refused now where torch would find no compiler minutes later
        names = [os.environ.get("CXX", "g++"), "clang++"]
        if not any(map(shutil.which, names)):
            raise ConfigError(
                f"run.compile needs a C++ compiler, found none of {', '.join(names)}. Install g++, "
                "name one in CXX, or leave run.compile out"
            )
        model.backbone.compile()
    return TrainingRun.start(config, model, sampler, ranks)


def load_initial_weights(run: TrainingRun, path: str | Path) -> None:
    """Load the weights of a checkpoint into a run at iteration 0.

    The class head stays as it is, for other people have other classes. Raises ModelError for a
    damaged file, ConfigError for another network.
    """
    model, training = load_checkpoint(path)
    expected, got = (replace(m.config, classes=0) for m in (run.model, model))
    if expected != got:
        raise ConfigError(
            f"{one_line(path)}: expected weights of the network {expected.to_dict()}, got "
            f"{got.to_dict()}. Start from weights of the same `model` section"
        )
    state = inference_tensors(model.state_dict(), got)
    run.model.load_state_dict(state, strict=False)
    if run.average is not None:
        run.average = MovingAverage(run.model, run.average.decay)
    run.initial = {"weights_sha256": weights_sha256(state), "training": training}


def save_run(path: Path, run: TrainingRun) -> None:
    """Write the resume file of a run, whole or not at all."""
    tensors = {f"model.{key}": tensor for key, tensor in run.model.state_dict().items()}
    if run.average is not None:
        tensors |= {f"average.{key}": tensor for key, tensor in run.average.state.items()}
    for number, state in run.optimiser.state_dict()["state"].items():
        tensors |= {f"adam.{number}.{key}": tensor for key, tensor in state.items()}
    tensors["random"] = torch.get_rng_state()
    run.sampler.next_batch = run.iteration * run.config.run.accumulate
    text = json.dumps(
        {
            "config": run.config.model_dump(mode="json"),
            "sampler": run.sampler.state_dict(),
            "scaler": run.scaler.state_dict(),
            "iteration": run.iteration,
            "elapsed_s": run.elapsed_s,
            "first": run.initial,
            "best": run.best,
            "last": run.last,
            "precision": run.precision,
        }
    )
    write_tensors(path, tensors, {"run": text, "sha256": _content_sha256(text, tensors)})


def load_run(path: Path, run: TrainingRun) -> None:
    """Set a run, created from the same configuration, to the state of a resume file.

    Raises ModelError for a file that is damaged or of another network, ConfigError for one of
    another configuration or other data.
    """
    name = one_line(path)
    metadata, _ = read_header(path)
    tensors = read_tensors(path)
    _check_sha256(name, metadata, tensors)
    with parsing(path, "a checkpoint of this run", ModelError, "give the folder of this run"):
        state = load_json(metadata["run"])
        _compare_config(_with_defaults(state["config"]), run.config.model_dump(mode="json"))
        run.sampler.load_state_dict(state["sampler"])
        run.model.load_state_dict(_with_prefix(tensors, "model."))
        if run.average is not None:
            for key, tensor in _with_prefix(tensors, "average.").items():
                run.average.state[key].copy_(tensor)
        run.optimiser.load_state_dict(_adam_state(tensors, run.optimiser))
        if run.scaler.is_enabled():
            run.scaler.load_state_dict(state["scaler"])
        torch.set_rng_state(tensors["random"])
        run.iteration, run.elapsed_s = int(state["iteration"]), float(state["elapsed_s"])
        run.initial, run.best = state.get("first"), state.get("best")
        run.last = state.get("last")
    if (before := state.get("precision", run.precision)) != run.precision:
        logger.warning(
            "the run was saved at %s and goes on at %s, which this machine computes (run.precision "
            "auto): its weights are not those of one machine",
            one_line(before),
            run.precision,
        )


def _content_sha256(text: str, tensors: Mapping[str, Tensor]) -> str:
    return hashlib.sha256(f"{text}\n{weights_sha256(tensors)}".encode()).hexdigest()


def _check_sha256(name: str, metadata: Mapping[str, str], tensors: Mapping[str, Tensor]) -> None:
    if set(metadata) == {"run"}:
        logger.warning("%s was written before such files had a sha256; it is taken as it is", name)
    elif set(metadata) != {"run", "sha256"}:
        raise ModelError(f"{name} is not a checkpoint of this run: its metadata are others")
    elif metadata["sha256"] != _content_sha256(metadata["run"], tensors):
        raise ModelError(
            f"{name}: its sha256 does not match its content. Begin a new run, from the weights "
            "beside it by --first if those are good"
        )


def _with_defaults(saved: dict[str, Any]) -> dict[str, Any]:
    """Return a saved configuration with the defaults of keys that came later."""
    try:
        return TrainConfig.model_validate(saved).model_dump(mode="json")
    except ValidationError as err:
        first = err.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        raise ConfigError(
            f"the saved run has {key} {one_line(first.get('input'), 60)}, which this version "
            "does not know. Resume it with the version that wrote it"
        ) from err


def _compare_config(saved: Mapping[str, Any], now: Mapping[str, Any], parents: str = "") -> None:
    """Raise ConfigError for the first key with another value that may not change."""
    for key, value in now.items():
        before = saved.get(key)
        if f"{parents}{key}" in {"evaluate", *(f"run.{name}" for name in CHANGEABLE_KEYS)}:
            continue
        if isinstance(value, dict) and isinstance(before, dict):
            _compare_config(before, value, f"{parents}{key}.")
        elif before != value:
            raise ConfigError(
                f"{parents}{key} was {before} when the run was saved and is {value} now. Resume "
                "with the old value or start in a new folder"
            )


def _with_prefix(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Return the tensors whose names start with a prefix, without it."""
    return {key[len(prefix) :]: t for key, t in tensors.items() if key.startswith(prefix)}


def _adam_state(tensors: Mapping[str, Tensor], optimiser: torch.optim.Adam) -> dict[str, Any]:
    """Return the optimiser's state, each moment in the memory order of its parameter.

    The fused kernel walks all of them by address: contiguous moments beside a channels-last
    parameter would silently be another element's.
    """
    parameters = [p for group in optimiser.param_groups for p in group["params"]]
    state: dict[int, dict[str, Tensor]] = {}
    for key, tensor in _with_prefix(tensors, "adam.").items():
        number, name = key.split(".")
        parameter = parameters[int(number)]
        moment = tensor if tensor.ndim == 0 else torch.empty_like(parameter).copy_(tensor)
        state.setdefault(int(number), {})[name] = moment.detach()
    return {**optimiser.state_dict(), "state": state}
