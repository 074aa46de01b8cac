"""What a run leaves in its folder and when: log, evaluations, checkpoints, the best weights."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from cstl_edge.checkpoint.weights import refuse_nonfinite, save_checkpoint
from cstl_edge.data.splits import Labelled
from cstl_edge.errors import ConfigError, ModelError, one_line
from cstl_edge.measure.stats import append_jsonl
from cstl_edge.training.losses import Losses
from cstl_edge.training.run_state import RESUME, Run, save_run
from cstl_edge.training.settings import RunSettings
from cstl_edge.training.validation import evaluate

if TYPE_CHECKING:
    from rich.progress import Progress


logger = logging.getLogger(__name__)

LOG, TENSORBOARD = "log.jsonl", "tensorboard"
Record = Mapping[str, Any]


class Journal:
    """The log of a run, to be used as a context; silent when `speaks` is false."""

    def __init__(self, folder: Path, *, speaks: bool = True, tensorboard: bool = False) -> None:
        """Write into a run's folder.

        speaks: false in all processes but the first
        Raises ConfigError when TensorBoard is wanted and not installed.
        """
        self.folder, self.speaks = folder, speaks
        self._bar = _bar() if speaks else None
        self._task = self._bar.add_task("training", total=1.0) if self._bar else None
        self._board = _board(folder / TENSORBOARD) if speaks and tensorboard else None

    def __enter__(self) -> Journal:
        if self._bar:
            self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        err: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._bar:
            self._bar.stop()
        if self._board:
            self._board.close()

    def iteration(self, record: Record, done: float) -> None:
        """Log an iteration; `done` is the share of the budget, 0..1."""
        self._write(record, "")
        text = "iteration {iteration}: loss {loss:.4f}, triplets above zero {nonzero:.3f}, "
        text = text.format_map(record) + f"{record['iteration_ms']:.0f} ms"
        if self._bar and self._task is not None:
            self._bar.update(self._task, completed=min(done, 1.0), description=text)
        elif self.speaks:
            logger.info("%s, %s left", text, _time(record["left_s"]))

    def evaluation(self, record: Record) -> None:
        """Log an evaluation."""
        self._write(record, "evaluation/")
        self.say("iteration {iteration}: rank-1 {rank1:.1%} ({protocol})".format_map(record))

    def say(self, text: str) -> None:
        """Say one line, above the bar where there is one."""
        if self._bar:
            self._bar.console.print(text, highlight=False)
        elif self.speaks:
            logger.info("%s", text)

    def _write(self, record: Record, prefix: str) -> None:
        if not self.speaks:
            return
        try:
            append_jsonl(self.folder / LOG, record)
        except OSError as err:
            raise ModelError(
                f"cannot write {one_line(self.folder / LOG)}: {one_line(err)}"
            ) from err
        if self._board:
            for key, value in record.items():
                if isinstance(value, (int, float)) and math.isfinite(value):
                    self._board.add_scalar(prefix + key, value, record["iteration"])


def _time(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60} h {minutes % 60:02d} min" if minutes >= 60 else f"{minutes}:{rest:02d}"


def _bar() -> Progress | None:
    """Return a bar of the budget on a terminal, None elsewhere."""
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        Progress,
        TaskProgressColumn,
        TextColumn,
        TimeRemainingColumn,
    )

    console = Console(stderr=True)
    if not console.is_terminal:
        return None
    columns = (BarColumn(), TaskProgressColumn(), TimeRemainingColumn(elapsed_when_finished=True))
    return Progress(TextColumn("{task.description}"), *columns, console=console)


def _board(folder: Path) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as err:
        raise ConfigError(
            "run.tensorboard needs TensorBoard, which is not installed. Add it: "
            "pip install 'cstl-edge[track]'"
        ) from err
    return SummaryWriter(str(folder))


WEIGHTS, BEST = "weights.safetensors", "best.safetensors"

About = Mapping[str, Any]


class Keeper:
    """Writes in the first process, at the times that the configuration says; a context."""

    def __init__(
        self, folder: Path, run: Run, test: Labelled | None, about: About | None = None
    ) -> None:
        """Keep a run; arguments as for `train`.

        Raises ConfigError where only one is there of an `evaluate` section and people for it.
        """
        self.folder, self.run, self.test, self.about = folder, run, test, dict(about or {})
        self.settings, self.evaluating = run.config.run, run.config.evaluate
        if (self.evaluating is None) != (test is None):
            raise ConfigError("expected an `evaluate` section and people for it, or neither")
        self.journal = Journal(
            folder, speaks=run.ranks.first, tensorboard=self.settings.tensorboard
        )
        self._saved_s = self._evaluated_s = run.elapsed_s
        self._evaluated = run.iteration

    def __enter__(self) -> Keeper:
        self.journal.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        err: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.journal.__exit__(kind, err, trace)

    def iteration(self, losses: Losses, rate: float, took_s: float) -> None:
        """Log an iteration that is done, evaluate and save, each when it is time."""
        run = self.run
        if not run.ranks.first:
            return
        if run.iteration % self.settings.log_every == 0 or run.iteration == 1:
            self._log(losses, rate, took_s)
        if self._evaluation_is_due():
            self.evaluate()
        if run.elapsed_s - self._saved_s >= 60 * self.settings.checkpoint_minutes:
            self.checkpoint()
            self._saved_s = run.elapsed_s

    def end(self, *, stopped: bool) -> Path:
        """Evaluate once more, unless the run was stopped; save; return the path of the weights."""
        if self.run.ranks.first:
            if self.evaluating and not stopped and self._evaluated < self.run.iteration:
                self.evaluate()
            self.checkpoint()
        return self.folder / WEIGHTS

    def evaluate(self) -> None:
        """Log an evaluation; keep the weights apart when they are the best so far."""
        assert self.test is not None
        record = evaluate(self.run, self.test)
        self._evaluated, self._evaluated_s = self.run.iteration, self.run.elapsed_s
        self.journal.evaluation(record)
        if self.run.best is None or record["rank1"] > self.run.best["rank1"]:
            self.run.best = record
            _save_weights(self.folder / BEST, self.run, {**self.about, "evaluation": record})

    def checkpoint(self) -> None:
        """Write the resume file and the weights."""
        checkpoint(self.folder, self.run, self.about)
        self.journal.say(f"iteration {self.run.iteration}: checkpoint written to {self.folder}")

    def _evaluation_is_due(self) -> bool:
        if self.evaluating is None:
            return False
        if self.evaluating.every is not None:
            return self.run.iteration % self.evaluating.every == 0
        assert self.evaluating.minutes is not None
        return self.run.elapsed_s - self._evaluated_s >= 60 * self.evaluating.minutes

    def _log(self, losses: Losses, rate: float, took_s: float) -> None:
        run, done = self.run, progress(self.settings, self.run)
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
        self.journal.iteration(record, done)


def checkpoint(folder: Path, run: Run, about: About | None = None) -> None:
    """Write the resume file and the weights of a run; ModelError when the weights are spoilt."""
    refuse_nonfinite(run.inference_state(), f"iteration {run.iteration}")
    save_run(folder / RESUME, run)
    _save_weights(folder / WEIGHTS, run, about or {})


def progress(settings: RunSettings, run: Run) -> float:
    """Return the share of the budget that is spent, 1 or more when the run is over."""
    spent = []
    if settings.iterations is not None:
        spent.append(run.iteration / settings.iterations)
    if settings.minutes is not None:
        spent.append(run.elapsed_s / (60 * settings.minutes))
    return max(spent)


def _save_weights(path: Path, run: Run, about: About) -> None:
    training = {
        **about,
        **({"first": run.first} if run.first else {}),
        "iterations": run.iteration,
        "minutes": round(run.elapsed_s / 60, 1),
        "people": len(run.sampler.ids),
        "configuration": run.config.model_dump(mode="json"),
    }
    save_checkpoint(path, run.model, training, weights=run.inference_state(), half=True)
