"""What runs while power is measured: `full` back to back, and one walker at a camera's pace."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass

from cstl_edge.bench import inputs
from cstl_edge.bench.backends.base import USUAL, Call, Contender, contenders
from cstl_edge.bench.backends.encoders import Candidate, candidates, ran_of
from cstl_edge.bench.context import Context
from cstl_edge.bench.output_check import LIMITS, Agreement
from cstl_edge.bench.record import Case, Check, Ran
from cstl_edge.errors import ModelError
from cstl_edge.runtime.streaming.encoder import StreamingEncoder

WINDOW, HOP, FPS = 30, 5, 25.0
REFERENCE = "onnxruntime float32"
BACK_TO_BACK = (
    USUAL,
    REFERENCE,
    "onnxruntime int8",
    "openvino float32",
    "openvino int8",
    "pytorch float16, cuda, cuda graph",
    "tensorrt float16",
    "tensorrt-rtx float16",
)
"""The usual way, and the best of each backend."""
SHORT = (REFERENCE, "tensorrt float16")
"""In the form for CI, which streams nothing."""


@dataclass(frozen=True)
class RunningWorkload:
    """Something that runs, as it really does."""

    ran: Ran
    run: Callable[[], int]
    """Run once; return how many embeddings came of it."""
    check: Callable[[], Check | None]
    """Hold the last answers against float32's; ModelError where they are wrong."""


@dataclass(frozen=True)
class Workload:
    """One row to be: who runs what."""

    name: str
    case: Case
    open: Callable[[ExitStack], RunningWorkload]
    """ModelError where it is refused; the stack closes it."""


def workloads(context: Context) -> Iterator[Workload]:
    """Yield what this machine has of the backends and runtimes."""
    here = {x.name: x for x in contenders(context) if isinstance(x, Contender)}
    case = Case(graph="full", batch=1, frames=WINDOW)
    wanted = SHORT if context.short else BACK_TO_BACK
    for name in (name for name in wanted if name in here):
        yield Workload(name, case, lambda stack, n=name: _full(context, here, n, stack))  # type: ignore[misc]
    if context.short:
        return
    paced = Case(graph="streaming", frames=WINDOW, hop=HOP, walkers=1, paced_hz=FPS)
    for one in candidates(context):
        if isinstance(one, Candidate) and one.name in BACK_TO_BACK:
            yield Workload(one.name, paced, lambda stack, c=one: _stream(context, c, stack))  # type: ignore[misc]


def _full(
    context: Context, here: dict[str, Contender], name: str, stack: ExitStack
) -> RunningWorkload:
    """Open the graph `full`, with what float32 answers to the same walk."""
    feed = inputs.feed("full", 1, WINDOW, context.subject.size)

    def opened(which: str) -> Call:
        call = here[which].prepare("full", feed)
        stack.callback(call.close)
        return call

    reference, call = opened(REFERENCE), opened(name)
    reference.run()
    expected = {key: array.copy() for key, array in reference.outputs().items()}
    agreement = Agreement(REFERENCE, expected, LIMITS[call.ran.precision])

    def run() -> int:
        call.run()
        return 1

    def check() -> Check:
        agreement.look(call.outputs())
        found = agreement.check
        if not found.ok:
            raise ModelError(f"answers wrongly: cosine {found.cosine:.6f}")
        return found

    return RunningWorkload(call.ran, run, check)


def _stream(context: Context, candidate: Candidate, stack: ExitStack) -> RunningWorkload:
    """Open a runtime that streams one walker, its window full."""
    encoder = candidate.open()
    stack.callback(encoder.close)
    walk = inputs.walk(WINDOW, encoder.info.size)[0]  # [s, h, w]
    stream = StreamingEncoder[int](encoder, WINDOW, HOP)
    pushed = 0

    def run() -> int:
        nonlocal pushed
        pushed += 1
        return len(stream.push({0: walk[pushed % WINDOW]}))

    for _ in range(WINDOW):
        run()
    return RunningWorkload(ran_of(encoder.info), run, lambda: None)
