"""Roofline model: the limit of a measured time, from rows alone (no machine is measured).

    limits = MachineLimits(rows)    # of one run
    limit = limits.limit_of(row)          # None where nothing was counted or no peak was measured
    limit.share                     # 0..1, of the attainable: least_ms / median_ms
    limit.intensity                 # multiply-adds per byte: x of the roofline picture
    limit.reached_gmacs_per_s       # and its y, below attainable_gmacs_per_s
    limits.peak("cpu", "float32")   # gmacs_per_s of the roof's flat part, None if not measured
    limits.bandwidth("cpu", "l3")   # gbytes_per_s of its slopes, None if not measured

Model: a call takes no less than its multiply-adds at their peaks, and no less than its least bytes
at the bandwidth of the nearest level that holds them all (called back to back, they stay there).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from cstl_edge.bench.record import Ran, Row
from cstl_edge.measure.stats import percentile

LEVELS = ("l2", "l3", "memory")
HALVES = {"float16", "bfloat16"}

_Key = tuple[str, str, str]
_Point = tuple[int, int]


@dataclass(frozen=True)
class RowLimit:
    """Times of a row and the limit of its machine."""

    gmacs: float
    gbytes: float
    median_ms: float  # of the device's time where it was measured, else of wall time
    least_ms: float
    bound: Literal["arithmetic", "bandwidth"]
    level: str  # level of memory that holds the bytes of a call

    @property
    def share(self) -> float:
        """Return the part of the attainable that was reached."""
        return self.least_ms / self.median_ms

    @property
    def intensity(self) -> float:
        """Return multiply-adds per byte."""
        return self.gmacs / self.gbytes

    @property
    def reached_gmacs_per_s(self) -> float:
        """Return the rate of the median call."""
        return self.gmacs / self.median_ms * 1e3

    @property
    def attainable_gmacs_per_s(self) -> float:
        """Return the rate that the limit allows."""
        return self.gmacs / self.least_ms * 1e3


class MachineLimits:
    """The peaks and costs among the rows of one run."""

    def __init__(self, rows: Iterable[Row]) -> None:
        """Take rows of any scenario; only those of `roofline` count here."""
        measured = [row for row in rows if row.scenario == "roofline" and row.skipped is None]
        kinds = {"arithmetic": ("precision", "gmacs_per_s"), "bandwidth": ("level", "gbytes_per_s")}
        self._peaks: dict[tuple[str, str, str], float] = {}
        self._capacities: dict[tuple[str, str], float] = {}
        self._costs: dict[_Key, dict[_Point, dict[str, float]]] = {}
        for row in measured:
            details, kind = row.details, row.details.get("kind")
            if kind == "cost":
                points = self._costs.setdefault(_key(row, details["precision"]), {})
                points[row.case.batch or 0, row.case.frames or 0] = row.values
            elif kind in kinds:
                name, unit = kinds[kind]
                key, rate = (kind, details["device"], details[name]), row.values[unit]
                if rate > 0:  # rows come from other people's machines
                    self._peaks[key] = max(rate, self._peaks.get(key, 0.0))
                if kind == "bandwidth":
                    self._capacities[key[1:]] = details.get("capacity_bytes") or float("inf")

    def peak(self, device: str, precision: str) -> float | None:
        """Return the best rate of a precision [gmacs_per_s]."""
        return self._peaks.get(("arithmetic", device, precision))

    def bandwidth(self, device: str, level: str) -> float | None:
        """Return the best rate of a level [gbytes_per_s]."""
        return self._peaks.get(("bandwidth", device, level))

    def limit_of(self, row: Row) -> RowLimit | None:
        """Return a row's limit; None where it has no times, or its limit is not known."""
        times = next(
            (row.samples[x] for x in ("device", "compute", "wall") if row.samples.get(x)), []
        )
        cost = self.cost(row)
        if row.ran is None or cost is None or not times:
            return None
        device = device_of(row.ran)
        level = self._level(device, cost["gbytes"] * 1e9)
        arithmetic_ms = self._arithmetic_ms(cost, row.ran)
        if level is None or arithmetic_ms is None or cost["gbytes"] <= 0 or cost["gmacs"] <= 0:
            return None
        bytes_ms = cost["gbytes"] / self._peaks["bandwidth", device, level] * 1e3
        return RowLimit(
            gmacs=cost["gmacs"],
            gbytes=cost["gbytes"],
            median_ms=percentile(times, 50),
            least_ms=max(arithmetic_ms, bytes_ms),
            bound="arithmetic" if arithmetic_ms >= bytes_ms else "bandwidth",
            level=level,
        )

    def cost(self, row: Row) -> dict[str, float] | None:
        """Return the cost of a row's graph for its batch and frames; None where not counted.

        A precision without a file of its own is the float32 file, its bytes halved where narrower.
        """
        if row.ran is None or row.case.batch is None:
            return None
        own = _key(row, row.ran.precision) in self._costs
        points = self._costs.get(_key(row, row.ran.precision if own else "float32"))
        if not points:
            return None
        values = _extrapolate(points, row.case.batch, row.case.frames or 0)
        if not own and row.ran.precision in HALVES:
            return {k: v / 2 if k.startswith("gbytes") else v for k, v in values.items()}
        return values

    def _level(self, device: str, nbytes: float) -> str | None:
        """Return the nearest level that was measured and holds `nbytes`."""
        measured = (x for x in LEVELS if self.bandwidth(device, x))
        return next((x for x in measured if nbytes <= self._capacities[device, x]), None)

    def _arithmetic_ms(self, cost: Mapping[str, float], ran: Ran) -> float | None:
        """Return the least time of the multiply-adds, each kind at its own peak."""
        device = device_of(ran)
        total = 0.0
        for name in cost:
            if name.startswith("gmacs_"):
                kinds = runs_in(name.removeprefix("gmacs_"), ran)
                peak = max(self.peak(device, kind) or 0.0 for kind in kinds)
                if not peak:
                    return None
                total += cost[name] / peak * 1e3
        return total


def _key(row: Row, precision: str) -> _Key:
    """Return the key of a cost: network, precision, graph."""
    network = row.subject.weights_sha256 if row.subject else ""
    return network, precision, str(row.case.graph)


def _extrapolate(
    points: Mapping[_Point, Mapping[str, float]], batch: int, frames: int
) -> dict[str, float]:
    """Return the cost for a batch n and frames s: it grows as c0 + c1 n + c2 n s."""
    terms = np.array([[1, n, n * s] for n, s in points], np.float64)
    names = list(next(iter(points.values())))
    known = np.array([[values[name] for name in names] for values in points.values()])
    terms_here = np.array([1, batch, batch * frames], np.float64)
    cost = terms_here @ np.linalg.lstsq(terms, known, rcond=None)[0]
    return dict(zip(names, cost.tolist(), strict=True))


def device_of(ran: Ran) -> Literal["cpu", "gpu"]:
    """Return the device of a run: a GPU is called by its name."""
    return "cpu" if "cpu" in ran.provider.lower() else "gpu"


def runs_in(kind: str, ran: Ran) -> list[str]:
    """Return the precisions in which multiply-adds of a file's `kind` may have been computed."""
    if kind == "int8":
        return ["int8"]
    return [x for x in ran.computed_in.split(" and ") if x not in ("int8", "unknown")] or [
        "float32"
    ]
