"""Scenario `graph`: latency of `frames`, `head` and `full` on every backend, by batch and length.

The backends of a case take turns, so that their ratios share the machine's conditions, and their
answers are compared with a reference while they are measured. `--full` adds the grid of batches and
lengths, and the other silhouette size with random weights, whose cost is the same.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing
from functools import partial
from itertools import product
from typing import Any

from cstl_edge.bench import inputs
from cstl_edge.bench.backends.base import BASELINE, Backend, GraphUnderTest, Unavailable
from cstl_edge.bench.backends.open import backends
from cstl_edge.bench.context import Context
from cstl_edge.bench.model_under_test import gate_summary, read_export, with_random_weights
from cstl_edge.bench.output_check import LIMITS, SCORES, OutputCheck
from cstl_edge.bench.record import Case, Ran, Row
from cstl_edge.bench.salient_scores import salient_scores
from cstl_edge.bench.scenarios.shared import (
    CAMERA_HZ,
    WHOLE_WINDOW,
    WINDOW,
    fields_if_correct,
    first_reference,
    other_size,
)
from cstl_edge.errors import CstlEdgeError, ModelError
from cstl_edge.measure.timing import measure_interleaved
from cstl_edge.runtime.graph import Arrays

PACED = (
    BASELINE,
    "onnxruntime float32",
    "onnxruntime int8",
    "openvino float32",
    "tensorrt float16",
)
"""Backends that are measured at a camera's pace too."""
SHORT_CASES = (Case(graph="frames", batch=1), WHOLE_WINDOW)
DEFAULT_CASES = (
    Case(graph="frames", batch=1),
    Case(graph="frames", batch=WINDOW),
    Case(graph="head", batch=1, frames=WINDOW),
    WHOLE_WINDOW,
)
FULL_CASES = (
    *(Case(graph="frames", batch=batch) for batch in (1, 2, 4, 8, 16, 30, 64)),
    *(Case(graph="head", batch=n, frames=s) for n, s in product((1, 4, 16), (10, 30, 60, 120))),
    *(Case(graph="full", batch=n, frames=s) for n, s in product((1, 4), (10, 30, 60, 120))),
)


def rows(context: Context) -> Iterator[Row]:
    """Yield a row per backend and case, each case when it was measured."""
    yield from _of_model(
        context, FULL_CASES if context.full else SHORT_CASES if context.short else DEFAULT_CASES
    )
    if context.full:
        size = other_size(context)
        try:
            twin = with_random_weights(context, size)
        except CstlEdgeError as err:
            yield context.row("graph", "all", skipped=f"silhouettes {size}: {err}")
            return
        yield from _of_model(twin, DEFAULT_CASES)


def _of_model(context: Context, cases: Sequence[Case]) -> Iterator[Row]:
    available: dict[str, Backend] = {}
    for backend in backends(context):
        if isinstance(backend, Unavailable):
            yield context.row("graph", backend.name, skipped=backend.reason)
        else:
            available[backend.name] = backend
    for case in cases:
        context.progress(f"graph: {describe(case)}")
        with ExitStack() as stack:
            yield from _GraphCase(context, case).rows(available, stack)


def describe(case: Case) -> str:
    """Return a case in a few words.

    >>> describe(Case(graph="full", batch=2, frames=30))
    'full, 2 x 30 frames'
    """
    frames = f" x {case.frames} frames" if case.frames else " frames"
    pace = f", {case.paced_hz:g} Hz" if case.paced_hz else ""
    return f"{case.graph}, {case.batch}{frames}{pace}"


