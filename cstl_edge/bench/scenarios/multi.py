"""Scenario `multi`: how many walkers at a camera's pace hold p99 < 40 ms, found by search.

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
from dataclasses import dataclass
from typing import Any

import numpy as np

from cstl_edge.arrays import Silhouettes
from cstl_edge.bench import inputs
from cstl_edge.bench.backends.base import Missing
from cstl_edge.bench.backends.encoders import candidates, cores_of, ran_of, result
from cstl_edge.bench.context import Context
from cstl_edge.bench.record import Case, Row
from cstl_edge.bench.scenarios.streaming_cases import (
    STREAMED,
    WHOLE_WINDOWS,
    Reference,
    crowd_check,
    open_reference,
    wrong_answers,
)
from cstl_edge.errors import CstlEdgeError
from cstl_edge.measure.conditions import here
from cstl_edge.measure.stats import percentile
from cstl_edge.measure.warnings import doubts
from cstl_edge.runtime.base import Encoder
from cstl_edge.runtime.streaming.encoder import StreamingEncoder

FPS = 25
BUDGET_MS = 1000 / FPS  # a frame must be done when the next one comes
HOPELESS_MS = 50 * BUDGET_MS  # this far behind, the rest of a paced run tells nothing new
MOST_WALKERS = 1024  # where a search ends


def paced_latencies(
    encoder: Encoder, walkers: int, window: int, hop: int, seconds: float, slide: bool = True
) -> list[float]:
    """Return latencies [ms] of frames that come at `FPS`, each showing all the walkers.

    A latency counts from the moment the camera has the frame, so being late adds up.
    """
    stream = StreamingEncoder[int](encoder, window, hop, max_walkers=walkers, slide=slide)
    silhouettes = _walk(encoder, window)

    def push(t: int) -> None:
        stream.push({w: silhouettes[(t + w) % window] for w in range(walkers)})

    for t in range(window + hop):  # until every walker has had its first answer
        push(t)
    latencies: list[float] = []
    start = time.perf_counter()
    for t in range(int(seconds * FPS)):
        due = start + t / FPS
        time.sleep(max(0.0, due - time.perf_counter()))
        push(t)
        latencies.append((time.perf_counter() - due) * 1e3)
        if latencies[-1] > HOPELESS_MS:
            break
    return latencies


def _walk(encoder: Encoder, frames: int, seed: int = 0) -> Silhouettes:
    """Return coarse random silhouettes uint8 [frames, h, w]."""
    height, width = encoder.info.size
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 2, (frames, -(-height // 4), -(-width // 4)), dtype=np.uint8)
    fine = coarse.repeat(4, 1).repeat(4, 2)[:, :height, :width] * np.uint8(255)
    return np.ascontiguousarray(fine)


WINDOW, HOP = 30, 5  # frames
GROWTH = 1.25  # from one number to the next until one fails
LOWERED = 1.05  # where a number is not confirmed
STEP = 0.05  # of the number: nearer than this, or one walker, the search ends; one with --full
PROBE_WALKERS, PROBE_S = 8, 0.4  # for the first guess
LOAD = 0.9  # of the time between two frames: where the median of the first guess is expected
SHORT_TRIES, MOST_TRIES, FULL_TRIES = 1, 8, 100  # before what was found is confirmed
CONFIRM = 2  # times as long as a try
DIGITS = 3  # of latencies that are kept of tries: microseconds


@dataclass(frozen=True)
class PacedTrial:
    """One run with a number of walkers."""

    walkers: int
    latencies: list[float]
    """Milliseconds, raw and in order."""

    @property
    def in_time(self) -> bool:
        """Tell whether p99 is within the budget."""
        return percentile(self.latencies, 99) < BUDGET_MS

    @property
    def hopeless(self) -> bool:
        """Tell whether it was late not for a moment only, but in one frame of ten or more."""
        return percentile(self.latencies, 90) >= BUDGET_MS

    @property
    def told(self) -> dict[str, Any]:
        """Return what is kept of it."""
        kept = [round(one, DIGITS) for one in self.latencies]
        return {"walkers": self.walkers, "in_time": self.in_time, "latency_ms": kept}


Runner = Callable[[int, float], list[float]]
"""From walkers and seconds to latencies [ms]."""


def rows(context: Context) -> Iterator[Row]:
    """Yield a row per encoder that streams, and with --full per way to do so."""
    case = Case(graph="streaming", frames=WINDOW, hop=HOP, paced_hz=FPS)
    walk, shown = inputs.walk(WINDOW, context.subject.size)
    with open_reference(context, walk) as reference:
        for found in candidates(context):
            if not context.full and found.name not in STREAMED:
                continue
            if isinstance(found, Missing):
                yield _row(context, found.name, case=case, skipped=found.reason)
                continue
            try:
                encoder = found.open()
            except CstlEdgeError as err:
                yield _row(context, found.name, case=case, skipped=str(err))
                continue
            try:
                for slide in (True, False) if context.full and encoder.info.slides else (True,):
                    name = found.name if slide else f"{found.name}, {WHOLE_WINDOWS}"
                    context.tell(f"multi: {name}")
                    told = _held(context, encoder, reference, slide)
                    told["details"] = {"silhouettes": shown, **told.get("details", {})}
                    yield _row(context, name, ran=ran_of(encoder.info), **told)
            finally:
                encoder.close()


def search(
    run: Runner, seconds: float, guess: int, step: float = 0.0, most_tries: int = MOST_TRIES
) -> tuple[int, list[PacedTrial]]:
    """Return how many walkers are held, 0 for none, and everything that was tried.

    The first guess is raised or lowered, ever faster, until one number holds and one does not; what
    lies between is halved until it is within `step` of the number, or after `most_tries`. A number
    fails when it is late throughout, or twice for a moment: one hiccup of the machine is no
    failure. The number found must hold in a run CONFIRM times as long, else it is lowered, ever
    faster, until one does. That is the last of what was tried.

    step: share of the number; 0 searches to the last walker
    """
    tried: list[PacedTrial] = []

    def holds(walkers: int, lasting: float) -> bool:
        for _ in range(2):
            tried.append(PacedTrial(walkers, run(walkers, lasting)))
            if tried[-1].in_time or tried[-1].hopeless:
                break
        return tried[-1].in_time

    low, high, growth = 0, MOST_WALKERS + 1, GROWTH
    walkers = min(max(guess, 1), MOST_WALKERS)
    while high - low > max(1, int(step * low)) and len(tried) < most_tries:
        if holds(walkers, seconds):
            low = walkers
        else:
            high = walkers
        if low == 0:
            walkers, growth = max(1, int(high / growth)), growth**2
        elif high > MOST_WALKERS:
            walkers, growth = min(MOST_WALKERS, max(low + 1, int(low * growth))), growth**2
        else:
            walkers = (low + high) // 2
    low, growth = max(low, 1), LOWERED
    while not holds(low, CONFIRM * seconds):
        if low == 1:
            return 0, tried
        low, growth = max(1, min(low - 1, int(low / growth))), growth**2
    return low, tried


def first_guess(latencies: list[float], walkers: int) -> int:
    """Return the number of walkers to begin with, from a short run with some."""
    return int(LOAD * BUDGET_MS * walkers / percentile(latencies, 50))


def _held(context: Context, encoder: Encoder, reference: Reference, slide: bool) -> dict[str, Any]:
    """Search; return what stands in the row."""
    agreement = crowd_check(encoder, reference, HOP, slide)
    if not agreement.ok:
        return wrong_answers(agreement)

    def run(walkers: int, seconds: float) -> list[float]:
        return paced_latencies(encoder, walkers, WINDOW, HOP, seconds, slide)

    watch = here()
    watch.begin()
    guess = first_guess(run(PROBE_WALKERS, PROBE_S), PROBE_WALKERS)
    most, tried = search(run, context.budget.search_s, guess, *_patience(context))
    conditions = watch.end()
    samples = {"latency": tried[-1].latencies}
    cores = cores_of(ran_of(encoder.info))
    return {
        "case": Case(graph="streaming", frames=WINDOW, hop=HOP, walkers=max(most, 1), paced_hz=FPS),
        "check": agreement.check,
        "samples": samples,
        "values": {"walkers": most} | ({"walkers_per_core": most / cores} if cores else {}),
        "warnings": _doubts(samples, conditions),
        "conditions": conditions,
        "details": {"budget_ms": BUDGET_MS, "guess": guess, "tried": [x.told for x in tried]},
    }


def _patience(context: Context) -> tuple[float, int]:
    """Return how near to the number the search goes, and how many tries it may take."""
    if context.full:
        return 0.0, FULL_TRIES
    return STEP, SHORT_TRIES if context.short else MOST_TRIES


def _doubts(samples: dict[str, list[float]], conditions: dict[str, Any]) -> list[str]:
    """Return the warnings; frames with more answers take longer, whatever the clocks do."""
    found = [x for x in doubts(samples, None, conditions) if not x.startswith("unstable clocks")]
    if conditions.get("heat_events"):
        found.append("throttled: the machine was slowed down by heat during the search")
    return found


def _row(context: Context, contender: str, **told: Any) -> Row:
    return result(context, "multi", contender, **told)
