"""Kernels of known work, timed for the peaks of this machine: arithmetic and bandwidth.

A limit has to hold for every runtime, so each precision is tried with several kernels (products of
large matrices and convolutions of every library that is installed), and the best one is the peak.
A kernel's rate is that of its best round's median: never of its fastest call.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

from cstl_edge.bench.record import Ran
from cstl_edge.measure.stats import percentile
from cstl_edge.measure.timing import measure

ROUNDS = 3
FEWEST = 3  # calls of a round


@dataclass(frozen=True)
class Kernel:
    """One operation of known work, to be timed."""

    kind: Literal["arithmetic", "bandwidth"]
    device: Literal["cpu", "gpu"]
    name: str  # library and operation
    precision: str
    work: float  # multiply-adds or bytes of one call
    ran: Ran
    prepare: Callable[[], Callable[[], Any]]
    """Returns the call; ImportError or RuntimeError where this machine cannot."""
    details: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Peak:
    """Rate that a kernel reached."""

    rate: float  # 10^9 multiply-adds or bytes per second
    samples_ms: list[float]
    dropped: dict[str, int]
    conditions: dict[str, Any]  # of the last round


def measure_kernel(kernel: Kernel, seconds: float, rounds: int = ROUNDS) -> Peak:
    """Time a kernel.

    Args:
        kernel: Operation to time.
        seconds: Duration of all rounds together.
        rounds: Number of rounds; the best one's median is the rate.

    Raises:
        ImportError, RuntimeError: This machine cannot run the kernel.
    """
    call = kernel.prepare()

    def run() -> None:
        call()

    each_s = seconds / rounds
    timings = [measure(run, warm_up_s=0, seconds=each_s, samples=FEWEST) for _ in range(rounds)]
    medians = [percentile(x.samples["wall"], 50) for x in timings if x.samples["wall"]]
    if not medians:
        raise RuntimeError("the machine was throttled all the time")
    return Peak(
        rate=kernel.work / min(medians) / 1e6,
        samples_ms=[ms for x in timings for ms in x.samples["wall"]],
        dropped=dict(sum((Counter(x.dropped) for x in timings), Counter())),
        conditions=timings[-1].conditions,
    )
