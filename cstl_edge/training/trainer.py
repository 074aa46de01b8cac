"""Training loop of CSTL, which resumes exactly where a run was killed.

Files of a run folder: `resume.safetensors` (weights, optimiser, moving average, sampler, random
state), `weights.safetensors` (for inference, rounded to float16, written with it),
`best.safetensors` (likewise, of the best validation) and `log.jsonl`. On one machine with one
number of threads a resumed run ends bit-equal to one that never stopped. Under torchrun every
process runs this loop and the first one writes. Letters: `n` sequences, `s` frames, `p` parts.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from cstl_edge.data.sampling import Batch, Sampler, Sequences
from cstl_edge.data.splits import LabelledSequences
from cstl_edge.errors import ConfigError, ModelError
from cstl_edge.training.distributed import Ranks, gather_batch, wrap_parallel
from cstl_edge.training.losses import Losses, class_accuracy, cross_entropy, triplet_loss
from cstl_edge.training.recorder import RunRecorder, budget_spent, is_logged
from cstl_edge.training.run_state import (
    RESUME,
    TrainingRun,
    load_initial_weights,
    load_run,
    start_run,
)
from cstl_edge.training.settings import OptimiserSettings, TrainConfig

GRADIENTS = ("gradient_triplet", "gradient_class", "gradient_cosine")  # fields of Losses


def train(
    config: TrainConfig,
    data: Sequences,
    folder: str | Path,
    *,
    resume: bool = False,
    initial_weights: str | Path | None = None,
    validation_data: LabelledSequences | None = None,
    stop_requested: Callable[[], bool] = lambda: False,
    provenance: Mapping[str, Any] | None = None,
) -> Path:
    """Train until the budget is spent or a stop is requested; return the path of the weights.

    Args:
        config: Configuration of the whole run.
        data: Sequences of the training people.
        folder: Folder of the run; created when it is missing.
        resume: True to continue from the folder's last checkpoint, with the same configuration.
        initial_weights: Checkpoint of the same network, of any people, to start from.
        validation_data: People to validate on, as the `evaluate` section says.
        stop_requested: Callback before every iteration; True ends the run.
        provenance: Origin of the weights, for their header beside the configuration.

    Raises:
        ConfigError: Configuration, data and checkpoint do not fit together.
        ModelError: A loss is not finite; the last checkpoint is then still good.
    """
    folder = Path(folder)
    run = _start_or_resume(config, data, folder, resume, initial_weights)
    step = TrainingStep(run, folder / RESUME)
    with (
        RunRecorder(folder, run, validation_data, provenance) as recorder,
        closing(_prefetch(run.sampler, run.iteration * config.run.accumulate)) as batches,
    ):
        while True:
            started = time.perf_counter()
            spent, stop = run.ranks.synchronise(
                budget_spent(config.run, run), stop_requested(), run.device
            )
            if spent >= 1 or stop:
                break
            rate = learning_rate(config.optimiser, run.iteration, spent)
            losses = step.iterate(batches, rate)
            duration_s = time.perf_counter() - started
            run.elapsed_s += duration_s
            recorder.iteration(losses, rate, duration_s)
        return recorder.finish(stopped=spent < 1)


def learning_rate(settings: OptimiserSettings, iteration: int, spent: float) -> float:
    """Return the learning rate of an iteration.

    >>> learning_rate(OptimiserSettings(rate=0.1, schedule="cosine", warm_up=4), 0, 0.0)
    0.025

    Args:
        settings: Rate, warm-up and schedule.
        iteration: Number of the iteration, from 0.
        spent: Share of the budget, 0..1, by which the cosine falls where it has no whole number
            of iterations of its own.
    """
    rate = settings.rate * min(1.0, (iteration + 1) / max(settings.warm_up, 1))
    if settings.schedule != "cosine":
        return rate * 0.1 ** sum(iteration >= step for step in settings.steps)
    if settings.cosine_iterations is not None:
        spent = iteration / settings.cosine_iterations
    low = settings.final_rate
    return rate * (low + (1 - low) * 0.5 * (1 + math.cos(math.pi * min(spent, 1.0))))


class TrainingStep:
    """Forward, losses, backward and weight update of a run's network."""

    def __init__(self, run: TrainingRun, last_good: Path) -> None:
        """Prepare a run; `last_good` is the checkpoint to name when a loss is not finite."""
        self.run, self.settings, self.last_good = run, run.config.optimiser, last_good
        self.model = wrap_parallel(run.model, run.ranks)
        self.dtype: torch.dtype = getattr(torch, run.precision)

    def iterate(self, batches: Iterator[Batch], rate: float) -> Losses:
        """Train one iteration of `run.accumulate` batches at a learning rate.

        Returns the mean losses over the batches; raises ModelError where one is not finite.
        """
        run = self.run
        for group in run.optimiser.param_groups:
            group["lr"] = rate
        count = run.config.run.accumulate
        losses = [self.backward(next(batches), last=i == count) for i in range(1, count + 1)]
        self.update()
        if run.average is not None:
            run.average.update(run.model, run.iteration)
        run.iteration += 1
        return Losses.mean(losses)

    def backward(self, batch: Batch, *, last: bool) -> Losses:
        """Add the gradient of this rank's share of a batch to the accumulated gradients.

        last: the batch is the last of its iteration, after which the processes average gradients
        Raises ModelError where the loss is not finite.
        """
        parallel = self.model if isinstance(self.model, DistributedDataParallel) else None
        with nullcontext() if parallel is None or last else parallel.no_sync():
            total, losses = self._losses(
                batch, measured=last and is_logged(self.run.config.run, self.run.iteration + 1)
            )
            if not math.isfinite(losses.total):
                checkpoint = "no checkpoint yet"
                if self.last_good.exists():
                    checkpoint = f"the last good checkpoint is {self.last_good}"
                raise ModelError(
                    f"the loss is {losses.total} at batch {batch.number} (sequences "
                    f"{batch.rows.tolist()}); {checkpoint}. Lower optimiser.rate "
                    "or set optimiser.clip_norm, then resume"
                )
            total = total / self.run.config.run.accumulate
            self.run.scaler.scale(total).backward()  # type: ignore[no-untyped-call]
        return losses

    def update(self) -> None:
        """Update the weights by the accumulated gradients, and clear these."""
        optimiser, scaler = self.run.optimiser, self.run.scaler
        if self.settings.clip_norm:
            scaler.unscale_(optimiser)
            nn.utils.clip_grad_norm_(self.run.model.parameters(), self.settings.clip_norm)
        scaler.step(optimiser)
        scaler.update()
        optimiser.zero_grad(set_to_none=True)

    def _losses(self, batch: Batch, *, measured: bool) -> tuple[Tensor, Losses]:
        """Return the loss to minimise and all losses; `measured`: with their gradients."""
        device, settings, ranks = self.run.device, self.settings, self.run.ranks
        silhouettes = torch.from_numpy(batch.silhouettes).to(device)  # [n, s, h, w] uint8
        labels = torch.from_numpy(batch.labels).to(device)  # [n]
        n, s = silhouettes.shape[:2]
        lengths = torch.full((n,), s, dtype=torch.int32, device=device)
        with torch.autocast(device.type, self.dtype, enabled=self.dtype != torch.float32):
            outputs = self.model(silhouettes, lengths)
        triplet, values = self._triplet(outputs.embedding, labels)
        classes: list[Tensor] = []
        for name, logits, weight in (
            ("", outputs.logits, settings.class_weight),
            ("embedding_", outputs.embedding_logits, settings.embedding_class_weight),
        ):
            if logits is not None:
                entropy = cross_entropy(logits, labels, settings.class_smoothing)
                classes.append(weight * entropy)
                values[f"{name}cross_entropy"] = entropy
                values[f"{name}class_accuracy"] = class_accuracy(logits, labels)
        total = triplet + sum(classes) if classes else triplet
        gradients = {}
        if measured and classes and outputs.features is not None:
            gradients = gradients_at(outputs.features, triplet, sum(classes[1:], classes[0]), ranks)
        stacked = torch.stack([x.detach() for x in (total, *values.values())])
        mean, *means = ranks.mean(stacked).tolist()
        return total, Losses(mean, **dict(zip(values, means, strict=True)), **gradients)

    def _triplet(self, embedding: Tensor, labels: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the weighted triplet losses of the embeddings of all processes, and figures."""
        settings = self.settings
        gathered = gather_batch(embedding), gather_batch(labels)
        margin, self_pairs = settings.margin, settings.self_pairs
        triplet, nonzero = triplet_loss(*gathered, margin=margin, self_pairs=self_pairs)
        total = settings.triplet_weight * triplet
        if settings.joint_weight:
            joint, _ = triplet_loss(*gathered, margin=margin, self_pairs=self_pairs, joint=True)
            total = total + settings.joint_weight * joint
        return total, {"triplet": triplet, "nonzero": nonzero}


def gradients_at(
    features: Tensor, triplet: Tensor, classes: Tensor, ranks: Ranks
) -> dict[str, float]:
    """Return the gradients that two losses send into the trunk: their norms, and their cosine.

    They are taken at the trunk's output, the part features: one more pass through the head alone.

    Args:
        features: Part features of the losses' graph; without a gradient there is nothing to tell.
        triplet: Weighted triplet loss.
        classes: Weighted cross-entropies.
        ranks: Processes that share the batch.
    """
    if not features.requires_grad:
        return {}
    pulls = []
    for loss in (triplet, classes):
        (pull,) = torch.autograd.grad(loss, features, retain_graph=True, allow_unused=True)
        pulls.append(torch.zeros_like(features) if pull is None else pull)
    one, two = pulls
    products = torch.stack([(x * y).sum() for x, y in ((one, one), (two, two), (one, two))])
    first, second, both = (ranks.mean(products) / ranks.count).tolist()
    norms = math.sqrt(first), math.sqrt(second)
    cosine = both / (norms[0] * norms[1]) if all(norms) else 0.0
    return dict(zip(GRADIENTS, (*norms, cosine), strict=True))


def _start_or_resume(
    config: TrainConfig,
    data: Sequences,
    folder: Path,
    resume: bool,
    initial_weights: str | Path | None,
) -> TrainingRun:
    """Return a run at iteration 0, or where it was saved."""
    run = start_run(config, data)
    if resume:
        load_run(folder / RESUME, run)
    elif initial_weights is not None:
        load_initial_weights(run, initial_weights)
    elif config.optimiser.frozen_layers:
        raise ConfigError("optimiser.frozen_layers keep trained weights: say from which to start")
    return run


def _prefetch(sampler: Sampler, number: int) -> Generator[Batch, None, None]:
    """Yield the batches from `number` on, each drawn while the one before is computed."""
    with ThreadPoolExecutor(1, "batches") as pool:
        next_batch = pool.submit(sampler.batch, number)
        while True:
            batch = next_batch.result()
            next_batch = pool.submit(sampler.batch, batch.number + 1)
            yield batch
