"""Scenario `multi`: search for how many walkers at a camera's pace hold p99 < 40 ms.

Everybody is seen in every frame and answered for every fifth, embedding only. A latency counts from
the moment when the camera has the frame, so being late adds up. The number that the search ends
with is run once more and longer, and lowered until it holds: the headline is that last run, never a
lucky one. Every number that was tried stands in `details["tried"]` with its raw latencies.

`values`: `walkers`, the number that held; `walkers_per_core`, of the threads that were used.
`samples["latency"]`: of the last run at that number.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

from cstl_edge.bench import inputs
from cstl_edge.bench.backends.base import cores_of, ran_of
from cstl_edge.bench.backends.open import streaming_backends
from cstl_edge.bench.context import Context
from cstl_edge.bench.record import Row
from cstl_edge.bench.scenarios.shared import (
    CAMERA_HZ,
    HOP,
    PACED_STREAM,
    WINDOW,
    fields_if_correct,
    open_encoder,
    without_clocks,
)
from cstl_edge.bench.scenarios.streaming_cases import (
    STREAMED,
    WHOLE_WINDOWS,
    Reference,
    crowd_check,
    open_reference,
)
from cstl_edge.measure.conditions import host_monitor
from cstl_edge.measure.stats import percentile
from cstl_edge.measure.warnings import measurement_warnings
from cstl_edge.runtime.base import Encoder
from cstl_edge.runtime.streaming.encoder import StreamingEncoder

BUDGET_MS = 1000 / CAMERA_HZ  # a frame must be done when the next one comes
HOPELESS_MS = 50 * BUDGET_MS  # this far behind, the rest of a paced run adds nothing
MOST_WALKERS = 1024  # where a search ends
GROWTH = 1.25  # from one number to the next until one fails
LOWERED = 1.05  # where a number is not confirmed
STEP = 0.05  # of the number: nearer than this, or one walker, the search ends; one with --full
PROBE_WALKERS, PROBE_S = 8, 0.4  # for the first guess
LOAD = 0.9  # of the time between two frames: where the median of the first guess is expected
SHORT_TRIES, MOST_TRIES, FULL_TRIES = 1, 12, 100  # before the number is confirmed
CONFIRM = 2  # times as long as a trial
DIGITS = 3  # of latencies that are kept of trials: microseconds


@dataclass(frozen=True)
class PacedTrial:
    """One paced run with a number of walkers."""

    walkers: int
    latencies: list[float]  # milliseconds, raw and in order

    @property
    def in_time(self) -> bool:
        """Tell whether p99 is within the budget."""
        return percentile(self.latencies, 99) < BUDGET_MS

    @property
    def hopeless(self) -> bool:
        """Tell whether it was late throughout: one stall of 200 ms makes ten frames late."""
        return percentile(self.latencies, 50) >= BUDGET_MS

    @property
    def record(self) -> dict[str, Any]:
        """Return its entry in the details of the row."""
        latency_ms = [round(ms, DIGITS) for ms in self.latencies]
        return {"walkers": self.walkers, "in_time": self.in_time, "latency_ms": latency_ms}


Runner = Callable[[int, float], list[float]]  # from walkers and seconds to latencies [ms]


def rows(context: Context) -> Iterator[Row]:
    """Yield a row per encoder that streams; with --full, one for sliding and one for whole windows.

    Sliding windows are compared with whole ones only where an encoder slides.
    """
    walk, shown = inputs.walk(WINDOW, context.model.size)
    with open_reference(context, walk) as reference:
        for candidate in streaming_backends(context):
            if not context.full and candidate.name not in STREAMED:
                continue
            with ExitStack() as stack:
                encoder = open_encoder(context, "multi", candidate, PACED_STREAM, stack)
                if isinstance(encoder, Row):
                    yield encoder
                    continue
                for slide in (True, False) if context.full and encoder.info.slides else (True,):
                    name = candidate.name if slide else f"{candidate.name}, {WHOLE_WINDOWS}"
                    context.progress(f"multi: {name}")
                    fields = _search_walkers(context, encoder, reference, slide)
                    fields["details"] = {"silhouettes": shown, **fields.get("details", {})}
                    yield context.row("multi", name, ran=ran_of(encoder.info), **fields)


def paced_latencies(
    encoder: Encoder, walkers: int, window: int, hop: int, seconds: float, slide: bool = True
) -> list[float]:
    """Return latencies [ms] of frames that come at `CAMERA_HZ`, each showing all the walkers.

    A latency counts from the moment the camera has the frame, so being late adds up.

    Args:
        encoder: Encoder that streams.
        walkers: Number of walkers in every frame.
        window: Frames of a window.
        hop: Frames between two answers.
        seconds: Duration of the camera; a run that falls behind by `HOPELESS_MS` ends earlier.
        slide: True computes only what a slide changes in a window, where the encoder can.
    """
    stream = StreamingEncoder[int](encoder, window, hop, max_walkers=walkers, slide=slide)
    silhouettes = inputs.block_silhouettes(window, encoder.info.size)

    def push(t: int) -> None:
        stream.push({w: silhouettes[(t + w) % window] for w in range(walkers)})

    for t in range(window + hop):  # until every walker has had its first answer
        push(t)
    latencies: list[float] = []
    start = time.perf_counter()
    for t in range(int(seconds * CAMERA_HZ)):
        due = start + t / CAMERA_HZ
        time.sleep(max(0.0, due - time.perf_counter()))
        push(t)
        latencies.append((time.perf_counter() - due) * 1e3)
        if latencies[-1] > HOPELESS_MS:
            break
    return latencies


def search(
    run: Runner, seconds: float, guess: int, step: float = 0.0, most_tries: int = MOST_TRIES
) -> tuple[int, list[PacedTrial]]:
    """Return how many walkers are held, 0 for none, and every trial.

    The first guess is raised or lowered, ever faster, until one number holds and one does not; what
    lies between is halved until it is within `step` of the number, or after `most_tries`. A number
    fails when it is late throughout, or twice for a moment: one hiccup of the machine is no
    failure. Nor is it a limit: the least number that failed is run again before the search ends,
    and the search goes on above it if it holds. The resulting number must hold in a run CONFIRM
    times as long, else it is lowered, ever faster, until one does. That is the last trial.

    Args:
        run: Function of walkers and seconds that runs them.
        seconds: Duration of a trial.
        guess: Number of walkers to begin with.
        step: Share of the number; 0 searches to the last walker.
        most_tries: Largest number of trials before the number is confirmed.
    """
    trials: list[PacedTrial] = []

    def holds(walkers: int, lasting: float) -> bool:
        for _ in range(2):
            trials.append(PacedTrial(walkers, run(walkers, lasting)))
            if trials[-1].in_time or trials[-1].hopeless:
                break
        return trials[-1].in_time

    low, high, growth, failed_again = 0, MOST_WALKERS + 1, GROWTH, False
    walkers = min(max(guess, 1), MOST_WALKERS)
    while len(trials) < most_tries:
        near = high - low <= max(1, int(step * low))
        if near and (failed_again or high > MOST_WALKERS):
            break
        walkers = high if near else walkers
        if not holds(walkers, seconds):
            high, failed_again = walkers, near
        else:
            low = walkers
            if near:
                high, growth = MOST_WALKERS + 1, GROWTH
        walkers, growth = _next_number(low, high, growth)
    low, growth = max(low, 1), LOWERED
    while not holds(low, CONFIRM * seconds):
        if low == 1:
            return 0, trials
        low, growth = max(1, min(low - 1, int(low / growth))), growth**2
    return low, trials


def _next_number(low: int, high: int, growth: float) -> tuple[int, float]:
    """Return the number of walkers to try next, and the next growth.

    Args:
        low: Largest number that held, 0 for none.
        high: Smallest that did not, above MOST_WALKERS for none.
        growth: Factor from one number to the next while one of the two is open.
    """
    if low == 0:
        return max(1, int(high / growth)), growth**2
    if high > MOST_WALKERS:
        return min(MOST_WALKERS, max(low + 1, int(low * growth))), growth**2
    return (low + high) // 2, growth


def first_guess(latencies: list[float], walkers: int) -> int:
    """Return the number of walkers to begin with, from latencies [ms] of a short run with some."""
    return int(LOAD * BUDGET_MS * walkers / percentile(latencies, 50))


def _search_walkers(
    context: Context, encoder: Encoder, reference: Reference, slide: bool
) -> dict[str, Any]:
    """Check the answers, then search; return the fields of the row."""
    output_check = crowd_check(encoder, reference, HOP, slide)
    if not output_check.ok:
        return fields_if_correct(output_check)

    def run(walkers: int, seconds: float) -> list[float]:
        return paced_latencies(encoder, walkers, WINDOW, HOP, seconds, slide)

    monitor = host_monitor()
    monitor.begin()
    guess = first_guess(run(PROBE_WALKERS, PROBE_S), PROBE_WALKERS)
    step = 0.0 if context.full else STEP
    tries = FULL_TRIES if context.full else SHORT_TRIES if context.short else MOST_TRIES
    most, trials = search(run, context.budget.search_s, guess, step, tries)
    conditions = monitor.end()
    samples = {"latency": trials[-1].latencies}
    cores = cores_of(ran_of(encoder.info))
    return {
        "case": PACED_STREAM.model_copy(update={"walkers": max(most, 1)}),
        "check": output_check.check,
        "samples": samples,
        "values": {"walkers": most} | ({"walkers_per_core": most / cores} if cores else {}),
        "warnings": _warnings(samples, conditions),
        "conditions": conditions,
        "details": {"budget_ms": BUDGET_MS, "guess": guess, "tried": [x.record for x in trials]},
    }


def _warnings(samples: dict[str, list[float]], conditions: dict[str, Any]) -> list[str]:
    """Return the warnings; frames with more answers take longer, whatever the clocks do."""
    warnings = without_clocks(measurement_warnings(samples, None, conditions))
    if conditions.get("heat_events"):
        warnings.append("throttled: the machine was slowed down by heat during the search")
    return warnings
