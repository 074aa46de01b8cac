"""Histogram of durations, counted where they happen and sent on as plain numbers.

The edges are those of `/metrics`; 200 ms is one, because that is how late a frame may be.
"""

from __future__ import annotations

from bisect import bisect_left

EDGES_S = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)
"""Upper edges of the buckets in seconds, each included; behind the last comes +inf."""

HistogramCounts = tuple[float, tuple[int, ...]]
"""Sum of the durations in seconds, and how many fell into each bucket (not cumulative)."""


class Histogram:
    """Durations by bucket since the process began; never reset, so a lost message loses nothing.

    >>> ages = Histogram()
    >>> ages.observe(0.2)
    >>> ages.snapshot()
    (0.2, (0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0))
    """

    __slots__ = ("_counts", "_sum_s")

    def __init__(self) -> None:
        self._counts = [0] * (len(EDGES_S) + 1)
        self._sum_s = 0.0

    def observe(self, seconds: float) -> None:
        """Count one duration."""
        self._counts[bisect_left(EDGES_S, seconds)] += 1
        self._sum_s += seconds

    def snapshot(self) -> HistogramCounts:
        """Return the sum and the counts so far, fit for a message."""
        return self._sum_s, tuple(self._counts)
