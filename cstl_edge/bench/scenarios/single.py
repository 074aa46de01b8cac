"""Scenario `single`: one walker, and what one more frame of them costs.

The usual way is eager PyTorch that computes the whole window anew for every answer. Beside it, in
the same turns: whole windows by every other contender, and streaming, with an answer at every frame
(hop 1) or at every fifth. Where windows slide, streaming with whole ones stands there too.

`samples["wall"]` of streaming is per frame: a sample is a whole hop divided by its frames, so each
holds its share of the head. Paced rows have one frame per tick of a camera, as it came.

`values`, from medians of this run:
`times_as_fast_as_usual`                 at the same number of answers: the usual way too answers
                                         once per hop
`times_as_fast_as_usual_at_every_frame`  streaming with a hop above 1, against a usual way that
                                         answers at every frame
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from typing import Any

from cstl_edge.bench import inputs
from cstl_edge.bench.backends.base import Missing, contenders
from cstl_edge.bench.backends.encoders import Candidate, asked, candidates, result
from cstl_edge.bench.context import Context
from cstl_edge.bench.record import Case, Row
from cstl_edge.bench.scenarios.streaming_cases import (
    REFERENCES,
    STREAMED,
    WHOLE_WINDOWS,
    Reference,
    StreamingCase,
    first_reference,
    stream_case,
    window_case,
    wrong_answers,
)
from cstl_edge.errors import CstlEdgeError, ModelError
from cstl_edge.measure.stats import percentile
from cstl_edge.measure.timing import in_turn
from cstl_edge.runtime.base import Encoder

WINDOW = 30  # frames
HOPS = (1, 5)
CAMERA_HZ = 25.0
ALONE = "openvino int8"
"""Streams beside `STREAMED` here, where it takes seconds; for many walkers with --full."""


def rows(context: Context) -> Iterator[Row]:
    """Yield a row per way back to back, then per way at a camera's pace."""
    walk, shown = inputs.walk(WINDOW, context.subject.size)
    with ExitStack() as stack:
        here: dict[str, Encoder] = {}
        for found in _wanted(context):
            if isinstance(found, Missing):
                yield _row(context, found.name, Case(graph="streaming"), skipped=found.reason)
                continue
            try:
                here[found.name] = found.open()
                stack.callback(here[found.name].close)
            except CstlEdgeError as err:
                yield _row(context, found.name, Case(graph="streaming"), skipped=str(err))
        name = first_reference(here)
        reference = Reference(name, here[name], walk)
        ways = list(_streams(context, here, reference))
        for way in _whole(context, reference, stack):
            if isinstance(way, Row):
                yield way
            else:
                ways.append(way)
        for way in ways:
            way.look()
        right = [way for way in ways if way.agreement.ok]
        yield from _measured(context, right, shown, None)
        for way in ways:
            if way not in right:
                yield _row(context, way.name, way.case, ran=way.ran, **wrong_answers(way.agreement))
        paced = [way for way in right if way.agreement.ok and (way.streams or way.usual)]
        yield from _measured(context, paced, shown, CAMERA_HZ)


def speedups(case: Case, own_ms: float, usual_ms: float) -> dict[str, float]:
    """Return how many times as fast as the usual way a frame is.

    own_ms: median per frame; usual_ms: median of a whole window anew

    >>> ratios(Case(hop=5), own_ms=2.0, usual_ms=100.0)["times_as_fast_as_usual"]
    10.0
    """
    hop = case.hop or 1
    found = {"times_as_fast_as_usual": round(usual_ms / hop / own_ms, 3)}
    if hop > 1:
        found["times_as_fast_as_usual_at_every_frame"] = round(usual_ms / own_ms, 3)
    return found


def _wanted(context: Context) -> Iterator[Candidate | Missing]:
    for found in candidates(context):
        if context.full or found.name in (*STREAMED, ALONE) or found.name in REFERENCES:
            yield found


def _streams(
    context: Context, here: Mapping[str, Encoder], reference: Reference
) -> Iterator[StreamingCase]:
    """Yield the ways to stream: hop 1 and 5, and hop 1 with whole windows where others slide."""
    for name, encoder in here.items():
        if not (context.full or name in (*STREAMED, ALONE)):
            continue
        for hop in HOPS:
            yield stream_case(name, encoder, reference, hop, slide=True)
        if encoder.info.slides and (context.full or name == STREAMED[0]):
            yield stream_case(f"{name}, {WHOLE_WINDOWS}", encoder, reference, 1, slide=False)


def _whole(
    context: Context, reference: Reference, stack: ExitStack
) -> Iterator[StreamingCase | Row]:
    """Yield the whole window anew by every contender; a row where one cannot."""
    case = Case(graph="full", batch=1, frames=WINDOW)
    feed = inputs.feed("full", 1, WINDOW, context.subject.size)
    for found in contenders(context):
        if not asked(context, found.name):
            continue
        if isinstance(found, Missing):
            yield _row(context, found.name, case, skipped=found.reason)
        elif "full" in found.graphs:
            try:
                yield window_case(found, feed, case, reference, stack)
            except ModelError as err:
                yield _row(context, found.name, case, skipped=str(err))


def _measured(
    context: Context, ways: Sequence[StreamingCase], shown: str, paced_hz: float | None
) -> Iterator[Row]:
    """Time the ways in turn; yield what came of each, and of those who answer wrongly none."""
    budget = context.budget
    context.tell(f"single: {len(ways)} ways " + (f"at {paced_hz:g} Hz" if paced_hz else "in turn"))
    timed = in_turn(
        {way.key: way.step if paced_hz else way.run for way in ways},
        warm_up_s=0.0 if paced_hz else budget.warm_up_s,
        seconds=budget.seconds,
        samples=budget.samples,
        paced_hz=paced_hz,
        inspect={way.key: way.look for way in ways},
    )
    frames = {way.key: 1 if paced_hz else way.frames for way in ways}
    wall = {key: [ms / frames[key] for ms in one.samples["wall"]] for key, one in timed.items()}
    usual_ms = next((percentile(wall[w.key], 50) for w in ways if w.usual and wall[w.key]), None)
    for way in ways:
        case = way.case.model_copy(update={"paced_hz": paced_hz})
        if not way.agreement.ok:
            yield _row(context, way.name, case, ran=way.ran, **wrong_answers(way.agreement))
            continue
        one, own = timed[way.key], wall[way.key]
        compared = own and usual_ms and paced_hz is None
        values = speedups(case, percentile(own, 50), usual_ms or 0.0) if compared else {}
        yield _row(
            context,
            way.name,
            case,
            ran=way.ran,
            check=way.agreement.check,
            samples={**one.samples, "wall": own},
            values=values,
            dropped=one.dropped,
            warnings=_doubts(one.warnings, case),
            conditions=one.conditions,
            details={"silhouettes": shown, "frames_per_sample": frames[way.key]},
        )


def _doubts(warnings: Sequence[str], case: Case) -> list[str]:
    """Leave out that frames with an answer and frames without one take different times."""
    varies = case.paced_hz is not None and (case.hop or 1) > 1
    return [one for one in warnings if not (varies and one.startswith("unstable clocks"))]


def _row(context: Context, contender: str, case: Case, **told: Any) -> Row:
    return result(context, "single", contender, case=case, **told)
