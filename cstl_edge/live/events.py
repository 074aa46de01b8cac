"""What the live path tells: one event, one JSON object, one line.

Every track that is born is closed, and every closed one carries its last word: a name, `unknown`,
or the reason why there is no answer.
"""

from __future__ import annotations

import json
import os
import time
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

from cstl_edge.errors import DataError, one_line

UNKNOWN = "unknown"
MAX_DIGITS = 4  # decimal places of numbers in the JSON

Kind = Literal["source", "backend_down", "born", "pending", "identified", "closed"]


@dataclass(frozen=True)
class Event:
    """One thing that happened.

    time_s: media time for files, the monotonic clock for live sources; monotonic_s, utc: when it
    was told. `name` is a person's, or None with `unknown` set when the gallery has nobody like
    that; with neither there is no answer, and `reason` says why. `frames` were used for the answer,
    `latency_ms` passed since the frame that gave it was read.
    """

    kind: Kind
    source: str  # without credentials
    time_s: float | None = None
    track: int | None = None
    name: str | None = None
    unknown: bool = False
    reason: str | None = None
    distance: float | None = None
    threshold: float | None = None
    runner_up: str | None = None
    margin: float | None = None
    frames: int | None = None
    latency_ms: float | None = None
    detail: str | None = None
    utc: datetime = field(default_factory=lambda: datetime.now(timezone.utc))
    monotonic_s: float = field(default_factory=time.monotonic)

    @property
    def answer(self) -> str | None:
        """The name, `unknown`, or None."""
        return self.name if self.name is not None else UNKNOWN if self.unknown else None

    def to_json(self) -> str:
        """Return one line of JSON, without what is not known."""
        record: dict[str, Any] = {
            "event": self.kind,
            "utc": self.utc.astimezone(timezone.utc).isoformat(timespec="milliseconds"),
            "monotonic_s": self.monotonic_s,
            "time_s": self.time_s,
            "source": self.source,
            "track": self.track,
            "answer": self.answer,
            "reason": self.reason,
            "distance": self.distance,
            "threshold": self.threshold,
            "runner_up": self.runner_up,
            "margin": self.margin,
            "frames": self.frames,
            "latency_ms": self.latency_ms,
            "detail": self.detail,
        }
        # a person may be called "unknown": the flag tells the two apart
        record["unknown"] = self.unknown or None
        kept = {key: _short(value) for key, value in record.items() if value is not None}
        return json.dumps(kept, ensure_ascii=False, allow_nan=False)

    def __str__(self) -> str:
        """Say it to a person, in one line."""
        who = f"track {self.track}" if self.track is not None else one_line(self.source)
        words = [who, self.kind]
        if self.answer is not None:
            words.append(f"as {one_line(self.answer)}" if self.name else UNKNOWN)
        if self.distance is not None and self.threshold is not None:
            words.append(f"(distance {self.distance:.2f}, threshold {self.threshold:.2f})")
        if self.reason is not None:
            words.append(f"- {one_line(self.reason)}")
        if self.detail is not None:
            words.append(f"({one_line(self.detail)})")
        return " ".join(words)


def _short(value: Any) -> Any:
    return round(value, MAX_DIGITS) if isinstance(value, float) else value


class JsonLines:
    """Appends events to a file, each with one write of one whole line.

    A line that an earlier process left unfinished (power went) is ended first. Use as a context
    manager.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            # O_APPEND: a whole line arrives at the end, whoever else writes
            flags = os.O_RDWR | os.O_CREAT | os.O_APPEND
            self._file = os.open(self.path, flags, 0o600)
            size = os.fstat(self._file).st_size
            if size and os.pread(self._file, 1, size - 1) != b"\n":
                os.write(self._file, b"\n")
        except OSError as err:
            raise DataError(
                f"cannot write events to {one_line(self.path)}: {err.strerror}; choose another file"
            ) from err
        self._open = True

    def write(self, event: Event) -> None:
        """Append one event; raises DataError when the disk is full, with no half line left."""
        line = (event.to_json() + "\n").encode()
        before = os.fstat(self._file).st_size
        try:
            written = os.write(self._file, line)
        except OSError as err:
            raise self._failed(err.strerror) from err
        if written < len(line):
            os.ftruncate(self._file, before)
            raise self._failed("no space left")

    def _failed(self, why: str | None) -> DataError:
        return DataError(f"cannot write events to {one_line(self.path)}: {why}; free some space")

    def close(self) -> None:
        """Close the file; may be called twice."""
        if self._open:
            self._open = False
            os.close(self._file)

    def __enter__(self) -> JsonLines:
        """Return the writer."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close the file."""
        self.close()
