"""Scenario `single`: the cost of one more frame of one walker.

The baseline is eager PyTorch that computes the whole window anew for every answer. Beside it, in
the same turns: whole windows by every other backend, and streaming, with an answer at every frame
(hop 1) or at every fifth. Where windows slide, streaming with whole ones stands there too.

`samples["wall"]` of streaming is per frame: a sample is a whole hop divided by its frames, so each
holds its share of the head. Paced rows have one frame per tick of a camera, as it came.

`values`, from medians of this run:
`times_as_fast_as_usual`                 at the same number of answers: the baseline too answers
                                         once per hop
`times_as_fast_as_usual_at_every_frame`  streaming with a hop above 1, against a baseline that
                                         answers at every frame
`times_as_fast_as_papers_trunk`          where the network has another trunk: against the baseline
                                         of the same sizes with the paper's trunk, random weights
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import replace
from typing import Any

from cstl_edge.bench import inputs
from cstl_edge.bench.backends import pytorch
from cstl_edge.bench.backends.base import BASELINE, Backend, Unavailable
from cstl_edge.bench.backends.open import backends, selected, streaming_backends
from cstl_edge.bench.context import Context
from cstl_edge.bench.model_under_test import random_checkpoint
from cstl_edge.bench.output_check import LIMITS, OutputCheck
from cstl_edge.bench.record import Case, Row
from cstl_edge.bench.salient_scores import salient_scores
from cstl_edge.bench.scenarios.shared import (
    CAMERA_HZ,
    REFERENCES,
    WHOLE_WINDOW,
    WINDOW,
    fields_if_correct,
    first_reference,
    open_encoder,
    without_clocks,
)
from cstl_edge.bench.scenarios.streaming_cases import (
    STREAMED,
    WHOLE_WINDOWS,
    Reference,
    StreamingCase,
    stream_case,
    window_case,
)
from cstl_edge.errors import ModelError
from cstl_edge.measure.stats import percentile
from cstl_edge.measure.timing import measure_interleaved
from cstl_edge.runtime.base import Encoder
from cstl_edge.runtime.manifest import read_manifest

HOPS = (1, 5)
PAPER = "paper"  # trunk of a configuration
PAPERS_TRUNK = f"{BASELINE}, the paper's trunk"
ALONE = "openvino int8"
"""Streams beside `STREAMED` here, where it takes seconds; for many walkers with --full."""


def rows(context: Context) -> Iterator[Row]:
    """Yield a row per case back to back, then per case at a camera's pace."""
    walk, shown = inputs.walk(WINDOW, context.model.size)
    with ExitStack() as stack:
        encoders: dict[str, Encoder] = {}
        for candidate in streaming_backends(context):
            if not context.full and candidate.name not in (*STREAMED, ALONE, *REFERENCES):
                continue
            encoder = open_encoder(context, "single", candidate, Case(graph="streaming"), stack)
            if isinstance(encoder, Row):
                yield encoder
            else:
                encoders[candidate.name] = encoder
        name = first_reference(encoders)
        reference = Reference(name, encoders[name], walk, salient_scores(context.folder))
        cases = list(_stream_cases(context, encoders, reference))
        for case in _window_cases(context, reference, stack):
            if isinstance(case, Row):
                yield case
            else:
                cases.append(case)
        cases += _papers_trunk(context, stack)
        for case in cases:
            case.check()
        yield from _measure(context, cases, shown, None)
        paced = [x for x in cases if x.output_check.ok and (x.streams or x.is_baseline)]
        yield from _measure(context, paced, shown, CAMERA_HZ)


def speedups(
    case: Case, own_ms: float, baseline_ms: float, papers_ms: float | None = None
) -> dict[str, float]:
    """Return how many times as fast as the baseline a frame is.

    Args:
        case: Case with the hop.
        own_ms: Median per frame.
        baseline_ms: Median of a whole window anew.
        papers_ms: The same with the paper's trunk, where the network has another one.

    >>> speedups(Case(hop=5), own_ms=2.0, baseline_ms=100.0)["times_as_fast_as_usual"]
    10.0
    """
    hop = case.hop or 1
    values = {"times_as_fast_as_usual": round(baseline_ms / hop / own_ms, 3)}
    if hop > 1:
        values["times_as_fast_as_usual_at_every_frame"] = round(baseline_ms / own_ms, 3)
    if papers_ms is not None:
        values["times_as_fast_as_papers_trunk"] = round(papers_ms / hop / own_ms, 3)
    return values


