"""Workloads under power measurement: `full` back to back, and one walker at a camera's pace."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, closing
from dataclasses import dataclass
from functools import partial

from cstl_edge.bench import inputs
from cstl_edge.bench.backends.base import BASELINE, Backend, StreamingBackend, ran_of
from cstl_edge.bench.backends.open import backends, streaming_backends
from cstl_edge.bench.context import Context
from cstl_edge.bench.output_check import LIMITS, SCORES, OutputCheck
from cstl_edge.bench.record import Case, Check, Ran
from cstl_edge.bench.salient_scores import salient_scores
from cstl_edge.bench.scenarios.shared import HOP, PACED_STREAM, WHOLE_WINDOW, WINDOW
from cstl_edge.bench.scenarios.streaming_cases import WalkStream
from cstl_edge.errors import ModelError

REFERENCE = "onnxruntime float32"
BACK_TO_BACK = (
    BASELINE,
    REFERENCE,
    "onnxruntime int8",
    "openvino float32",
    "openvino int8",
    "pytorch float16, cuda, cuda graph",
    "tensorrt float16",
    "tensorrt-rtx float16",
)
"""The baseline, and the best of each backend."""
SHORT_BACK_TO_BACK = (REFERENCE, "tensorrt float16")  # in the form for CI, which streams nothing


@dataclass(frozen=True)
class RunningWorkload:
    """An open workload, as it really runs."""

    ran: Ran
    run: Callable[[], int]  # run once; return the number of embeddings that it gave
    check: Callable[[], Check | None]
    """Compare the last answers with float32's (ModelError where they are wrong)."""


@dataclass(frozen=True)
class Workload:
    """One backend and case whose power is measured."""

    name: str  # of the backend under test
    case: Case
    open: Callable[[ExitStack], RunningWorkload]
    """Open it until the stack ends (ModelError where it is refused)."""


def workloads(context: Context) -> Iterator[Workload]:
    """Yield the workloads of this machine's backends and runtimes."""
    graphs = (x for x in backends(context) if isinstance(x, Backend) and "full" in x.graphs)
    available = {x.name: x for x in graphs}
    for name in SHORT_BACK_TO_BACK if context.short else BACK_TO_BACK:
        if name in available:
            yield Workload(name, WHOLE_WINDOW, partial(_open_full, context, available, name))
    if context.short:
        return
    paced = PACED_STREAM.model_copy(update={"walkers": 1})
    for candidate in streaming_backends(context):
        if isinstance(candidate, StreamingBackend) and candidate.name in BACK_TO_BACK:
            yield Workload(candidate.name, paced, partial(_open_stream, candidate))


def _open_full(
    context: Context, available: Mapping[str, Backend], name: str, stack: ExitStack
) -> RunningWorkload:
    """Open the graph `full`, and keep the float32 answers to the same walk."""
    feed = inputs.feed("full", 1, WINDOW, context.model.size)

    reference, call = (
        stack.enter_context(closing(available[x].open_graph("full", feed)))
        for x in (REFERENCE, name)
    )
    reference.run()
    expected = {key: array.copy() for key, array in reference.outputs().items()}
    if scores := salient_scores(context.folder):
        expected[SCORES] = scores.of_silhouettes(feed["silhouettes"])
    output_check = OutputCheck(REFERENCE, expected, LIMITS[call.ran.precision])

    def run() -> int:
        call.run()
        return 1

    def check() -> Check:
        output_check.add(call.outputs())
        result = output_check.check
        if not result.ok:
            raise ModelError(f"answers wrongly: cosine {result.cosine:.6f}")
        return result

    return RunningWorkload(call.ran, run, check)


def _open_stream(candidate: StreamingBackend, stack: ExitStack) -> RunningWorkload:
    """Open a runtime that streams one walker, its window full."""
    encoder = stack.enter_context(closing(candidate.open_encoder()))
    stream = WalkStream(encoder, inputs.walk(WINDOW, encoder.info.size)[0], HOP)
    return RunningWorkload(ran_of(encoder.info), stream.step, lambda: None)
