"""Training of CSTL: one visible loop, and what it takes to go on exactly where a run was killed.

Files of a run folder: `resume.safetensors` (weights, optimiser, moving average, sampler, random
state), `weights.safetensors` (what inference needs, rounded to float16, written with it),
`best.safetensors` (likewise, of the best evaluation) and `log.jsonl`. On one machine with one
number of threads a resumed run ends bit-equal to one that never stopped. Under torchrun every
process runs this loop and the first one writes. Letters: `n` sequences, `s` frames, `p` parts.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from cstl_edge.data.sampling import Batch, Sampler, Sequences
from cstl_edge.data.splits import Labelled
from cstl_edge.errors import ConfigError, ModelError
from cstl_edge.training.distributed import gathered, parallel
from cstl_edge.training.losses import Losses, cross_entropy, joint_triplet_loss, triplet_loss
from cstl_edge.training.recorder import BEST, WEIGHTS, Keeper, progress
from cstl_edge.training.run_state import RESUME, Run, load_run, start_from, start_run
from cstl_edge.training.settings import OptimiserSettings, TrainConfig

TYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


class Step:
    """Losses and gradients of a run's network, batch by batch."""

    def __init__(self, run: Run, last_good: Path) -> None:
        """Prepare for a run.

        last_good: the checkpoint that remains when a loss is not finite
        """
        self.run, self.settings, self.last_good = run, run.config.optimiser, last_good
        self.model = parallel(run.model, run.ranks)
        self.type = TYPES[run.config.run.precision]

    def learn(self, batch: Batch, *, last: bool) -> Losses:
        """Add the gradient of this rank's share of a batch to those there are.

        last: whether it is the last batch of the iteration, at which the processes meet
        Raises ModelError where the loss is not finite.
        """
        shared = self.model if isinstance(self.model, DistributedDataParallel) else None
        with nullcontext() if shared is None or last else shared.no_sync():
            total, losses = self._losses(batch)
            self._refuse_nonfinite(losses, batch)
            total = total / self.run.config.run.accumulate
            self.run.scaler.scale(total).backward()  # type: ignore[no-untyped-call]
        return losses

    def update(self) -> None:
        """Change the weights by the gradients that have been added up, and forget these."""
        optimiser, scaler = self.run.optimiser, self.run.scaler
        if self.settings.clip_norm:
            scaler.unscale_(optimiser)
            nn.utils.clip_grad_norm_(self.run.model.parameters(), self.settings.clip_norm)
        scaler.step(optimiser)
        scaler.update()
        optimiser.zero_grad(set_to_none=True)

    def _losses(self, batch: Batch) -> tuple[Tensor, Losses]:
        device = self.run.device
        silhouettes = torch.from_numpy(batch.silhouettes).to(device)  # [n, s, h, w] uint8
        labels = torch.from_numpy(batch.labels).to(device)  # [n]
        n, s = silhouettes.shape[:2]
        lengths = torch.full((n,), s, dtype=torch.int32, device=device)
        with torch.autocast(device.type, self.type, enabled=self.type != torch.float32):
            outputs = self.model(silhouettes, lengths)
        everybody = gathered(outputs.embedding), gathered(labels)
        margin, self_pairs = self.settings.margin, self.settings.self_pairs
        triplet, nonzero = triplet_loss(*everybody, margin=margin, self_pairs=self_pairs)
        total = self.settings.triplet_weight * triplet
        if self.settings.joint_weight:
            joint, _ = joint_triplet_loss(*everybody, margin=margin, self_pairs=self_pairs)
            total = total + self.settings.joint_weight * joint
        numbers = [triplet.detach(), nonzero]
        if outputs.logits is not None:
            classes = cross_entropy(outputs.logits, labels)
            total = total + self.settings.class_weight * classes
            numbers.append(classes.detach())
        told = self.run.ranks.mean(torch.stack([total.detach(), *numbers])).tolist()
        return total, Losses(told[0], told[1], told[3] if len(told) > 3 else None, told[2])

    def _refuse_nonfinite(self, losses: Losses, batch: Batch) -> None:
        if math.isfinite(losses.total):
            return
        there = self.last_good.exists()
        kept = f"the last good checkpoint is {self.last_good}" if there else "no checkpoint yet"
        raise ModelError(
            f"the loss is {losses.total} at batch {batch.number} (sequences "
            f"{batch.rows.tolist()}); {kept}. Lower optimiser.rate or set optimiser.clip_norm, "
            "then resume"
        )


__all__ = ["BEST", "RESUME", "WEIGHTS", "rate_at", "train"]


def train(
    config: TrainConfig,
    data: Sequences,
    folder: str | Path,
    *,
    resume: bool = False,
    first: str | Path | None = None,
    test: Labelled | None = None,
    stop: Callable[[], bool] = lambda: False,
    about: dict[str, Any] | None = None,
) -> Path:
    """Train until the budget is spent or `stop()` is true; return the path of the weights.

    folder: of the run; made when it is missing
    resume: go on from the folder's last checkpoint, with the same configuration
    first: checkpoint of the same network, of whatever people, whose weights the run starts from
    test: people to evaluate on, as the `evaluate` section says
    stop: asked before every iteration
    about: what the weights should say of their training besides the configuration
    Raises ModelError at a loss that is not finite; the last checkpoint is then still good.
    """
    folder, settings = Path(folder), config.run
    run = _begun(config, data, folder, resume, first)
    step = Step(run, folder / RESUME)
    with (
        Keeper(folder, run, test, about) as keeper,
        closing(_ahead(run.sampler, run.iteration * settings.accumulate)) as batches,
    ):
        while True:
            started = time.perf_counter()
            done, asked = run.ranks.agree(progress(settings, run), stop(), run.device)
            if done >= 1 or asked:
                break
            rate = rate_at(config.optimiser, run.iteration, done)
            for group in run.optimiser.param_groups:
                group["lr"] = rate
            rounds = range(1, settings.accumulate + 1)
            losses = [step.learn(next(batches), last=i == settings.accumulate) for i in rounds]
            step.update()
            if run.average is not None:
                run.average.update(run.model, run.iteration)
            run.iteration += 1
            took_s = time.perf_counter() - started
            run.elapsed_s += took_s
            keeper.iteration(Losses.mean(losses), rate, took_s)
        return keeper.end(stopped=done < 1)


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


def _begun(
    config: TrainConfig, data: Sequences, folder: Path, resume: bool, first: str | Path | None
) -> Run:
    """Return a run at its beginning, or where it was saved."""
    run = start_run(config, data)
    if resume:
        load_run(folder / RESUME, run)
    elif first is not None:
        start_from(run, first)
    elif config.optimiser.frozen_layers:
        raise ConfigError("optimiser.frozen_layers keep trained weights: say from which to start")
    return run


def _ahead(sampler: Sampler, number: int) -> Generator[Batch, None, None]:
    """Yield the batches from `number` on, each made while the one before is computed."""
    with ThreadPoolExecutor(1, "batches") as pool:
        coming = pool.submit(sampler.batch, number)
        while True:
            batch = coming.result()
            coming = pool.submit(sampler.batch, batch.number + 1)
            yield batch
