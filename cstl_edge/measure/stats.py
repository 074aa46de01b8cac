"""Raw durations by stage, percentiles by trtexec's rule, and files of JSON lines.

Percentiles follow trtexec's rule, so that a figure of ours stands beside one of NVIDIA's: the
sample with index n - 1 - int((1 - q/100) n) of the sorted list, never an interpolation. trtexec
computes that index in single precision, and so do we: of 100 samples its p99 is the largest, for
(1 - 0.99f) 100 is 0.99999905.
"""

from __future__ import annotations

import struct
import time
from collections import Counter, deque
from collections.abc import Collection, Iterator
from contextlib import contextmanager

from cstl_edge.measure.nvtx import nvtx_range

MAX_SAMPLES = 10_000  # of a stage


class Samples:
    """Durations in milliseconds by name of the stage, raw: the newest 10,000 of each.

    A run may last for months; counts and means are of all of it.
    """

    def __init__(self) -> None:
        self.by_stage: dict[str, deque[float]] = {}
        self._counts: Counter[str] = Counter()
        self._sums_ms: dict[str, float] = {}

    @contextmanager
    def time(self, stage: str) -> Iterator[None]:
        """Add the duration of the block to `stage`, also when the block raises."""
        start = time.perf_counter_ns()
        try:
            with nvtx_range(stage):
                yield
        finally:
            self.add(stage, (time.perf_counter_ns() - start) / 1e6)

    def add(self, stage: str, duration_ms: float) -> None:
        """Add one duration [ms] to `stage`."""
        self.by_stage.setdefault(stage, deque(maxlen=MAX_SAMPLES)).append(duration_ms)
        self._counts[stage] += 1
        self._sums_ms[stage] = self._sums_ms.get(stage, 0.0) + duration_ms

    def update(self, other: Samples) -> None:
        """Take over the stages of another one."""
        self.by_stage.update(other.by_stage)
        self._counts.update(other._counts)
        self._sums_ms.update(other._sums_ms)

    def summary(self) -> dict[str, dict[str, float]]:
        """Return `summary` of every stage, with count and mean of all its durations."""
        return {
            stage: summary(samples)
            | {
                "count": self._counts[stage],
                "mean_ms": round(self._sums_ms[stage] / self._counts[stage], 4),
            }
            for stage, samples in self.by_stage.items()
        }


def percentile(samples: Collection[float], q: float) -> float:
    """Return the `q`-th percentile, 0 < q <= 100, by trtexec's rule.

    >>> percentile([4.0, 1.0, 3.0, 2.0], 50)
    2.0
    """
    if not samples:
        raise ValueError("expected at least one sample, got none")
    ordered = sorted(samples)
    n = len(ordered)
    left_out = int(_single(_single(1 - _single(_single(q) / 100)) * n))
    return ordered[max(0, n - 1 - left_out)]


def _single(x: float) -> float:
    """Return `x` rounded to single precision."""
    return float(struct.unpack("f", struct.pack("f", x))[0])


def summary(samples_ms: Collection[float]) -> dict[str, float]:
    """Return count, mean and percentiles of durations [ms]."""
    marks = {f"p{q}_ms": round(percentile(samples_ms, q), 4) for q in (50, 90, 95, 99)}
    mean_ms = round(sum(samples_ms) / len(samples_ms), 4)
    return {"count": len(samples_ms), "mean_ms": mean_ms, **marks}
