"""Parts that scenarios share: their common sizes, opening of encoders, choice of the reference."""

from __future__ import annotations

from collections.abc import Container, Iterable
from contextlib import ExitStack, closing
from typing import Any

from cstl_edge.bench.backends.base import BASELINE, StreamingBackend, Unavailable
from cstl_edge.bench.context import Context
from cstl_edge.bench.output_check import OutputCheck
from cstl_edge.bench.record import Case, Row
from cstl_edge.errors import CstlEdgeError, ModelError
from cstl_edge.runtime.base import Encoder
from cstl_edge.silhouette import SIZES

WINDOW = 30  # frames
HOP = 5  # frames between two answers for many walkers, and while power is measured
CAMERA_HZ = 25.0
WHOLE_WINDOW = Case(graph="full", batch=1, frames=WINDOW)
PACED_STREAM = Case(graph="streaming", frames=WINDOW, hop=HOP, paced_hz=CAMERA_HZ)
REFERENCES = (BASELINE, "onnxruntime float32")
"""Backends whose answers are the reference, the first that this machine has."""


def first_reference(names: Container[str], otherwise: str = "got neither") -> str:
    """Return the backend whose answers are the reference (ModelError where neither is here)."""
    for name in REFERENCES:
        if name in names:
            return name
    raise ModelError(f"expected {' or '.join(REFERENCES)} to compare answers with; {otherwise}")


def other_size(context: Context) -> tuple[int, int]:
    """Return the silhouette size that the model under test does not take, for the long form."""
    return next(size for size in SIZES if size != context.model.size)


def open_encoder(
    context: Context,
    scenario: str,
    candidate: StreamingBackend | Unavailable,
    case: Case,
    stack: ExitStack,
) -> Encoder | Row:
    """Open an encoder until the stack ends; return a row with the reason where that fails.

    Args:
        context: Context of the call.
        scenario: Name of the scenario that opens it, for the row.
        candidate: Encoder to open, or a backend that this machine lacks.
        case: Case of the row.
        stack: Stack that closes the encoder.
    """
    if isinstance(candidate, Unavailable):
        return context.row(scenario, candidate.name, case=case, skipped=candidate.reason)
    try:
        return stack.enter_context(closing(candidate.open_encoder()))
    except CstlEdgeError as err:
        return context.row(scenario, candidate.name, case=case, skipped=str(err))


def without_clocks(warnings: Iterable[str]) -> list[str]:
    """Leave out "unstable clocks": samples differ by their work, whatever the clocks do."""
    return [text for text in warnings if not text.startswith("unstable clocks")]


def fields_if_correct(output_check: OutputCheck, **fields: Any) -> dict[str, Any]:
    """Return the fields of a row; of a backend with wrong outputs the reason alone."""
    wrong = {"skipped": output_check.problem}
    return {"check": output_check.check, **(fields if output_check.ok else wrong)}
