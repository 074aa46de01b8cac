"""Training of CSTL: one visible loop, and what it takes to go on exactly where a run was killed.

Files of a run folder: `resume.safetensors` (weights, optimiser, moving average, sampler, random
state), `weights.safetensors` (what inference needs, rounded to float16, written with it) and
`log.jsonl`. On one machine with one number of threads a resumed run ends bit-equal to one that
never stopped. Letters: `n` sequences, `s` frames, `p` parts.
"""

from __future__ import annotations

import ctypes
import logging
import math
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from cstl_edge.data.sampling import Batch, Sampler, Sequences
from cstl_edge.errors import ConfigError, ModelError, one_line
from cstl_edge.measure import append_jsonl
from cstl_edge.model import Cstl
from cstl_edge.training.checkpoint import (
    inference_tensors,
    load_checkpoint,
    refuse_nonfinite,
    save_checkpoint,
    weights_sha256,
)
from cstl_edge.training.losses import cross_entropy, triplet_loss
from cstl_edge.training.resume import RESUME, MovingAverage, Run, load_run, save_run
from cstl_edge.training.settings import OptimiserSettings, RunSettings, TrainConfig

logger = logging.getLogger(__name__)

WEIGHTS, LOG = "weights.safetensors", "log.jsonl"
M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_MAX = -1, -2, -4  # of glibc's malloc.h


@dataclass(frozen=True)
class Losses:
    """The losses of one batch: `total` is what is minimised."""

    total: Tensor
    triplet: Tensor
    classes: Tensor | None  # None without a class head
    nonzero: Tensor  # share of the triplets that still cost something


def train(
    config: TrainConfig,
    data: Sequences,
    folder: str | Path,
    *,
    resume: bool = False,
    first: str | Path | None = None,
    stop: Callable[[], bool] = lambda: False,
    about: dict[str, Any] | None = None,
) -> Path:
    """Train until the budget is spent or `stop()` is true; return the path of the weights.

    folder: of the run; made when it is missing
    resume: go on from the folder's last checkpoint, with the same configuration
    first: checkpoint of the same network, of whatever people, whose weights the run starts from
    stop: asked before every iteration
    about: what the weights should say of their training besides the configuration
    Raises ModelError at a loss that is not finite; the last checkpoint is then still good.
    """
    folder = Path(folder)
    run = start_run(config, data)
    if resume:
        load_run(folder / RESUME, run)
    elif first is not None:
        start_from(run, first)
    elif config.optimiser.frozen_layers:
        raise ConfigError("optimiser.frozen_layers keep trained weights: say from which to start")
    step = _Step(run.model, config)
    saved_s = run.elapsed_s
    with ThreadPoolExecutor(1, "batches") as pool:
        coming = pool.submit(run.sampler.batch, run.iteration)
        while (done := progress(config.run, run)) < 1 and not stop():
            started = time.perf_counter()
            batch = coming.result()
            coming = pool.submit(run.sampler.batch, run.iteration + 1)
            rate = rate_at(config.optimiser, run.iteration, done)
            for group in run.optimiser.param_groups:
                group["lr"] = rate
            losses = step.losses(batch)
            _refuse_nonfinite_loss(losses, batch, folder)
            step.update(run.optimiser, losses.total)
            if run.average is not None:
                run.average.update(run.model, run.iteration)
            run.iteration += 1
            took_s = time.perf_counter() - started
            run.elapsed_s += took_s
            if run.iteration % config.run.log_every == 0 or run.iteration == 1:
                _log(folder, config, run, losses, rate, took_s)
            if run.elapsed_s - saved_s >= 60 * config.run.checkpoint_minutes:
                checkpoint(folder, run, about)
                saved_s = run.elapsed_s
    return checkpoint(folder, run, about)


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
    settings = config.run
    torch.manual_seed(settings.seed)
    sampler = Sampler(
        data, **config.sampler.model_dump(), seed=settings.seed, change=config.augment
    )
    model = Cstl(config.network(classes=len(sampler.ids))).train()
    if settings.channels_last:
        model = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    for conv in model.backbone.convs[: config.optimiser.frozen_layers]:
        conv.requires_grad_(False)
    return Run.start(config, model, sampler)


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


