"""Times of one call, or of several in turn: raw, in order, with the machine's state around them.

Warm-up is apart. Samples are taken in stretches of TURN_S; between two stretches the machine is
asked whether it throttled, and if so the stretch is dropped, counted, and the machine given a
moment to cool. Nothing else is left out. `wall` is the time of the call on a monotonic clock; what
the call returns (`device`, `h2d`, `compute`, `d2h`, `enqueue`) is kept beside it under its name.

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

from cstl_edge.measure.conditions import here
from cstl_edge.measure.warnings import doubts

TURN_S = 0.1
COOL_S = 0.5

Stages = Mapping[str, float]
"""Milliseconds by stage that the device itself timed: device, h2d, compute, d2h, enqueue."""
Run = Callable[[], Stages | None]
Inspect = Callable[[], None]


class Observer(Protocol):
    """Who is asked about the machine; `conditions.Watch` is one."""

    def begin(self) -> None:
        """Look before a measurement."""

    def end(self) -> dict[str, Any]:
        """Return the state before and after, and what happened in between."""

    def throttled(self, device: bool) -> bool:
        """Tell whether the machine throttled since it was last asked; `device`: its GPU too."""


@dataclass(frozen=True)
class Timed:
    """What was measured. No summary: `measure.summary` makes one from the samples."""

    samples: dict[str, list[float]]
    """Milliseconds: `wall` always, `late` where paced, the stages that the call returned. `wall`
    is empty where the machine throttled all the time."""
    dropped: dict[str, int] = field(default_factory=dict)
    """Samples that do not count: `throttled`, `missed`."""
    warnings: list[str] = field(default_factory=list)
    """What the figures are in doubt for (`doubts`)."""
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
    watch: Observer | None = None,
) -> Timed:
    """Time `run` for at least `seconds` and at least `samples` calls.

    seconds:  of samples that count, rests between ticks included; not of warm-up and inspection
    paced_hz: ticks per second; None is back to back
    inspect:  called untimed after the first sample, and after others as long as all inspections
              together took no more time than all samples
    raises    ValueError for numbers that cannot be meant, and whatever `run` and `inspect` raise
    """
    looks = None if inspect is None else {"": inspect}
    return in_turn(
        {"": run},
        warm_up_s=warm_up_s,
        seconds=seconds,
        samples=samples,
        paced_hz=paced_hz,
        inspect=looks,
        watch=watch,
    )[""]


def in_turn(
    runs: Mapping[str, Run],
    *,
    warm_up_s: float,
    seconds: float,
    samples: int,
    paced_hz: float | None = None,
    inspect: Inspect | Mapping[str, Inspect] | None = None,
    watch: Observer | None = None,
) -> dict[str, Timed]:
    """Time several calls round robin, so that their ratios share the conditions (see `measure`).

    Each gets a part of its time and count per turn, all the same number of turns. A turn begins
    with one untimed call, for the caches are another's; a call that itself takes TURN_S needs none.
    inspect: by name of the run, or one for all
    """
    _must(samples > 0 and seconds >= 0 and warm_up_s >= 0, "samples > 0 and seconds >= 0")
    _must(paced_hz is None or paced_hz > 0, "paced_hz > 0")
    watch = here() if watch is None else watch
    looks = inspect if isinstance(inspect, Mapping) else dict.fromkeys(runs, inspect)
    patience_s = 1 + 3 * seconds
    takes = {x: _Take(run, watch, paced_hz, looks.get(x), patience_s) for x, run in runs.items()}
    for take in takes.values():
        take.warm_up(warm_up_s)
    watch.begin()
    turns = max(1, min(samples, int(seconds / TURN_S)))
    for turn in range(1, turns + 1):
        for take in takes.values():
            if len(takes) > 1:
                take.refresh()
            take.until(seconds * turn / turns, math.ceil(samples * turn / turns))
    conditions = watch.end()
    return {name: take.timed(conditions) for name, take in takes.items()}


def _must(holds: bool, expected: str) -> None:
    if not holds:
        raise ValueError(f"expected {expected}")


class _Pace:
    """The ticks of a camera, or none."""

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


class _Take:
    """One call that is being measured."""

    def __init__(
        self,
        run: Run,
        watch: Observer,
        paced_hz: float | None,
        inspect: Inspect | None,
        patience_s: float,
    ) -> None:
        self._run = run
        self._watch = watch
        self._paced_hz = paced_hz
        self._pace = _Pace(paced_hz)
        self._inspect = inspect
        self._patience_ns = round(patience_s * 1e9)
        self._samples: dict[str, list[float]] = {"wall": []}
        self._dropped: Counter[str] = Counter()
        self._call_ns = 0
        self._spent_ns = 0
        self._inspecting_ns = 0

    def warm_up(self, seconds: float) -> None:
        """Call untimed for `seconds`, once at least."""
        end = time.perf_counter_ns() + seconds * 1e9
        while True:
            self._untimed()
            if time.perf_counter_ns() >= end:
                return

    def refresh(self) -> None:
        """Take the caches back from another's calls."""
        if self._call_ns < TURN_S * 1e9:
            self._untimed()
        self._pace.restart()

    def until(self, seconds: float, count: int) -> None:
        """Take samples until all of them are `seconds` and `count`, or patience ends."""
        self._watch.throttled(False)  # what another's calls did is not ours
        spent_ns = round(seconds * 1e9)
        while self._patience_ns > 0 and not self._enough(0, 0, spent_ns, count):
            started = time.perf_counter_ns()
            found, stretch_ns = self._stretch(spent_ns, count)
            if self._watch.throttled("device" in found or "compute" in found):
                self._dropped["throttled"] += len(found["wall"])
                time.sleep(COOL_S)
                self._pace.restart()
                self._patience_ns -= time.perf_counter_ns() - started
                continue
            self._spent_ns += stretch_ns
            for stage, values in found.items():
                self._samples.setdefault(stage, []).extend(values)

    def timed(self, conditions: dict[str, Any]) -> Timed:
        """Return all that was measured."""
        dropped = dict(self._dropped)
        warnings = doubts(self._samples, dropped, conditions, paced_hz=self._paced_hz)
        return Timed(self._samples, dropped, warnings, conditions)

    def _untimed(self) -> None:
        start = time.perf_counter_ns()
        self._run()
        self._call_ns = time.perf_counter_ns() - start

    def _enough(self, more_ns: int, more: int, spent_ns: int, count: int) -> bool:
        """Tell whether the samples, and as many more, are long and many enough."""
        return self._spent_ns + more_ns >= spent_ns and len(self._samples["wall"]) + more >= count

    def _stretch(self, spent_ns: int, count: int) -> tuple[dict[str, list[float]], int]:
        """Take samples for TURN_S, or until there are enough; return them and their time [ns]."""
        found: dict[str, list[float]] = {"wall": []}
        stretch_ns = 0
        while True:
            begun = time.perf_counter_ns()
            self._sample(found)
            stretch_ns += time.perf_counter_ns() - begun
            self._look(self._spent_ns + stretch_ns)
            enough = self._enough(stretch_ns, len(found["wall"]), spent_ns, count)
            if enough or stretch_ns >= TURN_S * 1e9:
                return found, stretch_ns

    def _sample(self, found: dict[str, list[float]]) -> None:
        """Take one sample, at its tick."""
        if self._pace.period_ns:
            late_ms, missed = self._pace.wait()
            found.setdefault("late", []).append(late_ms)
            self._dropped.update({"missed": missed} if missed else {})
        start = time.perf_counter_ns()
        stages = self._run()
        found["wall"].append((time.perf_counter_ns() - start) / 1e6)
        for stage, value in (stages or {}).items():
            found.setdefault(stage, []).append(value)

    def _look(self, spent_ns: int) -> None:
        """Inspect the outputs unless that took more time than the calls already."""
        if self._inspect is not None and self._inspecting_ns <= spent_ns:
            start = time.perf_counter_ns()
            self._inspect()
            self._inspecting_ns += time.perf_counter_ns() - start
