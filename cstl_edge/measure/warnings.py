"""Measurement warnings: reasons why figures may be unreliable, one line each.

The first four rules are trtexec's. They compare medians of stages that a device timed, and take a
coefficient of variation (standard deviation / mean) above UNSTABLE for unstable clocks. The other
rules are ours.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from statistics import fmean, median, pstdev
from typing import Any

from cstl_edge.measure.stats import percentile

ENQUEUE_SHARE = 0.8  # of the device's time
UNSTABLE = 0.025
FEWEST_FOR_P99 = 101  # of fewer samples p99 is the largest
BUSY_SHARE = 0.1
"""Of all cores, busy for other processes or machines."""
LATE_SHARE = 0.1
"""Of the period of a camera."""

Samples = Mapping[str, Sequence[float]]


def measurement_warnings(
    samples: Samples,
    dropped: Mapping[str, int] | None = None,
    conditions: Mapping[str, Any] | None = None,
    *,
    paced_hz: float | None = None,
) -> list[str]:
    """Return the warnings that belong to samples.

    Args:
        samples: Milliseconds by stage, `wall` (trtexec's `latency`) or stages of a device.
        dropped: Counts by reason, as in `timing.Timing`.
        conditions: Record of `conditions.MachineMonitor.end`.
        paced_hz: Ticks per second of paced calls; None for back to back.
    """
    dropped = dropped or {}
    main = samples.get("wall") or samples.get("latency") or []
    if not main:
        lost = dropped.get("throttled", 0)
        return [f"no figure: the machine was throttled during all of {lost} samples"]
    return [
        *_bound(samples),
        *_unstable(samples),
        *_few(len(main), dropped),
        *_paced(samples, dropped, paced_hz),
        *_machine(conditions or {}),
        *(_gpu(conditions or {}) if _device(samples) else ()),
    ]


def _device(samples: Samples) -> Sequence[float]:
    """Return the device's times of its arithmetic, where they were taken."""
    return samples.get("compute") or samples.get("device") or []


def _bound(samples: Samples) -> Iterator[str]:
    """Warn where something else than the device's arithmetic bounds the throughput."""
    if not _device(samples):
        return
    compute_ms = median(_device(samples))
    if samples.get("enqueue") and median(samples["enqueue"]) > ENQUEUE_SHARE * compute_ms:
        yield (
            f"enqueue-bound: the host takes {median(samples['enqueue']):.3f} ms to enqueue what "
            f"the device computes in {compute_ms:.3f} ms; a CUDA graph may help"
        )
    for stage, way in (("h2d", "to the device"), ("d2h", "from the device")):
        if samples.get(stage) and median(samples[stage]) >= compute_ms:
            yield (
                f"transfer-bound: the way {way} takes {median(samples[stage]):.3f} ms, "
                f"the arithmetic {compute_ms:.3f} ms"
            )


def _unstable(samples: Samples) -> Iterator[str]:
    """Warn where times vary more than steady clocks let them."""
    times = _device(samples) or samples.get("wall") or samples["latency"]
    mean = fmean(times)
    if mean > 0 and pstdev(times) > UNSTABLE * mean:
        yield (
            f"unstable clocks: times vary by {100 * pstdev(times) / mean:.1f} % (standard "
            f"deviation / mean; expected {100 * UNSTABLE} % at most)"
        )


def _few(count: int, dropped: Mapping[str, int]) -> Iterator[str]:
    """Warn of few samples, and of dropped ones."""
    if count < FEWEST_FOR_P99:
        yield f"few samples: p99 of {count} is their maximum; expected {FEWEST_FOR_P99} or more"
    if dropped.get("throttled"):
        total = count + dropped["throttled"]
        yield f"throttled: {dropped['throttled']} of {total} samples dropped"


def _paced(samples: Samples, dropped: Mapping[str, int], paced_hz: float | None) -> Iterator[str]:
    """Warn of calls that did not keep the pace."""
    if paced_hz is None or not samples.get("late"):
        return
    period_ms, late_ms = 1e3 / paced_hz, percentile(samples["late"], 99)
    if late_ms > LATE_SHARE * period_ms:
        yield f"late: p99 of calls began {late_ms:.1f} ms after their tick, of {period_ms:.1f} ms"
    if dropped.get("missed"):
        yield f"too slow for {paced_hz:g} Hz: {dropped['missed']} ticks passed during other calls"


def _machine(conditions: Mapping[str, Any]) -> Iterator[str]:
    """Warn of other work, quotas and power events of the machine."""
    cores = conditions.get("cores", 1)
    for key, who in (("others_cores", "other processes"), ("stolen_cores", "other machines")):
        if conditions.get(key, 0) > BUSY_SHARE * cores:
            yield f"busy machine: {who} took {conditions[key]:.2f} of {cores} cores"
    if conditions.get("quota_wait_s", 0) > 0:
        yield f"quota: the container was held back for {conditions['quota_wait_s']:.2f} s"
    if conditions.get("power_events", 0) > 0:
        yield f"power: supply or current slowed the board {conditions['power_events']} times"


def _gpu(conditions: Mapping[str, Any]) -> Iterator[str]:
    """Warn of a power limit and of other processes on the GPU."""
    gpu = conditions.get("after", {}).get("gpu", {})
    if "power limit" in gpu.get("limited_by", ()):
        yield "power: the GPU's power limit holds its clocks down"
    if gpu.get("processes", 0) > 1:
        yield f"busy GPU: {gpu['processes']} processes compute on it"
