"""Timer of one call, or of several interleaved: raw samples in order, with the machine's state.

Warm-up is apart. Samples are taken in stretches of TURN_S. After each stretch the monitor reports
whether the machine throttled; if so the stretch is dropped, counted, and the machine given a moment
to cool. Nothing else is left out. `wall` is the time of the call on a monotonic clock; stages that
the call returns (`device`, `h2d`, `compute`, `d2h`, `enqueue`) are kept beside it by name.

Paced, a call waits for the next tick of a camera. `late` is how long after its tick it began; a
tick that passed while a call still ran is no sample and is counted as dropped: `missed`.
"""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from cstl_edge.measure.conditions import host_monitor
from cstl_edge.measure.warnings import measurement_warnings

TURN_S = 0.1
COOL_S = 0.5

Stages = Mapping[str, float]
"""Milliseconds by stage that the device itself timed: device, h2d, compute, d2h, enqueue."""
Run = Callable[[], Stages | None]
Inspect = Callable[[], None]


class ConditionMonitor(Protocol):
    """Source of the machine's state; `conditions.MachineMonitor` is one."""

    def begin(self) -> None:
        """Read the state before a measurement."""

    def end(self) -> dict[str, Any]:
        """Return the state before and after, and what happened in between."""

    def throttled(self, device: bool) -> bool:
        """Tell whether the machine throttled since the last call; `device`: its GPU too."""


@dataclass(frozen=True)
class Timing:
    """Raw samples of one call. Holds no summary: `stats.summary` makes one."""

    samples: dict[str, list[float]]
    """Milliseconds: `wall` always, `late` where paced, the stages that the call returned. `wall`
    is empty where the machine throttled all the time."""
    dropped: dict[str, int] = field(default_factory=dict)
    """Samples that do not count: `throttled`, `missed`."""
    warnings: list[str] = field(default_factory=list)
    """Reasons why figures from these samples may be unreliable (`measurement_warnings`)."""
    conditions: dict[str, Any] = field(default_factory=dict)
    """The machine before, after and in between (`measure.conditions`)."""


def measure(
    run: Run,
    *,
    warm_up_s: float,
    seconds: float,
    samples: int,
    paced_hz: float | None = None,
    inspect: Inspect | None = None,
    monitor: ConditionMonitor | None = None,
) -> Timing:
    """Time one call; `measure_interleaved` describes its options and errors.

    Args:
        run: The call; it returns the stages that a device timed, or None.
        warm_up_s: Seconds of untimed calls before the samples.
        seconds: Least total of the samples.
        samples: Least number of samples.
        paced_hz: Ticks per second; None is back to back.
        inspect: Untimed inspection of the outputs.
        monitor: Monitor of the machine (default: of this one).
    """
    timings = measure_interleaved(
        {"": run}, warm_up_s=warm_up_s, seconds=seconds, samples=samples, paced_hz=paced_hz,
        inspect=inspect, monitor=monitor,
    )  # fmt: skip
    return timings[""]


def measure_interleaved(
    runs: Mapping[str, Run],
    *,
    warm_up_s: float,
    seconds: float,
    samples: int,
    paced_hz: float | None = None,
    inspect: Inspect | Mapping[str, Inspect] | None = None,
    monitor: ConditionMonitor | None = None,
) -> dict[str, Timing]:
    """Time several calls round robin, so that their ratios share the conditions.

    Each gets a part of its time and count per turn, all the same number of turns. A turn begins
    with one untimed call, since the caches hold another call's data; a call that itself takes
    TURN_S needs none.

    Args:
        runs: Calls by name; each returns the stages that a device timed, or None.
        warm_up_s: Seconds of untimed calls before, for each; one call at least.
        seconds: Least total of the samples that count, for each, rests between ticks included,
            warm-up and inspection not.
        samples: Least number of samples of each.
        paced_hz: Ticks per second; None is back to back.
        inspect: Inspection, untimed, after the first sample, and after others as long as all
            inspections together took no more time than all samples; one per call, or one for all.
        monitor: Monitor of the machine (default: of this one).

    Raises:
        ValueError: for numbers that cannot be meant; and whatever a call and `inspect` raise.
    """
    _require(samples > 0 and seconds >= 0 and warm_up_s >= 0, "samples > 0 and seconds >= 0")
    _require(paced_hz is None or paced_hz > 0, "paced_hz > 0")
    monitor = host_monitor() if monitor is None else monitor
    inspectors = inspect if isinstance(inspect, Mapping) else dict.fromkeys(runs, inspect)
    patience_ns = 1e9 * (1 + 3 * seconds)
    timers = {
        x: _Timer(run, monitor, paced_hz, inspectors.get(x), patience_ns) for x, run in runs.items()
    }
    for timer in timers.values():
        timer.warm_up(warm_up_s)
    monitor.begin()
    turns = max(1, min(samples, int(seconds / TURN_S)))
    for turn in range(1, turns + 1):
        for timer in timers.values():
            if len(timers) > 1:
                timer.refresh()
            timer.sample_until(seconds * turn / turns, math.ceil(samples * turn / turns))
    conditions = monitor.end()
    return {name: timer.timing(conditions) for name, timer in timers.items()}


