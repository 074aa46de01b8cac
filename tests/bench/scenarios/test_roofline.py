"""Scenario `roofline`: rows of peaks and of costs."""

from dataclasses import replace

import pytest
from standin_bench import kernel, raising

from cstl_edge.bench.record import Row
from cstl_edge.bench.roofline import kernel as kernel_module
from cstl_edge.bench.scenarios import roofline
from cstl_edge.errors import ModelError


@pytest.fixture
def context(reduced):
    """The long way over the golden export in three precisions."""
    return replace(reduced, short=False)


def test_rows_of_a_model(context, monkeypatch):
    other = kernel(prepare=raising(ImportError("no library")), name="other")
    monkeypatch.setattr(roofline, "kernels", lambda threads: [kernel(), other])
    rows = list(roofline.rows(context))
    peak, skipped, *costs = rows
    assert peak.contender == "peak float32: stand-in"
    assert peak.values["gmacs_per_s"] > 0
    assert "before" in peak.conditions
    assert len(peak.samples["wall"]) >= kernel_module.ROUNDS * kernel_module.FEWEST
    assert (skipped.contender, skipped.skipped) == ("peak float32: other", "no library")
    assert not skipped.values
    seen = {(row.contender, row.case.graph, row.case.batch, row.case.frames) for row in costs}
    assert len(seen) == len(costs) == 3 * 8
    by = {(r.contender, r.case.graph, r.case.batch, r.case.frames): r.values for r in costs}
    int8 = by["cost int8", "full", 1, 30]
    assert int8["gmacs"] == pytest.approx(int8["gmacs_int8"] + int8["gmacs_float32"])
    assert int8["gmacs_int8"] == pytest.approx(30 * by["cost int8", "frames", 1, None]["gmacs"])
    assert all(Row.model_validate(row.model_dump(mode="json")) == row for row in rows)


def test_a_kernel_that_is_refused_leaves_a_row(context, monkeypatch):
    refused = raising(ModelError("ONNX Runtime refuses it"))
    monkeypatch.setattr(roofline, "kernels", lambda threads: [kernel(prepare=refused)])
    assert next(roofline.rows(context)).skipped == "ONNX Runtime refuses it"
