"""Scenario `power`: what an embedding costs in joules, while a backend runs and its rails are read.

Each contender runs `full` back to back, and the runtimes stream one walker at a camera's pace. Idle
power is measured just before, and figures are given with it (gross) and without it (net). `values`:

`watts_idle`, `watts_gross`, `watts_net`, `joules_per_embedding_gross`, `joules_per_embedding_net`
    of the widest part of the machine that a meter sees, `details["scope"]`; of narrower ones
    (`gpu`, `cpu`, ...) with their name behind: `watts_net_gpu`
`watts_gross_tegrastats`    of that part by NVIDIA's own tool, on a Jetson
`embeddings`, `seconds`     of the recording
`samples_hz`                readings per second as they really were; below 50 a warning says so

`details["rails"]` has gross and idle watts of every rail. The power mode and the clocks are read
(`conditions`) and never changed; there is no option that would. Never run on a board or a GPU.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cstl_edge.bench.context import Context
from cstl_edge.bench.power.meter import LOWEST_HZ, Meter, MeterRecorder, PowerRecording
from cstl_edge.bench.power.open import MeterSet, open_meters
from cstl_edge.bench.power.tegrastats import Tegrastats
from cstl_edge.bench.power.workloads import RunningWorkload, Workload, workloads
from cstl_edge.bench.record import Case, Row
from cstl_edge.bench.roofline.limits import device_of
from cstl_edge.errors import CstlEdgeError, ModelError
from cstl_edge.measure.timing import Timed, measure

LONGER = 2.0
"""Times the seconds of a row of times: counters step some ten times a second."""
FEWEST_S = 1.0
IDLE_SHARE = 0.5
"""Of the seconds of a run."""
SETTLE_S = 0.2
"""Clocks stay up for a while after a run."""
DISAGREE = 0.1
"""Part by which tegrastats may differ from us."""


def rows(context: Context, root: Path = Path("/")) -> Iterator[Row]:
    """Yield a row per backend, back to back and paced; one row that says why where no meter is.

    root: of the file system in which meters are looked for
    """
    found = open_meters(root)
    if not found.meters:
        looked = "; ".join(found.looked)
        yield _row(context, "all", Case(), skipped=f"no power meter on this machine: {looked}")
        return
    with ExitStack() as stack:
        stack.callback(found.close)
        for load in workloads(context):
            context.tell(f"power: {load.name}, {load.case.graph}")
            try:
                with ExitStack() as opened:
                    yield _measured(context, found, load, load.open(opened))
            except ModelError as err:
                yield _row(context, load.name, load.case, skipped=str(err))
            except CstlEdgeError as err:  # of a meter: it would fail for the others too
                yield _row(context, load.name, load.case, skipped=str(err))
                return


@dataclass(frozen=True)
class MeterReadings:
    """What one meter saw before and while something ran."""

    meter: Meter
    idle: PowerRecording
    busy: PowerRecording

    def watts(self, rails: Sequence[str]) -> tuple[float, float]:
        """Return mean power of rails, idle and gross."""
        return self.idle.watts(rails), self.busy.watts(rails)


class _CountingRun:
    """Counts what a run gives, and when it began and ended."""

    def __init__(self, run: Callable[[], int]) -> None:
        self._run = run
        self.embeddings = 0
        self.start_s = self.end_s = 0.0

    def __call__(self) -> None:
        self.start_s = self.start_s or time.perf_counter()
        self.embeddings += self._run()
        self.end_s = time.perf_counter()


def _measured(context: Context, found: MeterSet, load: Workload, opened: RunningWorkload) -> Row:
    """Run a load with all meters on, its idle power measured just before."""
    seconds = max(FEWEST_S, LONGER * context.budget.seconds)
    opened.run()  # what is done once is in no recording
    opened.check()
    time.sleep(SETTLE_S)
    idle, _ = _record(found, lambda: time.sleep(IDLE_SHARE * seconds))
    run = _CountingRun(opened.run)
    hz = load.case.paced_hz

    def work() -> Timed:
        return measure(run, warm_up_s=0.0, seconds=seconds, samples=1, paced_hz=hz)

    with ExitStack() as stack:
        tool = stack.enter_context(Tegrastats()) if Tegrastats.here() else None
        busy, timed = _record(found, work)
    check = opened.check()
    cut = [one.between(run.start_s, run.end_s) for one in busy]
    seen = [MeterReadings(*three) for three in zip(found.meters, idle, cut, strict=True)]
    scope = found.headline(device_of(opened.ran))
    values = _values(seen, scope, run.embeddings)
    said = tool.watts() if tool else {}
    warnings = [*timed.warnings, *_doubts(seen, values), *_cross_check(seen, scope, said, values)]
    return _row(
        context,
        load.name,
        load.case,
        ran=opened.ran,
        check=check,
        samples=timed.samples,
        dropped=timed.dropped,
        values=values,
        warnings=warnings,
        details={"scope": scope, "meters": [x.meter.name for x in seen], **_details(seen, said)},
        conditions=timed.conditions,
    )


def _record(found: MeterSet, work: Callable[[], Any]) -> tuple[list[PowerRecording], Any]:
    """Do some work with every meter on; return what they saw and what came of it."""
    recorders = [MeterRecorder(meter) for meter in found.meters]
    with ExitStack() as stack:
        for recorder in recorders:
            stack.enter_context(recorder)
        result = work()
    return [recorder.recording() for recorder in recorders], result


def _values(seen: list[MeterReadings], headline: str, embeddings: int) -> dict[str, float]:
    """Return the figures of every scope, those of the headline without its name.

    Of two meters that see the same part, the first counts.
    """
    values: dict[str, float] = {"embeddings": embeddings}
    done: set[str] = set()
    for one in seen:
        for scope, rails in one.meter.scopes.items():
            if scope in done:
                continue
            done.add(scope)
            behind = "" if scope == headline else f"_{scope}"
            idle_w, gross_w = one.watts(rails)
            values |= {
                f"watts_idle{behind}": idle_w,
                f"watts_gross{behind}": gross_w,
                f"watts_net{behind}": gross_w - idle_w,
            }
            if embeddings:
                each_s = one.busy.seconds / embeddings
                values[f"joules_per_embedding_gross{behind}"] = gross_w * each_s
                values[f"joules_per_embedding_net{behind}"] = (gross_w - idle_w) * each_s
            if scope == headline:
                values |= {"seconds": one.busy.seconds, "samples_hz": one.busy.hz}
    return values


def _details(seen: list[MeterReadings], said: dict[str, float]) -> dict[str, Any]:
    """Return idle and gross watts of every rail, and what tegrastats said of it."""
    rails = {
        rail: {"idle_w": one.idle.watts([rail]), "gross_w": one.busy.watts([rail])}
        for one in seen
        for rail in one.busy.rails
    }
    for rail, watts in said.items():
        rails.setdefault(rail, {})["tegrastats_w"] = watts
    return {"rails": rails}


def _doubts(seen: list[MeterReadings], values: dict[str, float]) -> Iterator[str]:
    """Yield what the figures are in doubt for."""
    for one in seen:
        if one.busy.kind == "watts" and one.busy.hz < LOWEST_HZ:
            yield (
                f"slow meter: {one.meter.name} gave {one.busy.hz:.0f} readings per second; "
                f"expected {LOWEST_HZ:.0f} or more"
            )
        for rail in one.busy.negative():
            yield f"negative power on {rail}: its sensor is wired backwards, or next to none flowed"
    if values["watts_net"] <= 0:
        yield "net power is not above 0: something else ran while idle power was measured"
    if not values["embeddings"]:
        yield "no embedding came of it: expected a longer run"


def _cross_check(
    seen: list[MeterReadings], headline: str, said: dict[str, float], values: dict[str, float]
) -> Iterator[str]:
    """Add what tegrastats says of the headline to the values; yield where it differs from us."""
    rails = next(x.meter.scopes[headline] for x in seen if headline in x.meter.scopes)
    if not set(rails) <= set(said):
        return
    theirs, ours = sum(said[rail] for rail in rails), values["watts_gross"]
    values["watts_gross_tegrastats"] = theirs
    if abs(theirs - ours) > DISAGREE * max(theirs, ours):
        yield f"tegrastats says {theirs:.2f} W of {', '.join(rails)}; we measured {ours:.2f} W"


def _row(context: Context, contender: str, case: Case, **told: Any) -> Row:
    return Row(
        run=context.run,
        scenario="power",
        contender=contender,
        subject=context.subject,
        case=case,
        environment=context.environment,
        **told,
    )
