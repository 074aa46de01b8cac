"""Latencies of the last minute by process and stage, for the Health page."""

from __future__ import annotations

import time
from collections import defaultdict, deque
from collections.abc import Mapping

from cstl_edge.serve.messages import Stats

WINDOW_S = 60.0
MAX_SAMPLES = 5000  # of one stage


class Latencies:
    """Samples of every process by stage; the oldest go after a minute."""

    def __init__(self) -> None:
        self._samples: dict[tuple[str, str], deque[tuple[float, float]]] = defaultdict(
            lambda: deque(maxlen=MAX_SAMPLES)
        )

    def feed(self, stats: Stats) -> None:
        """Take the samples of a process's message."""
        at = time.monotonic()
        for stage, samples in stats.samples_ms.items():
            kept = self._samples[stats.process, stage]
            kept.extend((at, sample) for sample in samples)
            _drop_old(kept, at)

    def of(self, process: str) -> Mapping[str, dict[str, float]]:
        """Return p50, p99 and number of samples by stage of a process [ms]."""
        now, result = time.monotonic(), {}
        for (name, stage), samples in sorted(self._samples.items()):
            _drop_old(samples, now)
            if name == process and samples:
                values = sorted(value for _, value in samples)
                last = len(values) - 1
                result[stage] = {
                    "p50": round(values[last // 2], 3),
                    "p99": round(values[round(last * 0.99)], 3),
                    "samples": float(len(values)),
                }
        return result


def _drop_old(samples: deque[tuple[float, float]], now: float) -> None:
    """Drop what is older than the window, whether anybody looks or not: memory stays flat."""
    while samples and samples[0][0] < now - WINDOW_S:
        samples.popleft()
