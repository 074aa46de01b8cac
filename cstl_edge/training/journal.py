"""What a run says of itself: JSON lines, a bar or log lines with the time left, TensorBoard."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from cstl_edge.errors import ConfigError, ModelError, one_line
from cstl_edge.measure import append_jsonl

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
