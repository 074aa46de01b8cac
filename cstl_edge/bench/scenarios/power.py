"""Scenario `power`: joules per embedding, from the rails of the machine while a backend runs.

Each backend runs `full` back to back, and the runtimes stream one walker at a camera's pace. Idle
power is measured just before, and figures are given with it (gross) and without it (net). `values`:

`watts_idle`, `watts_gross`, `watts_net`, `joules_per_embedding_gross`, `joules_per_embedding_net`
    of the widest part of the machine that a meter sees, `details["scope"]`; of narrower ones
    (`gpu`, `cpu`, ...) with their name behind: `watts_net_gpu`
`watts_gross_tegrastats`    of that part by NVIDIA's own tool, on a Jetson
`embeddings`, `seconds`     of the recording
`samples_hz`                readings per second as they really were; below 50 there is a warning

`details["rails"]` has gross and idle watts of every rail. The power mode and the clocks are read
(`conditions`) and never changed; there is no option that would. Never run on a board or a GPU.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

from cstl_edge.bench.context import Context
from cstl_edge.bench.power.base import LOWEST_HZ, Meter, MeterRecorder, PowerRecording
from cstl_edge.bench.power.open import MeterSet, open_meters
from cstl_edge.bench.power.tegrastats import Tegrastats
from cstl_edge.bench.power.workloads import RunningWorkload, Workload, workloads
from cstl_edge.bench.record import Row
from cstl_edge.bench.roofline.limits import device_of
from cstl_edge.errors import CstlEdgeError, ModelError
from cstl_edge.measure.timing import Timing, measure

LONGER = 2.0  # times the seconds of a row of times: counters step some ten times a second
FEWEST_S = 1.0
IDLE_SHARE = 0.5  # of the seconds of a run
SETTLE_S = 0.2  # clocks stay up for a while after a run
DISAGREE = 0.1  # share by which tegrastats may differ from us


def rows(context: Context, root: Path = Path("/")) -> Iterator[Row]:
    """Yield a row per backend and case; one with the reasons where no meter is below `root`."""
    meters = open_meters(root)
    if not meters.meters:
        missing = "; ".join(meters.missing)
        yield context.row("power", "all", skipped=f"no power meter on this machine: {missing}")
        return
    with ExitStack() as stack:
        for meter in meters.meters:
            stack.callback(meter.close)
        for workload in workloads(context):
            name, case = workload.name, workload.case
            context.progress(f"power: {name}, {case.graph}")
            try:
                with ExitStack() as opened:
                    yield _measure(context, meters, workload, workload.open(opened))
            except CstlEdgeError as err:
                yield context.row("power", name, case=case, skipped=str(err))
                if not isinstance(err, ModelError):  # of a meter: it would fail for the others too
                    return


class MeterReadings(NamedTuple):
    """Recordings of one meter before and during a run."""

    meter: Meter
    idle: PowerRecording
    busy: PowerRecording


def _measure(
    context: Context, meters: MeterSet, workload: Workload, running: RunningWorkload
) -> Row:
    """Run a workload with all meters on, its idle power measured just before."""
    seconds = max(FEWEST_S, LONGER * context.budget.seconds)
    running.run()  # what is done once is in no recording
    running.check()
    time.sleep(SETTLE_S)
    idle, _ = _record(meters, lambda: time.sleep(IDLE_SHARE * seconds))
    embeddings: list[int] = []  # of every call
    stamps_s: list[float] = []  # before and after every call

    def run() -> None:
        stamps_s.append(time.perf_counter())
        embeddings.append(running.run())
        stamps_s.append(time.perf_counter())

    def work() -> Timing:
        hz = workload.case.paced_hz
        return measure(run, warm_up_s=0.0, seconds=seconds, samples=1, paced_hz=hz)

    with ExitStack() as stack:
        tool = stack.enter_context(Tegrastats()) if Tegrastats.is_installed() else None
        busy, timing = _record(meters, work)
    check = running.check()
    during = [recording.between(stamps_s[0], stamps_s[-1]) for recording in busy]
    readings = [MeterReadings(*x) for x in zip(meters.meters, idle, during, strict=True)]
    scope = meters.headline(device_of(running.ran))
    values = _values(readings, scope, sum(embeddings))
    tool_w = tool.watts() if tool else {}
    cross_check = _cross_check(readings, scope, tool_w, values)
    fields = vars(timing) | {
        "values": values,
        "warnings": [*timing.warnings, *_warnings(readings, values), *cross_check],
        "details": {
            "scope": scope,
            "meters": [x.meter.name for x in readings],
            "rails": _rails(readings, tool_w),
        },
    }
    case, ran = workload.case, running.ran
    return context.row("power", workload.name, case=case, ran=ran, check=check, **fields)


def _record(meters: MeterSet, work: Callable[[], Any]) -> tuple[list[PowerRecording], Any]:
    """Do some work with every meter on; return their recordings and the work's result."""
    with ExitStack() as stack:
        recorders = [stack.enter_context(MeterRecorder(meter)) for meter in meters.meters]
        result = work()
    return [recorder.recording() for recorder in recorders], result


