"""Scenario `graph`: every backend has a row per case, and wrong answers no time."""

from dataclasses import replace

import numpy as np
import pytest
from standin_bench import raising, ran

from cstl_edge.bench.backends.base import BASELINE, Backend, GraphUnderTest, Unavailable
from cstl_edge.bench.record import Case
from cstl_edge.bench.scenarios import graph
from cstl_edge.errors import BackendUnavailable, ModelError


@pytest.fixture
def field(monkeypatch):
    """Let made-up backends run; returns a function that takes them."""

    def take(*candidates):
        monkeypatch.setattr(graph, "backends", lambda context: iter(candidates))

    return take


def made_up(name, answer, stages=None, graphs=("frames", "full"), precision="float32"):
    """Return a backend whose answers come from a function of the run's number."""

    def prepare(which, feed):
        count = [0]

        def run():
            count[0] += 1
            return stages

        def outputs():
            return {"features": answer(count[0])}

        return GraphUnderTest(ran=ran(precision, "float32"), inputs=feed, run=run, outputs=outputs)

    return Backend(name, prepare, graphs=graphs)


def right(number):
    return np.ones((1, 4, 8), np.float32)


def test_every_backend_has_a_row_per_case_with_samples_and_a_check(reduced):
    rows = [*graph.rows(reduced)]
    with_figures = [row for row in rows if row.samples]
    cases = {(row.case.graph, row.case.paced_hz) for row in with_figures}
    assert cases == {("frames", None), ("frames", 25.0), ("full", None)}
    for row in with_figures:
        assert row.check.ok
        assert row.check.reference.startswith("onnxruntime float32")
        assert len(row.samples["wall"]) >= reduced.budget.samples
        assert row.ran.backend in row.contender
        assert row.skipped is None
    assert all(row.details["silhouettes"] == "random blocks" for row in with_figures)
    gated = {row.ran.precision for row in with_figures if "gates" in row.details}
    assert gated == {"float16", "int8"}
    names = [r.contender for r in with_figures if r.case.graph == "full"]
    assert names[:3] == ["onnxruntime float32", "onnxruntime float16", "onnxruntime int8"]
    missing = {row.contender: row.skipped for row in rows if row.skipped}
    assert {BASELINE, "tensorrt float16"} <= {*missing}


def test_pytorch_is_the_reference_where_it_is(trained):
    rows = [row for row in graph.rows(trained) if row.samples]
    assert {row.check.reference.split(",")[0] for row in rows} == {BASELINE}
    assert all(row.check.cosine > 0.99 for row in rows)


def test_the_head_is_fed_what_the_reference_makes_of_a_walk(trained, monkeypatch):
    monkeypatch.setattr(
        graph, "SHORT_CASES", [case for case in graph.DEFAULT_CASES if case.graph == "head"]
    )
    rows = [row for row in graph.rows(trained) if row.case != Case()]
    assert {"onnxruntime float32", BASELINE} <= {row.contender for row in rows if row.samples}
    assert "onnxruntime int8" not in {row.contender for row in rows}


def test_a_backend_with_wrong_first_outputs_has_no_time(reduced, field):
    wrong = lambda number: np.full((1, 4, 8), [1, -1] * 4, np.float32)  # noqa: E731
    field(made_up(BASELINE, right), made_up("other", wrong))
    rows = {row.contender: row for row in graph.rows(reduced) if row.case.paced_hz is None}
    assert rows[BASELINE].samples["wall"]
    assert not rows["other"].samples
    assert rows["other"].check.ok is False
    assert "answers wrongly" in rows["other"].skipped


def test_a_backend_with_wrong_later_outputs_has_no_time(reduced, field):
    turns = lambda number: right(number) if number < 3 else -right(number)  # noqa: E731
    field(made_up(BASELINE, right), made_up("other", turns))
    rows = [row for row in graph.rows(reduced) if row.contender == "other"]
    assert rows
    assert not any(row.samples for row in rows)
    assert all(row.check.cosine == pytest.approx(-1.0) for row in rows)


def test_stages_of_the_device_stand_beside_the_wall(reduced, field):
    field(made_up(BASELINE, right, stages={"h2d": 0.1, "compute": 2.0, "d2h": 0.1, "enqueue": 1.9}))
    rows = [row for row in graph.rows(reduced) if row.samples]
    assert {*rows[0].samples} >= {"wall", "h2d", "compute", "d2h", "enqueue"}
    assert any("enqueue" in warning for warning in rows[0].warnings)


def test_a_backend_that_does_not_open_has_a_row_with_the_reason_and_the_others_go_on(
    reduced, field
):
    refused = Backend("other", raising(BackendUnavailable("no such thing here")))
    field(made_up(BASELINE, right), refused, Unavailable("third", "not installed"))
    rows = [*graph.rows(reduced)]
    reasons = {(row.contender, row.skipped) for row in rows if row.skipped}
    assert reasons == {("other", "no such thing here"), ("third", "not installed")}
    assert any(row.samples for row in rows)


def test_opened_graphs_are_closed_even_if_a_call_fails(reduced, field):
    closed = []

    fail = raising(ModelError("broken"))

    def prepare(which, feed):
        return GraphUnderTest(
            ran=ran(), inputs=feed, run=fail, outputs=dict, close=lambda: closed.append(which)
        )

    field(made_up(BASELINE, right), Backend("other", prepare))
    assert [row for row in graph.rows(reduced) if row.skipped == "broken"]
    assert closed == ["frames", "full"]


def test_without_a_reference_nothing_is_measured(reduced, field):
    field(made_up("other", right))
    with pytest.raises(ModelError, match="to compare answers with"):
        list(graph.rows(reduced))


def test_the_long_form_goes_over_batches_lengths_and_the_other_size(trained, field, monkeypatch):
    field(made_up(BASELINE, right, graphs=("frames",)), made_up("other", right, graphs=("frames",)))
    exporter = "cstl_edge.bench.model_under_test"
    monkeypatch.setattr(f"{exporter}.export_once", lambda weights, progress: trained.folder)
    monkeypatch.setattr(f"{exporter}.random_checkpoint", lambda config: config["size"])
    frames = [case.batch for case in graph.FULL_CASES if case.graph == "frames"]
    monkeypatch.setattr(
        graph, "FULL_CASES", [case for case in graph.FULL_CASES if case.graph == "frames"]
    )
    monkeypatch.setattr(graph, "DEFAULT_CASES", graph.DEFAULT_CASES[:1])
    rows = [*graph.rows(replace(trained, full=True))]
    assert sorted({row.case.batch for row in rows}) == frames
    assert {row.subject.trained for row in rows} == {False}


def test_a_case_is_described_in_a_few_words():
    assert graph.describe(Case(graph="frames", batch=1, paced_hz=25)) == "frames, 1 frames, 25 Hz"
