"""Scenario `graph`: every contender on `frames`, `head` and `full`, by batch and length.

The contenders of a case take turns, so that their ratios share the machine's conditions, and their
answers are held against a reference while they are measured. `--full` adds the grid of batches and
lengths, and the other silhouette size with random weights, whose cost is the same.
"""

from __future__ import annotations

from collections.abc import Container, Iterator, Mapping, Sequence
from contextlib import ExitStack
from itertools import product
from typing import Any

from cstl_edge.bench import inputs
from cstl_edge.bench.backends.base import USUAL, Arrays, Call, Contender, Missing, contenders
from cstl_edge.bench.context import Context
from cstl_edge.bench.model_under_test import gate_summary, read_export
from cstl_edge.bench.output_check import LIMITS, Agreement
from cstl_edge.bench.record import Case, Ran, Row
from cstl_edge.errors import CstlEdgeError, ModelError
from cstl_edge.measure.timing import Timed, in_turn

REFERENCES = (USUAL, "onnxruntime float32")
"""Whose answers count, the first that is here."""
WINDOW = 30  # frames
CAMERA_HZ = 25.0
PACED = (USUAL, "onnxruntime float32", "onnxruntime int8", "openvino float32", "tensorrt float16")
"""Who is measured at a camera's pace too."""
SHORT = (Case(graph="frames", batch=1), Case(graph="full", batch=1, frames=WINDOW))
DEFAULT = (
    Case(graph="frames", batch=1),
    Case(graph="frames", batch=WINDOW),
    Case(graph="head", batch=1, frames=WINDOW),
    Case(graph="full", batch=1, frames=WINDOW),
)
FULL = (
    *(Case(graph="frames", batch=batch) for batch in (1, 2, 4, 8, 16, 30, 64)),
    *(Case(graph="head", batch=n, frames=s) for n, s in product((1, 4, 16), (10, 30, 60, 120))),
    *(Case(graph="full", batch=n, frames=s) for n, s in product((1, 4), (10, 30, 60, 120))),
)
SIZES = ((64, 44), (128, 88))


def rows(context: Context) -> Iterator[Row]:
    """Yield a row per contender and case, each case when it was measured."""
    yield from _of_model(context, FULL if context.full else SHORT if context.short else DEFAULT)
    if context.full:
        from cstl_edge.bench.model_under_test import with_random_weights

        other = next(size for size in SIZES if size != context.subject.size)
        try:
            twin = with_random_weights(context, other)
        except CstlEdgeError as err:
            yield _row(context, "all", Case(), skipped=f"silhouettes {other}: {err}")
            return
        yield from _of_model(twin, DEFAULT)


def _of_model(context: Context, cases: Sequence[Case]) -> Iterator[Row]:
    here: list[Contender] = []
    for found in contenders(context):
        if isinstance(found, Missing):
            yield _row(context, found.name, Case(), skipped=found.reason)
        else:
            here.append(found)
    for case in cases:
        context.tell(f"graph: {describe(case)}")
        with ExitStack() as stack:
            yield from _Cell(context, case).rows(here, stack)


def describe(case: Case) -> str:
    """Say a case in a few words.

    >>> describe(Case(graph="full", batch=2, frames=30))
    'full, 2 x 30 frames'
    """
    frames = f" x {case.frames} frames" if case.frames else " frames"
    pace = f", {case.paced_hz:g} Hz" if case.paced_hz else ""
    return f"{case.graph}, {case.batch}{frames}{pace}"


