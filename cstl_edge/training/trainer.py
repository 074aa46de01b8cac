"""Training of CSTL: one visible loop, and what it takes to go on exactly where a run was killed.

Files of a run folder: `resume.safetensors` (weights, optimiser, moving average, sampler, random
state), `weights.safetensors` (what inference needs, rounded to float16, written with it),
`best.safetensors` (likewise, of the best evaluation) and `log.jsonl`. On one machine with one
number of threads a resumed run ends bit-equal to one that never stopped. Under torchrun every
process runs this loop and the first one writes. Letters: `n` sequences, `s` frames, `p` parts.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

from cstl_edge.data.sampling import Batch, Sampler, Sequences
from cstl_edge.data.splits import Labelled
from cstl_edge.errors import ConfigError
from cstl_edge.training.begin import start_from, start_run
from cstl_edge.training.checkpoint import refuse_nonfinite, save_checkpoint
from cstl_edge.training.evaluating import evaluate
from cstl_edge.training.journal import Journal
from cstl_edge.training.resume import RESUME, Run, load_run, save_run
from cstl_edge.training.settings import OptimiserSettings, RunSettings, TrainConfig
from cstl_edge.training.step import Losses, Step

logger = logging.getLogger(__name__)

WEIGHTS, BEST = "weights.safetensors", "best.safetensors"


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
    run = start_run(config, data)
    if resume:
        load_run(folder / RESUME, run)
    elif first is not None:
        start_from(run, first)
    elif config.optimiser.frozen_layers:
        raise ConfigError("optimiser.frozen_layers keep trained weights: say from which to start")
    step, due = Step(run, folder / RESUME), _Due(run, test)
    speaks = run.ranks.first
    with (
        Journal(folder, speaks=speaks, tensorboard=settings.tensorboard) as journal,
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
            if run.iteration % settings.log_every == 0 or run.iteration == 1:
                _log(journal, run, Losses.mean(losses), rate, took_s)
            if speaks and due.evaluation():
                _evaluate(folder, run, due, journal, about)
            if speaks and due.checkpoint():
                checkpoint(folder, run, about)
        if speaks and done >= 1 and due.last_evaluation():
            _evaluate(folder, run, due, journal, about)
    return checkpoint(folder, run, about) if speaks else folder / WEIGHTS


def checkpoint(folder: Path, run: Run, about: dict[str, Any] | None = None) -> Path:
    """Write the resume file and the weights of a run; return the path of the weights."""
    refuse_nonfinite(run.inference_state(), f"iteration {run.iteration}")
    save_run(folder / RESUME, run)
    _save_weights(folder / WEIGHTS, run, about)
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


class _Due:
    """When to write a checkpoint and when to evaluate, by iterations or minutes of training."""

    def __init__(self, run: Run, test: Labelled | None) -> None:
        self.run, self.settings, self.test = run, run.config.evaluate, test
        if (self.settings is None) != (test is None):
            raise ConfigError(
                "expected an `evaluate` section and people to evaluate on, or neither"
            )
        self._saved_s = self._evaluated_s = run.elapsed_s
        self._evaluated = run.iteration

    def checkpoint(self) -> bool:
        if self.run.elapsed_s - self._saved_s < 60 * self.run.config.run.checkpoint_minutes:
            return False
        self._saved_s = self.run.elapsed_s
        return True

    def evaluation(self) -> bool:
        if self.settings is None:
            return False
        if self.settings.every is not None:
            return self.run.iteration % self.settings.every == 0
        assert self.settings.minutes is not None
        return self.run.elapsed_s - self._evaluated_s >= 60 * self.settings.minutes

    def last_evaluation(self) -> bool:
        """Whether the end of the run still has to be evaluated."""
        return self.settings is not None and self._evaluated < self.run.iteration

    def evaluated(self) -> None:
        self._evaluated, self._evaluated_s = self.run.iteration, self.run.elapsed_s


def _ahead(sampler: Sampler, number: int) -> Generator[Batch, None, None]:
    """Yield the batches from `number` on, each made while the one before is computed."""
    with ThreadPoolExecutor(1, "batches") as pool:
        coming = pool.submit(sampler.batch, number)
        while True:
            batch = coming.result()
            coming = pool.submit(sampler.batch, batch.number + 1)
            yield batch


def _evaluate(
    folder: Path, run: Run, due: _Due, journal: Journal, about: dict[str, Any] | None
) -> None:
    """Log an evaluation; keep the weights apart when they are the best so far."""
    assert due.test is not None
    record = evaluate(run, due.test)
    due.evaluated()
    journal.evaluation(record)
    if run.best is None or record["rank1"] > run.best["rank1"]:
        run.best = record
        _save_weights(folder / BEST, run, {**(about or {}), "evaluation": record})


def _save_weights(path: Path, run: Run, about: dict[str, Any] | None) -> None:
    training = {
        **(about or {}),
        **({"first": run.first} if run.first else {}),
        "iterations": run.iteration,
        "minutes": round(run.elapsed_s / 60, 1),
        "people": len(run.sampler.ids),
        "configuration": run.config.model_dump(mode="json"),
    }
    save_checkpoint(path, run.model, training, weights=run.inference_state(), half=True)


def _log(journal: Journal, run: Run, losses: Losses, rate: float, took_s: float) -> None:
    done = progress(run.config.run, run)
    record = {
        "iteration": run.iteration,
        "loss": round(losses.total, 5),
        "triplet": round(losses.triplet, 5),
        "cross_entropy": None if losses.classes is None else round(losses.classes, 5),
        "nonzero": round(losses.nonzero, 4),
        "rate": float(f"{rate:.3g}"),
        "iteration_ms": round(1000 * took_s, 1),
        "elapsed_s": round(run.elapsed_s, 1),
        "left_s": round(max(0.0, run.elapsed_s * (1 - done) / done), 1),
    }
    journal.iteration(record, done)
