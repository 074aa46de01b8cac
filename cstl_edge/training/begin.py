"""The beginning of a run: its process, its first weights, or those of another run.

Letters: `s` frames, `h w` pixels.
"""

from __future__ import annotations

import ctypes
import os
import shutil
from dataclasses import replace
from pathlib import Path

import torch

from cstl_edge.data.sampling import Sampler, Sequences
from cstl_edge.errors import ConfigError, one_line
from cstl_edge.model import Cstl
from cstl_edge.training.checkpoint import inference_tensors, load_checkpoint, weights_sha256
from cstl_edge.training.distributed import Ranks, device_of
from cstl_edge.training.resume import MovingAverage, Run
from cstl_edge.training.settings import RunSettings, TrainConfig

M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_MAX = -1, -2, -4  # of glibc's malloc.h


def prepare_process(settings: RunSettings) -> None:
    """Set what is global to a process that does nothing but train; call it before any tensor."""
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


def start_run(config: TrainConfig, data: Sequences) -> Run:
    """Return a run at iteration 0: first weights from the seed, an optimiser without history."""
    settings, ranks = config.run, Ranks.here()
    torch.manual_seed(settings.seed)
    sampler = Sampler(
        data,
        **config.sampler.model_dump(),
        seed=settings.seed,
        change=config.augment,
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
    model = Cstl(network).train().to(device_of(settings.device))
    if settings.channels_last:
        model = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    for conv in model.backbone.convs[: config.optimiser.frozen_layers]:
        conv.requires_grad_(False)
    if settings.compile:
        _check_compiler()
        model.backbone.compile()
    return Run.start(config, model, sampler, ranks)


def start_from(run: Run, path: str | Path) -> None:
    """Give a run that has not begun the weights of a checkpoint.

    The class head is new, for other people have other classes. Raises ModelError for a damaged
    file, ConfigError for another network.
    """
    model, training = load_checkpoint(path)
    wanted, got = (replace(m.config, classes=0) for m in (run.model, model))
    if wanted != got:
        raise ConfigError(
            f"{one_line(path)}: expected weights of the network {wanted.to_dict()}, got "
            f"{got.to_dict()}. Start from weights of the same `model` section"
        )
    state = inference_tensors(model.state_dict(), got)
    run.model.load_state_dict(state, strict=False)
    if run.average is not None:
        run.average = MovingAverage(run.model, run.average.decay)
    run.first = {"weights_sha256": weights_sha256(state), "training": training}


def _check_compiler() -> None:
    """Raise ConfigError where torch.compile would find no compiler, minutes later."""
    names = [os.environ.get("CXX", "g++"), "clang++"]
    if not any(map(shutil.which, names)):
        raise ConfigError(
            f"run.compile needs a C++ compiler, found none of {', '.join(names)}. Install g++, "
            "name one in CXX, or leave run.compile out"
        )