class _Cell:
    """One case: its inputs, its reference, who runs it."""

    def __init__(self, context: Context, case: Case) -> None:
        self.context, self.case = context, case
        self.calls: dict[str, Call] = {}
        self.agreements: dict[str, Agreement] = {}

    def rows(self, here: Sequence[Contender], stack: ExitStack) -> Iterator[Row]:
        """Prepare, look at the answers, measure."""
        feed = self._feed(here)
        for contender in here:
            if self.case.graph not in contender.graphs:
                continue
            try:
                call = contender.prepare(str(self.case.graph), feed)
                stack.callback(call.close)
                call.run()
            except ModelError as err:
                yield _row(self.context, contender.name, self.case, skipped=str(err))
                continue
            self.calls[contender.name] = call
        self._agree()
        yield from self._rows(self.case, self._right())
        if self.case.graph == "frames" and self.case.batch == 1:
            paced = self.case.model_copy(update={"paced_hz": CAMERA_HZ})
            yield from self._rows(paced, [x for x in self._right() if x in PACED])

    def _feed(self, here: Sequence[Contender]) -> Arrays:
        """Return the inputs; those of `head` are what the reference makes of a walk."""
        graph, batch, frames = self.case.graph, self.case.batch or 1, self.case.frames or 1
        size = self.context.subject.size
        if graph != "head":
            return inputs.feed(str(graph), batch, frames, size)
        by_name = {contender.name: contender for contender in here}
        trunk = by_name[self._reference(by_name)].prepare(
            "frames", inputs.feed("frames", frames, frames, size)
        )
        trunk.run()
        features = trunk.outputs()["features"]
        trunk.close()
        return inputs.windows(features, batch, frames)

    def _reference(self, names: Container[str]) -> str:
        """Return whose answers count; raise ModelError where neither is here."""
        found = next((name for name in REFERENCES if name in names), None)
        if found is None:
            raise ModelError(
                f"expected {' or '.join(REFERENCES)} to compare answers with; neither ran "
                f"{describe(self.case)}"
            )
        return found

    def _agree(self) -> None:
        """Hold the first answers against the reference's."""
        reference = self._reference(self.calls)
        expected = _kept(self.calls[reference].outputs())
        for name, call in self.calls.items():
            limits = LIMITS[_limits_of(call.ran)]
            self.agreements[name] = Agreement(reference, expected, limits)
            self.agreements[name].look(call.outputs())

    def _right(self) -> list[str]:
        return [name for name, found in self.agreements.items() if found.ok]

    def _rows(self, case: Case, names: Sequence[str]) -> Iterator[Row]:
        """Measure in turn; yield what came of each, and of those who answer wrongly none."""
        budget = self.context.budget
        timed = in_turn(
            {name: self.calls[name].run for name in names},
            warm_up_s=budget.warm_up_s,
            seconds=budget.seconds,
            samples=budget.samples,
            paced_hz=case.paced_hz,
            inspect={name: lambda n=name: self._look(n) for name in names},  # type: ignore[misc]
        )
        wrong = [] if case.paced_hz else [x for x in self.calls if x not in names]
        for name in (*names, *wrong):
            yield self._result(case, name, timed.get(name))

    def _look(self, name: str) -> None:
        self.agreements[name].look(self.calls[name].outputs())

    def _result(self, case: Case, name: str, timed: Timed | None) -> Row:
        ran, check = self.calls[name].ran, self.agreements[name].check
        if timed is None or not check.ok:
            wrong = self.agreements[name].wrong
            return _row(self.context, name, case, ran=ran, check=check, skipped=wrong)
        return _row(
            self.context,
            name,
            case,
            ran=ran,
            check=check,
            details=self._details(ran),
            samples=timed.samples,
            dropped=timed.dropped,
            warnings=timed.warnings,
            conditions=timed.conditions,
        )

    def _details(self, ran: Ran) -> dict[str, Any]:
        """Say what the silhouettes show, and on what the precision of the file was judged."""
        shown = inputs.walk(WINDOW, self.context.subject.size)[1]
        judged = gate_summary(read_export(self.context.folder)[0], ran.precision)
        return {"silhouettes": shown} | ({"gates": judged} if judged else {})


def _limits_of(ran: Ran) -> str:
    """Return whose limits count: the file's precision, or TF32 where a GPU chose that."""
    return ran.computed_in if ran.computed_in == "tfloat32" else ran.precision


def _kept(outputs: Mapping[str, Any]) -> dict[str, Any]:
    """Copy outputs, for the next run may write over them."""
    return {name: array.copy() for name, array in outputs.items()}


def _row(context: Context, contender: str, case: Case, **told: Any) -> Row:
    return Row(
        run=context.run,
        scenario="graph",
        contender=contender,
        subject=context.subject,
        case=case,
        environment=context.environment,
        **told,
    )
