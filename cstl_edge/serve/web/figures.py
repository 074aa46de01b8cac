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
            self._samples[stats.process, stage].extend((at, sample) for sample in samples)

    def of(self, process: str) -> Mapping[str, dict[str, float]]:
        """Return p50, p99 and number of samples by stage of a process [ms]."""
        since, result = time.monotonic() - WINDOW_S, {}
        for (name, stage), samples in sorted(self._samples.items()):
            while samples and samples[0][0] < since:
                samples.popleft()
            if name == process and samples:
                values = sorted(value for _, value in samples)
                last = len(values) - 1
                result[stage] = {
                    "p50": round(values[last // 2], 3),
                    "p99": round(values[round(last * 0.99)], 3),
                    "samples": float(len(values)),
                }
        return result
