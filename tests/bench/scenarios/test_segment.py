"""Scenario `segment`: a row per segmenter, paced ones mask less, the network's cost is known."""

from pathlib import Path

from cstl_edge.bench.context import SHORT_BUDGET, Context
from cstl_edge.bench.record import ModelUnderTest
from cstl_edge.bench.scenarios import segment


def test_every_segmenter_and_the_network_have_rows(monkeypatch):
    monkeypatch.setattr(segment, "SEGMENTERS", ("background", "person-mask"))
    model = ModelUnderTest(name="m", weights_sha256="a", size=(64, 44), parts=4)
    context = Context(
        "r", Path(), None, model, 1, SHORT_BUDGET, short=True, progress=lambda _: None
    )
    found = {row.contender: row for row in segment.rows(context)}
    assert [*found] == [
        *("background", "person-mask", "person-mask, paced 12.5 per second"),
        *("person network, 1 crop", "person network, 4 crops"),
    ]
    for row in found.values():
        assert row.skipped is None
        assert row.samples["wall"]
    for name in ("background", "person-mask"):
        assert found[name].values["people_in_view"] >= 1
        assert found[name].values["ms_per_person"] > 0
    network = found["person network, 4 crops"]
    assert 0.1 < network.values["gmacs"] < 2
    assert network.values["ms_per_crop"] > 0
