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
from contextlib import closing
from pathlib import Path
from typing import Any

from cstl_edge.data.sampling import Batch, Sampler, Sequences
from cstl_edge.data.splits import Labelled
from cstl_edge.errors import ConfigError
from cstl_edge.training.begin import start_from, start_run
from cstl_edge.training.keeper import BEST, WEIGHTS, Keeper, progress
from cstl_edge.training.resume import RESUME, Run, load_run
from cstl_edge.training.settings import OptimiserSettings, TrainConfig
from cstl_edge.training.step import Losses, Step

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