def _stream_cases(
    context: Context, encoders: Mapping[str, Encoder], reference: Reference
) -> Iterator[StreamingCase]:
    """Yield streaming with hop 1 and 5, and with hop 1 in whole windows where others slide."""
    for name, encoder in encoders.items():
        if not (context.full or name in (*STREAMED, ALONE)):
            continue
        for hop in HOPS:
            yield stream_case(name, encoder, reference, hop, slide=True)
        if encoder.info.slides and (context.full or name == STREAMED[0]):
            yield stream_case(f"{name}, {WHOLE_WINDOWS}", encoder, reference, 1, slide=False)


def _window_cases(
    context: Context, reference: Reference, stack: ExitStack
) -> Iterator[StreamingCase | Row]:
    """Yield the whole window anew by every backend; a row where one cannot."""
    feed = inputs.feed("full", 1, WINDOW, context.model.size)
    for backend in backends(context):
        if not selected(context, backend.name):
            continue
        if isinstance(backend, Unavailable):
            yield context.row("single", backend.name, case=WHOLE_WINDOW, skipped=backend.reason)
        elif "full" in backend.graphs:
            try:
                yield window_case(backend, feed, reference, stack)
            except ModelError as err:
                yield context.row("single", backend.name, case=WHOLE_WINDOW, skipped=str(err))


def _papers_trunk(context: Context, stack: ExitStack) -> Iterator[StreamingCase]:
    """Yield the baseline with the paper's trunk, where the network has another and torch is here.

    Its weights are random, so its answers are held against themselves.
    """
    config = read_manifest(context.folder).config
    if config.get("trunk", PAPER) == PAPER or context.short or pytorch.missing(context):
        return
    weights = random_checkpoint({**config, "trunk": PAPER})
    (backend, *_) = pytorch.backends(replace(context, weights=weights))
    assert isinstance(backend, Backend)
    feed = inputs.feed("full", 1, WINDOW, context.model.size)
    call = stack.enter_context(closing(backend.open_graph("full", feed)))
    call.run()
    first = {name: array.copy() for name, array in call.outputs().items()}
    check = OutputCheck("itself", first, LIMITS["float32"])

    def run() -> None:
        call.run()

    def again() -> None:
        check.add(call.outputs())

    yield StreamingCase(PAPERS_TRUNK, WHOLE_WINDOW, call.ran, run, 1, again, check, run)


def _measure(
    context: Context, cases: Sequence[StreamingCase], shown: str, paced_hz: float | None
) -> Iterator[Row]:
    """Time the cases in turn; yield a row of each, without times where answers are wrong."""
    budget, pace = context.budget, f"at {paced_hz:g} Hz" if paced_hz else "in turn"
    right = [case for case in cases if case.output_check.ok]
    context.progress(f"single: {len(right)} cases {pace}")
    timings = measure_interleaved(
        {case.key: case.step if paced_hz else case.run for case in right},
        warm_up_s=0.0 if paced_hz else budget.warm_up_s,
        seconds=budget.seconds,
        samples=budget.samples,
        paced_hz=paced_hz,
        inspect={case.key: case.check for case in right},
    )
    frames = {case.key: 1 if paced_hz else case.frames for case in cases}
    wall = {key: [ms / frames[key] for ms in x.samples["wall"]] for key, x in timings.items()}
    baselines = [wall[case.key] for case in right if case.is_baseline and wall[case.key]]
    baseline_ms = percentile(baselines[0], 50) if baselines and paced_hz is None else None
    papers = [wall[case.key] for case in right if case.name == PAPERS_TRUNK and wall[case.key]]
    papers_ms = percentile(papers[0], 50) if papers else None
    for streaming in sorted(cases, key=lambda case: case.key not in timings):
        key, case = streaming.key, streaming.case.model_copy(update={"paced_hz": paced_hz})
        fields: dict[str, Any] = {}
        if timing := timings.get(key):
            own_ms = percentile(wall[key], 50) if wall[key] else None
            fields = vars(timing) | {
                "samples": {**timing.samples, "wall": wall[key]},
                "warnings": _warnings(timing.warnings, case),
                "values": speedups(case, own_ms, baseline_ms, papers_ms)
                if own_ms and baseline_ms
                else {},
                "details": {"silhouettes": shown, "frames_per_sample": frames[key]},
            }
        fields = fields_if_correct(streaming.output_check, **fields)
        yield context.row("single", streaming.name, case=case, ran=streaming.ran, **fields)


def _warnings(warnings: Sequence[str], case: Case) -> list[str]:
    """Leave out that frames with an answer and frames without one take different times."""
    varies = case.paced_hz is not None and (case.hop or 1) > 1
    return without_clocks(warnings) if varies else [*warnings]
