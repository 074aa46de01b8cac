"""Power meters: their protocol, a recorder that reads one many times a second, its recordings."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

import numpy as np

from cstl_edge.errors import CstlEdgeError, DataError, SourceUnavailable, one_line

HZ = 100.0
"""Readings per second that are tried; a board's bus may give fewer: the row has their number."""
LOWEST_HZ = 50.0  # with fewer, a meter of power misses what happens within an embedding


class Meter(Protocol):
    """Source of power or energy of the parts of a machine, its rails."""

    @property
    def name(self) -> str:
        """Return its name, for the row."""

    @property
    def kind(self) -> Literal["watts", "joules"]:
        """Return the kind of its readings: power now, or energy since some beginning."""

    @property
    def scopes(self) -> Mapping[str, Sequence[str]]:
        """Return the rails that sum up to each of `module`, `gpu`, ..."""

    def read(self) -> dict[str, float]:
        """Return the value of every rail [W or J] (SourceUnavailable, DataError)."""

    def close(self) -> None:
        """Release its handles and files."""


@dataclass(frozen=True)
class PowerRecording:
    """Readings in the order of time, from the beginning to the end of a measurement."""

    kind: Literal["watts", "joules"]
    times_s: list[float]
    rails: dict[str, list[float]]

    @property
    def seconds(self) -> float:
        """Return its duration."""
        return self.times_s[-1] - self.times_s[0]

    @property
    def hz(self) -> float:
        """Return the readings per second as they really were."""
        return (len(self.times_s) - 1) / self.seconds

    def joules(self, rails: Sequence[str]) -> float:
        """Return the energy of rails: counted by counters, or power integrated by trapezoids."""
        return sum(self._joules(self.rails[name]) for name in rails)

    def watts(self, rails: Sequence[str]) -> float:
        """Return the mean power of rails."""
        return self.joules(rails) / self.seconds

    def negative(self) -> list[str]:
        """Return the rails that gave negative power on the whole."""
        return [name for name in self.rails if self.joules([name]) < 0]

    def between(self, start_s: float, end_s: float) -> PowerRecording:
        """Return the part of it between two times, with the values there interpolated."""
        times_s = [start_s, *(t for t in self.times_s if start_s < t < end_s), end_s]
        rails = {
            name: np.interp(times_s, self.times_s, values).tolist()
            for name, values in self.rails.items()
        }
        return PowerRecording(self.kind, times_s, rails)

    def _joules(self, values: Sequence[float]) -> float:
        if self.kind == "joules":
            return values[-1] - values[0]
        steps = zip(self.times_s, self.times_s[1:], values, values[1:], strict=False)
        return sum((end - start) * (a + b) / 2 for start, end, a, b in steps)


class MeterRecorder:
    """Context manager that reads a meter in a thread while its block runs.

    A meter that fails ends the recording, not the block: `recording` raises its error.
    """

    def __init__(self, meter: Meter, hz: float = HZ) -> None:
        self._meter, self._period_s = meter, 1 / hz
        self._times: list[float] = []
        self._rails: dict[str, list[float]] = {}
        self._failure: CstlEdgeError | None = None
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._run, name="power meter", daemon=True)

    def __enter__(self) -> MeterRecorder:
        self._take()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()
        self._take()

    def recording(self) -> PowerRecording:
        """Return the readings (SourceUnavailable, DataError)."""
        if self._failure is not None:
            raise self._failure
        return PowerRecording(self._meter.kind, self._times, self._rails)

    def _run(self) -> None:
        due = self._times[0] if self._times else time.perf_counter()
        while self._failure is None:
            due = max(due + self._period_s, time.perf_counter())  # missed readings are not made up
            if self._done.wait(max(0.0, due - time.perf_counter())):
                break
            self._take()

    def _take(self) -> None:
        """Take one reading, dated in the middle of it: a bus takes milliseconds to answer."""
        if self._failure is not None:
            return
        start = time.perf_counter()
        try:
            reading = self._meter.read()
        except CstlEdgeError as err:
            self._failure = err
            return
        self._times.append((start + time.perf_counter()) / 2)
        for name, value in reading.items():
            self._rails.setdefault(name, []).append(value)


def read_number(path: Path, raw: bytes) -> int:
    """Return the whole number in a file of the kernel (DataError)."""
    try:
        return int(raw.decode("ascii").strip())
    except ValueError as err:
        raise DataError(
            f"{path}: expected a whole number; got {one_line(raw, 40)}: the meter is not used"
        ) from err


def meter_lost(name: str, err: OSError) -> SourceUnavailable:
    """Return the error of a meter that does not answer, or not any more."""
    reason = one_line(err.strerror or err)
    return SourceUnavailable(f"{name} does not answer ({reason}): run `power` again")