def _require(holds: bool, expected: str) -> None:
    if not holds:
        raise ValueError(f"expected {expected}")


class _Ticks:
    """Ticks of a camera, or none."""

    def __init__(self, hz: float | None) -> None:
        self.period_ns = 0 if hz is None else round(1e9 / hz)
        self._due_ns: int | None = None

    def restart(self) -> None:
        """Begin anew: the next tick is a whole period away, so that every call follows a rest."""
        self._due_ns = None

    def wait(self) -> tuple[float, int]:
        """Sleep until the next tick; return how late it is [ms], and how many ticks were missed."""
        now = time.perf_counter_ns()
        due = (now if self._due_ns is None else self._due_ns) + self.period_ns
        missed = max(0, (now - due) // self.period_ns)
        self._due_ns = due + missed * self.period_ns
        time.sleep(max(0, self._due_ns - now) / 1e9)
        return (time.perf_counter_ns() - self._due_ns) / 1e6, missed


@dataclass
class _Timer:
    """Samples of one call while it is being measured."""

    run: Run
    monitor: ConditionMonitor
    paced_hz: float | None
    inspect: Inspect | None
    patience_ns: float
    samples: dict[str, list[float]] = field(default_factory=lambda: {"wall": []})
    dropped: Counter[str] = field(default_factory=Counter)
    call_ns: int = 0  # of the last untimed call
    spent_ns: int = 0
    inspecting_ns: int = 0

    def __post_init__(self) -> None:
        self.ticks = _Ticks(self.paced_hz)

    def warm_up(self, seconds: float) -> None:
        """Call untimed for `seconds`, once at least."""
        end = time.perf_counter_ns() + seconds * 1e9
        while True:
            self._untimed()
            if time.perf_counter_ns() >= end:
                return

    def refresh(self) -> None:
        """Refill the caches after another call's turn."""
        if self.call_ns < TURN_S * 1e9:
            self._untimed()
        self.ticks.restart()

    def sample_until(self, seconds: float, count: int) -> None:
        """Take samples until all of them are `seconds` and `count`, or patience ends."""
        self.monitor.throttled(False)  # heat of another call's turn does not count here
        spent_ns = round(seconds * 1e9)
        while self.patience_ns > 0 and not self._enough(0, 0, spent_ns, count):
            started = time.perf_counter_ns()
            samples, stretch_ns = self._stretch(spent_ns, count)
            if self.monitor.throttled("device" in samples or "compute" in samples):
                self.dropped["throttled"] += len(samples["wall"])
                time.sleep(COOL_S)
                self.ticks.restart()
                self.patience_ns -= time.perf_counter_ns() - started
                continue
            self.spent_ns += stretch_ns
            for stage, values in samples.items():
                self.samples.setdefault(stage, []).extend(values)

    def timing(self, conditions: dict[str, Any]) -> Timing:
        """Return all samples with their warnings."""
        dropped = dict(self.dropped)
        warnings = measurement_warnings(self.samples, dropped, conditions, paced_hz=self.paced_hz)
        return Timing(self.samples, dropped, warnings, conditions)

    def _untimed(self) -> None:
        start = time.perf_counter_ns()
        self.run()
        self.call_ns = time.perf_counter_ns() - start

    def _enough(self, more_ns: int, more: int, spent_ns: int, count: int) -> bool:
        """Tell whether the samples, and as many more, are long and many enough."""
        return self.spent_ns + more_ns >= spent_ns and len(self.samples["wall"]) + more >= count

    def _stretch(self, spent_ns: int, count: int) -> tuple[dict[str, list[float]], int]:
        """Take samples for TURN_S, or until there are enough; return them and their time [ns]."""
        samples: dict[str, list[float]] = {"wall": []}
        stretch_ns = 0
        while True:
            began = time.perf_counter_ns()
            self._sample(samples)
            stretch_ns += time.perf_counter_ns() - began
            self._inspect(self.spent_ns + stretch_ns)
            enough = self._enough(stretch_ns, len(samples["wall"]), spent_ns, count)
            if enough or stretch_ns >= TURN_S * 1e9:
                return samples, stretch_ns

    def _sample(self, samples: dict[str, list[float]]) -> None:
        """Take one sample, at its tick."""
        if self.ticks.period_ns:
            late_ms, missed = self.ticks.wait()
            samples.setdefault("late", []).append(late_ms)
            self.dropped.update({"missed": missed} if missed else {})
        start = time.perf_counter_ns()
        stages = self.run()
        samples["wall"].append((time.perf_counter_ns() - start) / 1e6)
        for stage, value in (stages or {}).items():
            samples.setdefault(stage, []).append(value)

    def _inspect(self, spent_ns: int) -> None:
        """Inspect the outputs unless that took more time than the calls already."""
        if self.inspect is not None and self.inspecting_ns <= spent_ns:
            start = time.perf_counter_ns()
            self.inspect()
            self.inspecting_ns += time.perf_counter_ns() - start
