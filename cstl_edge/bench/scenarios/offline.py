"""Scenario `offline`: whole sequences embedded as fast as can be, as when people are enrolled.

A row per backend, precision, batch and length; silhouettes are there already, so neither video nor
segmentation is in it. Reported besides: how long the test half of CASIA-B would take, 5,485
sequences. How many frames those have is not known to us: a row says how many it assumes, windows of
30 frames, and with --full whole walks of 90 too.

`values`, from the total time of the samples, since throughput is of all and not of the median:
`sequences_per_s`, `frames_per_s`
`sequences_per_core_minute`  on a CPU, by the threads used
`casia_b_test_minutes`       for all 5,485 sequences, on all threads
`best_batch`                 which batch gave most to this contender at this length
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

from cstl_edge.arrays import Silhouettes
from cstl_edge.bench import inputs
from cstl_edge.bench.backends.base import Missing
from cstl_edge.bench.backends.encoders import Embedder, cores_of, embedders, result
from cstl_edge.bench.context import Context
from cstl_edge.bench.output_check import Agreement
from cstl_edge.bench.record import Case, Ran, Row
from cstl_edge.bench.scenarios.streaming_cases import (
    Reference,
    named_outputs,
    open_reference,
    wrong_answers,
)
from cstl_edge.errors import CstlEdgeError
from cstl_edge.measure.timing import Timed, in_turn
from cstl_edge.runtime.base import Embedded

CASIA_B_TEST = 5485
"""Sequences of the 50 test people that the field's toolbox finds (5,500 were recorded)."""
WINDOW, WALK = 30, 90  # frames
SHORT, DEFAULT, FULL = (2,), (1, 8), (1, 2, 4, 8, 16, 32)  # sequences of a batch
LEAST_SAMPLES = 3
"""A batch holds many sequences, so fewer calls do; never fewer than these."""


def rows(context: Context) -> Iterator[Row]:
    """Yield the rows of one contender after the other, its batches measured in turn."""
    lengths = (WINDOW, WALK) if context.full else (WINDOW,)
    with ExitStack() as stack:
        references = [
            stack.enter_context(open_reference(context, inputs.walk(s, context.subject.size)[0]))
            for s in lengths
        ]
        for found in embedders(context):
            if isinstance(found, Missing):
                yield _row(context, found.name, Case(graph="full"), skipped=found.reason)
                continue
            for reference in references:
                case = Case(graph="full", frames=len(reference.walk))
                context.tell(f"offline: {found.name}, {case.frames} frames")
                try:
                    yield from _length(context, found, reference, case)
                except CstlEdgeError as err:
                    yield _row(context, found.name, case, skipped=str(err))


def throughput(batch: int, frames: int, wall_ms: list[float], ran: Ran) -> dict[str, float]:
    """Return the figures of a batch, from the raw times of its calls [ms].

    >>> ran = Ran(backend="", provider="cpu", precision="", computed_in="", version="", threads=2)
    >>> throughput(4, 30, [150.0, 250.0], ran)["sequences_per_core_minute"]
    600.0
    """
    per_s = 1e3 * batch * len(wall_ms) / sum(wall_ms)
    found = {
        "sequences_per_s": per_s,
        "frames_per_s": per_s * frames,
        "casia_b_test_minutes": CASIA_B_TEST / per_s / 60,
    }
    if cores := cores_of(ran):
        found["sequences_per_core_minute"] = 60 * per_s / cores
    return found


def _length(context: Context, found: Embedder, reference: Reference, case: Case) -> Iterator[Row]:
    """Yield the batches of one contender at one length, those that answer wrongly without times."""
    frames, size = len(reference.walk), context.subject.size
    batches = FULL if context.full else SHORT if context.short else DEFAULT
    given = {n: inputs.feed("full", n, frames, size)["silhouettes"] for n in batches}
    agreements: dict[str, Agreement] = {}
    for n, silhouettes in given.items():
        answered = found.whole.encode(silhouettes)
        agreements[str(n)] = _agreement(reference, found.ran(), answered)
    timed = in_turn(
        {str(n): lambda n=n: _encode(found, given[n]) for n in given if agreements[str(n)].ok},  # type: ignore[misc]
        warm_up_s=context.budget.warm_up_s,
        seconds=context.budget.seconds,
        samples=max(LEAST_SAMPLES, context.budget.samples // 3),
    )
    ran, shown = found.ran(), inputs.walk(frames, size)[1]
    figures = {
        n: throughput(int(n), frames, one.samples["wall"], ran)
        for n, one in timed.items()
        if one.samples["wall"]
    }
    best = max(figures, key=lambda n: figures[n]["sequences_per_s"], default=None)
    for key, agreement in agreements.items():
        told: dict[str, Any] = {"ran": ran, "details": {"silhouettes": shown}}
        if key in timed:
            values = figures.get(key, {}) | ({"best_batch": int(best)} if best else {})
            told |= {"check": agreement.check, "values": values, **_told(timed[key])}
        else:
            told |= wrong_answers(agreement)
        yield _row(context, found.name, case.model_copy(update={"batch": int(key)}), **told)


def _encode(found: Embedder, silhouettes: Silhouettes) -> None:
    found.whole.encode(silhouettes)


def _agreement(reference: Reference, ran: Ran, answered: Embedded) -> Agreement:
    """Hold every sequence of a batch, each a turn of the walk, against the reference."""
    agreement = reference.agreement(ran)
    for i, (embedding, salient) in enumerate(zip(*answered, strict=True)):
        agreement.reference = reference.at(i)
        agreement.look(named_outputs(embedding[None], salient[None]))
    return agreement


def _told(timed: Timed) -> dict[str, Any]:
    return {
        "samples": timed.samples,
        "dropped": timed.dropped,
        "warnings": timed.warnings,
        "conditions": timed.conditions,
    }


def _row(context: Context, contender: str, case: Case, **told: Any) -> Row:
    return result(context, "offline", contender, case=case, **told)
