"""Run recorder: writes the log, validations, checkpoints and best weights of a run's folder.

`RunLog` writes lines (JSON, a progress bar or log lines with the time left, TensorBoard);
`RunRecorder` decides when to log, validate and save.
"""

from __future__ import annotations

import logging
import math
from collections import deque
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

from cstl_edge.checkpoint.weights import refuse_nonfinite, save_checkpoint
from cstl_edge.data.splits import LabelledSequences
from cstl_edge.errors import ConfigError
from cstl_edge.extras import missing_package
from cstl_edge.output import append_line
from cstl_edge.training.losses import Losses
from cstl_edge.training.run_state import BEST, RESUME, WEIGHTS, TrainingRun, save_run
from cstl_edge.training.settings import RunSettings
from cstl_edge.training.validation import validate

if TYPE_CHECKING:
    from rich.progress import Progress

logger = logging.getLogger(__name__)

LOG, TENSORBOARD = "log.jsonl", "tensorboard"  # in a run's folder


class RunLog:
    """Log of a run, to be used as a context; writes nothing when it is not enabled."""

    def __init__(self, folder: Path, *, enabled: bool = True, tensorboard: bool = False) -> None:
        """Open the log of a run's folder.

        Args:
            folder: Folder of the run.
            enabled: True in the first process alone.
            tensorboard: True to write the numbers for TensorBoard too.

        Raises:
            ConfigError: TensorBoard is wanted and not installed.
        """
        self.folder, self.enabled = folder, enabled
        self._bar = _progress_bar() if enabled else None
        self._task = self._bar.add_task("training", total=1.0) if self._bar else None
        self._board = _summary_writer(folder / TENSORBOARD) if enabled and tensorboard else None

    def __enter__(self) -> RunLog:
        if self._bar:
            self._bar.start()
        return self

    def __exit__(self, *err: object) -> None:
        if self._bar:
            self._bar.stop()
        if self._board:
            self._board.close()

    def iteration(self, record: Mapping[str, Any], spent: float) -> None:
        """Log an iteration; `spent` is the share of the budget, 0..1."""
        self._write(record, "")
        text = "iteration {iteration}: loss {loss:.4f}, triplets above zero {nonzero:.3f}, "
        text = text.format_map(record) + f"{record['iteration_ms']:.0f} ms"
        if self._bar and self._task is not None:
            self._bar.update(self._task, completed=min(spent, 1.0), description=text)
        elif self.enabled:
            logger.info("%s, %s left", text, _duration(record["left_s"]))

    def validation(self, record: Mapping[str, Any]) -> None:
        """Log a validation."""
        self._write(record, "evaluation/")
        self.message("iteration {iteration}: rank-1 {rank1:.1%} ({protocol})".format_map(record))

    def message(self, text: str) -> None:
        """Print one line, above the bar where there is one."""
        if self._bar:
            self._bar.console.print(text, highlight=False)
        elif self.enabled:
            logger.info("%s", text)

    def _write(self, record: Mapping[str, Any], prefix: str) -> None:
        if not self.enabled:
            return
        append_line(self.folder / LOG, record)
        if self._board:
            for key, value in record.items():
                if isinstance(value, (int, float)) and math.isfinite(value):
                    self._board.add_scalar(prefix + key, value, record["iteration"])


class RunRecorder:
    """Records a run in its first process, at the intervals of its configuration; a context."""

    def __init__(
        self,
        folder: Path,
        run: TrainingRun,
        validation_data: LabelledSequences | None,
        provenance: Mapping[str, Any] | None = None,
    ) -> None:
        """Record a run.

        Args:
            folder: Folder of the run.
            run: Run to record, between two iterations.
            validation_data: People to validate on, as the `evaluate` section says.
            provenance: Origin of the weights, for their header.

        Raises:
            ConfigError: Only one is given of an `evaluate` section and people for it.
        """
        self.folder, self.run, self.validation_data = folder, run, validation_data
        self.provenance = provenance or {}
        self.settings, self.validation = run.config.run, run.config.evaluate
        if (self.validation is None) != (validation_data is None):
            raise ConfigError("expected an `evaluate` section and people for it, or neither")
        self.log = RunLog(folder, enabled=run.ranks.is_first, tensorboard=self.settings.tensorboard)
        self._balance = GradientBalance()
        self._saved_s = self._validated_s = run.elapsed_s
        self._validated_iteration = run.iteration

    def __enter__(self) -> RunRecorder:
        self.log.__enter__()
        return self

    def __exit__(self, *err: object) -> None:
        self.log.__exit__(*err)

    def iteration(self, losses: Losses, rate: float, duration_s: float) -> None:
        """Log a finished iteration; validate and save where the interval is over.

        Args:
            losses: Means over the batches of the iteration.
            rate: Learning rate of the iteration.
            duration_s: Duration of the iteration [s].
        """
        run = self.run
        if not run.ranks.is_first:
            return
        if is_logged(self.settings, run.iteration):
            spent = budget_spent(self.settings, run)
            figures = {k: x if x is None else round(x, 5) for k, x in asdict(losses).items()}
            record = {
                "iteration": run.iteration,
                "loss": figures.pop("total"),
                **figures,
                "rate": float(f"{rate:.3g}"),
                "iteration_ms": round(1000 * duration_s, 1),
                "elapsed_s": round(run.elapsed_s, 1),
                "left_s": round(max(0.0, run.elapsed_s * (1 - spent) / spent), 1),
            }
            self.log.iteration(record, spent)
            run.last = {"iteration": run.iteration, **figures}
            if warning := self._balance.add(losses):
                self.log.message(f"iteration {run.iteration}: {warning}")
        if self._validation_is_due():
            self.validate()
        if run.elapsed_s - self._saved_s >= 60 * self.settings.checkpoint_minutes:
            self.checkpoint()
            self._saved_s = run.elapsed_s

    def finish(self, *, stopped: bool) -> Path:
        """Validate once more, unless the run was stopped; save; return the path of the weights."""
        if self.run.ranks.is_first:
            if self.validation and not stopped and self._validated_iteration < self.run.iteration:
                self.validate()
            self.checkpoint()
        return self.folder / WEIGHTS

    def validate(self) -> None:
        """Log a validation; save the weights apart when they are the best so far."""
        assert self.validation_data is not None
        record = validate(self.run, self.validation_data)
        self._validated_iteration, self._validated_s = self.run.iteration, self.run.elapsed_s
        self.log.validation(record)
        if self.run.best is None or record["rank1"] > self.run.best["rank1"]:
            self.run.best = record
            _save_weights(self.folder / BEST, self.run, {**self.provenance, "evaluation": record})

    def checkpoint(self) -> None:
        """Write the resume file and the weights."""
        write_checkpoint(self.folder, self.run, self.provenance)
        self.log.message(f"iteration {self.run.iteration}: checkpoint written to {self.folder}")

    def _validation_is_due(self) -> bool:
        if self.validation is None:
            return False
        if self.validation.every is not None:
            return self.run.iteration % self.validation.every == 0
        assert self.validation.minutes is not None
        return self.run.elapsed_s - self._validated_s >= 60 * self.validation.minutes