class _GraphCase:
    """One case: its inputs, the calls of the backends, the checks of their outputs."""

    def __init__(self, context: Context, case: Case) -> None:
        self.context, self.case = context, case
        self.calls: dict[str, GraphUnderTest] = {}
        self.checks: dict[str, OutputCheck] = {}

    def rows(self, available: dict[str, Backend], stack: ExitStack) -> Iterator[Row]:
        """Prepare, check the first outputs, measure."""
        feed = self._feed(available)
        for name, backend in available.items():
            if self.case.graph not in backend.graphs:
                continue
            try:
                call = stack.enter_context(closing(backend.open_graph(str(self.case.graph), feed)))
                call.run()
            except ModelError as err:
                yield self.context.row("graph", name, case=self.case, skipped=str(err))
                continue
            self.calls[name] = call
        self._check_first_outputs(feed)
        yield from self._measure(self.case, self._passing_backends())
        if self.case.graph == "frames" and self.case.batch == 1:
            paced = self.case.model_copy(update={"paced_hz": CAMERA_HZ})
            yield from self._measure(
                paced, [name for name in self._passing_backends() if name in PACED]
            )

    def _feed(self, available: dict[str, Backend]) -> Arrays:
        """Return the inputs; those of `head` are the reference's features of a walk."""
        batch, frames, size = self.case.batch or 1, self.case.frames or 1, self.context.model.size
        if self.case.graph != "head":
            return inputs.feed(str(self.case.graph), batch, frames, size)
        reference = available[first_reference(available, f"neither ran {describe(self.case)}")]
        walk = inputs.feed("frames", frames, frames, size)
        with closing(reference.open_graph("frames", walk)) as trunk:
            trunk.run()
            return inputs.windows(trunk.outputs()["features"], batch, frames)

    def _scores(self, feed: Arrays) -> Arrays:
        """Return the scores behind the salient frames of `full` and `head`, by their name."""
        scores = salient_scores(self.context.folder)
        if scores is None or self.case.graph == "frames":
            return {}
        if self.case.graph == "head":
            return {SCORES: scores.of_windows(feed["features"])}
        return {SCORES: scores.of_silhouettes(feed["silhouettes"])}

    def _check_first_outputs(self, feed: Arrays) -> None:
        """Compare the first outputs of every backend with the reference's."""
        reference = first_reference(self.calls, f"neither ran {describe(self.case)}")
        outputs = self.calls[reference].outputs()
        expected = {key: array.copy() for key, array in outputs.items()}  # runs write over them
        expected |= self._scores(feed)
        for name, call in self.calls.items():
            # The file's precision gives the limits, or TF32 where a GPU chose that.
            tf32 = call.ran.computed_in == "tfloat32"
            limits = LIMITS["tfloat32" if tf32 else call.ran.precision]
            self.checks[name] = OutputCheck(reference, expected, limits)
            self._check(name)

    def _check(self, name: str) -> None:
        self.checks[name].add(self.calls[name].outputs())

    def _passing_backends(self) -> list[str]:
        return [name for name, check in self.checks.items() if check.ok]

    def _measure(self, case: Case, names: Sequence[str]) -> Iterator[Row]:
        """Time the backends in turn; yield a row of each, without times where its check fails."""
        budget = self.context.budget
        timings = measure_interleaved(
            {name: self.calls[name].run for name in names},
            warm_up_s=budget.warm_up_s,
            seconds=budget.seconds,
            samples=budget.samples,
            paced_hz=case.paced_hz,
            inspect={name: partial(self._check, name) for name in names},
        )
        failed = [] if case.paced_hz else [name for name in self.calls if name not in names]
        for name in (*names, *failed):
            ran, timing = self.calls[name].ran, vars(timings[name]) if name in timings else {}
            fields = fields_if_correct(self.checks[name], details=self._details(ran), **timing)
            yield self.context.row("graph", name, case=case, ran=ran, **fields)

    def _details(self, ran: Ran) -> dict[str, Any]:
        """Return the description of the silhouettes and the accuracy gate that was passed."""
        shown = inputs.walk(WINDOW, self.context.model.size)[1]
        gate = gate_summary(read_export(self.context.folder)[0], ran.precision)
        return {"silhouettes": shown} | ({"gates": gate} if gate else {})