def _values(readings: list[MeterReadings], headline: str, embeddings: int) -> dict[str, float]:
    """Return the figures of every scope, those of the headline without its name.

    Of two meters that see the same part, the first counts.
    """
    values: dict[str, float] = {"embeddings": embeddings}
    done: set[str] = set()
    for reading in readings:
        for scope, rails in reading.meter.scopes.items():
            if scope in done:
                continue
            done.add(scope)
            behind = "" if scope == headline else f"_{scope}"
            idle_w, gross_w = reading.idle.watts(rails), reading.busy.watts(rails)
            values |= {
                f"watts_idle{behind}": idle_w,
                f"watts_gross{behind}": gross_w,
                f"watts_net{behind}": gross_w - idle_w,
            }
            if embeddings:
                each_s = reading.busy.seconds / embeddings
                values[f"joules_per_embedding_gross{behind}"] = gross_w * each_s
                values[f"joules_per_embedding_net{behind}"] = (gross_w - idle_w) * each_s
            if scope == headline:
                values |= {"seconds": reading.busy.seconds, "samples_hz": reading.busy.hz}
    return values


def _rails(readings: list[MeterReadings], tool_w: dict[str, float]) -> dict[str, dict[str, float]]:
    """Return idle and gross watts of every rail, and those that tegrastats reports."""
    rails = {
        rail: {"idle_w": reading.idle.watts([rail]), "gross_w": reading.busy.watts([rail])}
        for reading in readings
        for rail in reading.busy.rails
    }
    for rail, watts in tool_w.items():
        rails.setdefault(rail, {})["tegrastats_w"] = watts
    return rails


def _warnings(readings: list[MeterReadings], values: dict[str, float]) -> Iterator[str]:
    """Yield the warnings about the figures."""
    for reading in readings:
        busy = reading.busy
        if busy.kind == "watts" and busy.hz < LOWEST_HZ:
            yield (
                f"slow meter: {reading.meter.name} gave {busy.hz:.0f} readings per second; "
                f"expected {LOWEST_HZ:.0f} or more"
            )
        for rail in busy.negative():
            yield f"negative power on {rail}: its sensor is wired backwards, or next to none flowed"
    if values["watts_net"] <= 0:
        yield "net power is not above 0: something else ran while idle power was measured"
    if not values["embeddings"]:
        yield "no embedding came of it: expected a longer run"


def _cross_check(
    readings: list[MeterReadings], headline: str, tool_w: dict[str, float], values: dict[str, float]
) -> Iterator[str]:
    """Add tegrastats' watts of the headline to the values; yield a warning where they differ."""
    rails = next(x.meter.scopes[headline] for x in readings if headline in x.meter.scopes)
    if not set(rails) <= set(tool_w):
        return
    theirs, ours = sum(tool_w[rail] for rail in rails), values["watts_gross"]
    values["watts_gross_tegrastats"] = theirs
    if abs(theirs - ours) > DISAGREE * max(theirs, ours):
        yield f"tegrastats says {theirs:.2f} W of {', '.join(rails)}; we measured {ours:.2f} W"
