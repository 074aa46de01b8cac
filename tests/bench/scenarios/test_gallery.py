"""Scenario `gallery` on a small made-up gallery: the same answers by every way."""

from pathlib import Path

from cstl_edge.bench.context import SHORT_BUDGET, Context
from cstl_edge.bench.record import ModelUnderTest
from cstl_edge.bench.scenarios.gallery import rows


def test_every_way_finds_whom_the_exact_search_finds():
    model = ModelUnderTest(name="m", weights_sha256="a", size=(64, 44), parts=4)
    context = Context(
        "r", Path(), None, model, 1, SHORT_BUDGET, short=True, progress=lambda _: None
    )
    found = {row.contender: row for row in rows(context)}
    assert [*found] == ["exact float32, 2,500 templates", "exact 8-bit, 2,500 templates"]
    for row in found.values():
        assert row.skipped is None
        assert row.values["recall"] == 1
        assert row.samples["wall"]