def checkpoint(folder: Path, run: Run, about: dict[str, Any] | None = None) -> Path:
    """Write the resume file and the weights of a run; return the path of the weights."""
    state = run.inference_state()
    refuse_nonfinite(state, f"iteration {run.iteration}")
    save_run(folder / RESUME, run)
    training = {
        **(about or {}),
        **({"first": run.first} if run.first else {}),
        "iterations": run.iteration,
        "minutes": round(run.elapsed_s / 60, 1),
        "people": len(run.sampler.ids),
        "configuration": run.config.model_dump(mode="json"),
    }
    save_checkpoint(folder / WEIGHTS, run.model, training, weights=state, half=True)
    logger.info("iteration %d: checkpoint written to %s", run.iteration, folder)
    return folder / WEIGHTS


def progress(settings: RunSettings, run: Run) -> float:
    """Return the share of the budget that is spent, 1 or more when the run is over."""
    spent = []
    if settings.iterations is not None:
        spent.append(run.iteration / settings.iterations)
    if settings.minutes is not None:
        spent.append(run.elapsed_s / (60 * settings.minutes))
    return max(spent)


def rate_at(settings: OptimiserSettings, iteration: int, done: float) -> float:
    """Return the learning rate of an iteration; `done` is the share of the budget, 0..1.

    >>> rate_at(OptimiserSettings(rate=0.1, schedule="cosine", warm_up=4), 0, 0.0)
    0.025
    """
    rate = settings.rate * min(1.0, (iteration + 1) / max(settings.warm_up, 1))
    if settings.schedule != "cosine":
        return rate * 0.1 ** sum(iteration >= step for step in settings.steps)
    low = settings.final_rate
    return rate * (low + (1 - low) * 0.5 * (1 + math.cos(math.pi * min(done, 1.0))))


class _Step:
    """Forward and backward of one batch, in the arithmetic of the configuration."""

    def __init__(self, model: Cstl, config: TrainConfig) -> None:
        self.model, self.settings = model, config.optimiser
        self.device = next(model.parameters()).device
        self.bfloat16 = config.run.precision == "bfloat16"

    def losses(self, batch: Batch) -> Losses:
        silhouettes = torch.from_numpy(batch.silhouettes).to(self.device)  # [n, s, h, w] uint8
        labels = torch.from_numpy(batch.labels).to(self.device)  # [n]
        n, s = silhouettes.shape[:2]
        lengths = torch.full((n,), s, dtype=torch.int32, device=self.device)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.bfloat16):
            outputs = self.model.training_outputs(silhouettes, lengths)
        triplet, nonzero = triplet_loss(
            outputs.embedding.float(),
            labels,
            margin=self.settings.margin,
            self_pairs=self.settings.self_pairs,
        )
        total = self.settings.triplet_weight * triplet
        if outputs.logits is None:
            return Losses(total, triplet, None, nonzero)
        classes = cross_entropy(outputs.logits.float(), labels)
        return Losses(total + self.settings.class_weight * classes, triplet, classes, nonzero)

    def update(self, optimiser: torch.optim.Optimizer, total: Tensor) -> None:
        optimiser.zero_grad(set_to_none=True)
        total.backward()  # type: ignore[no-untyped-call]
        if self.settings.clip_norm:
            nn.utils.clip_grad_norm_(self.model.parameters(), self.settings.clip_norm)
        optimiser.step()


def _refuse_nonfinite_loss(losses: Losses, batch: Batch, folder: Path) -> None:
    total = losses.total.item()
    if math.isfinite(total):
        return
    last = folder / RESUME
    kept = f"the last good checkpoint is {last}" if last.exists() else "no checkpoint exists yet"
    raise ModelError(
        f"the loss is {total} at batch {batch.number} (sequences {batch.rows.tolist()}); {kept}. "
        "Lower optimiser.rate or set optimiser.clip_norm, then resume"
    )


def _log(
    folder: Path, config: TrainConfig, run: Run, losses: Losses, rate: float, took_s: float
) -> None:
    done = progress(config.run, run)
    record = {
        "iteration": run.iteration,
        "loss": round(losses.total.item(), 5),
        "triplet": round(losses.triplet.item(), 5),
        "cross_entropy": None if losses.classes is None else round(losses.classes.item(), 5),
        "nonzero": round(losses.nonzero.item(), 4),
        "rate": float(f"{rate:.3g}"),
        "iteration_ms": round(1000 * took_s, 1),
        "elapsed_s": round(run.elapsed_s, 1),
        "left_s": round(max(0.0, run.elapsed_s * (1 - done) / done), 1),
    }
    append_jsonl(folder / LOG, record)
    logger.info(
        "iteration %(iteration)d: loss %(loss).4f, triplets above zero %(nonzero).3f, "
        "%(iteration_ms).0f ms, %(left_s).0f s left",
        record,
    )