class GradientBalance:
    """Watch over the gradients of two losses at the trunk; warn once when one drowns the other."""

    def __init__(self, logged: int = 10, limit: float = 2.0) -> None:
        """Judge by the mean of so many records; `limit`: largest norm over the smaller one."""
        self.limit = limit
        self._norms: deque[tuple[float, float]] = deque(maxlen=logged)
        self._warned = False

    def add(self, losses: Losses) -> str | None:
        """Add a record; return a warning, or None when there is none (any more)."""
        if losses.gradient_triplet is None or losses.gradient_class is None:
            return None
        self._norms.append((losses.gradient_triplet, losses.gradient_class))
        triplet, classes = (fmean(norms) for norms in zip(*self._norms, strict=True))
        full = len(self._norms) == self._norms.maxlen
        if self._warned or not full or max(triplet, classes) <= self.limit * min(triplet, classes):
            return None
        self._warned = True
        names = ("triplet loss", "class loss")
        larger, smaller = names if triplet > classes else names[::-1]
        times = max(triplet, classes) / max(min(triplet, classes), 1e-12)
        return (
            f"the {larger} sends {times:.1f} times the gradient of the {smaller} into the trunk "
            f"(mean of the last {len(self._norms)} records); change optimiser.class_weight or "
            "optimiser.embedding_class_weight"
        )


def write_checkpoint(
    folder: Path, run: TrainingRun, provenance: Mapping[str, Any] | None = None
) -> None:
    """Write the resume file and the weights of a run.

    Args:
        folder: Folder of the run.
        run: Run to save, between two iterations.
        provenance: Origin of the weights, for their header.

    Raises:
        ModelError: The weights hold NaN or infinity, or the disk refuses; the last checkpoint is
            then still there.
    """
    refuse_nonfinite(run.inference_state(), f"iteration {run.iteration}")
    save_run(folder / RESUME, run)
    _save_weights(folder / WEIGHTS, run, provenance or {})


def is_logged(settings: RunSettings, iteration: int) -> bool:
    """Return whether an iteration, counted from 1, has a line in the log."""
    return iteration % settings.log_every == 0 or iteration == 1


def budget_spent(settings: RunSettings, run: TrainingRun) -> float:
    """Return the share of the budget that is spent, 1 or more when the run is over."""
    shares = []
    if settings.iterations is not None:
        shares.append(run.iteration / settings.iterations)
    if settings.minutes is not None:
        shares.append(run.elapsed_s / (60 * settings.minutes))
    return max(shares)


def _save_weights(path: Path, run: TrainingRun, header: Mapping[str, object]) -> None:
    """Write the weights for inference, rounded to float16, with their origin in the header."""
    training = {
        **header,
        **({"first": run.initial} if run.initial else {}),
        "iterations": run.iteration,
        "minutes": round(run.elapsed_s / 60, 1),
        "people": len(run.sampler.ids),
        "precision": run.precision,
        **({"last": run.last} if run.last else {}),
        "configuration": run.config.model_dump(mode="json"),
    }
    save_checkpoint(path, run.model, training, weights=run.inference_state(), half=True)


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60} h {minutes % 60:02d} min" if minutes >= 60 else f"{minutes}:{rest:02d}"


def _progress_bar() -> Progress | None:
    """Return a bar of the budget on a terminal, None elsewhere."""
    from rich import progress
    from rich.console import Console

    console = Console(stderr=True)
    if not console.is_terminal:
        return None
    text, bar = progress.TextColumn("{task.description}"), progress.BarColumn()
    left = progress.TimeRemainingColumn(elapsed_when_finished=True)
    return progress.Progress(text, bar, progress.TaskProgressColumn(), left, console=console)


def _summary_writer(folder: Path) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as err:
        raise missing_package("run.tensorboard needs TensorBoard", "track") from err
    return SummaryWriter(str(folder))
