"""Scenario `gallery` on a small made-up gallery: the same answers by every way."""

from pathlib import Path

import numpy as np

from cstl_edge.bench import gallery_crowds
from cstl_edge.bench.context import SHORT_BUDGET, Context
from cstl_edge.bench.record import ModelUnderTest
from cstl_edge.bench.scenarios.gallery import rows


def test_every_way_finds_whom_the_exact_search_finds():
    model = ModelUnderTest(name="m", weights_sha256="a", size=(64, 44), parts=4)
    context = Context(
        "r", Path(), None, model, 1, SHORT_BUDGET, short=True, progress=lambda _: None
    )
    found = {row.contender: row for row in rows(context)}
    assert [*found] == [
        "exact float32, 1,000 templates",
        "exact float32, 2,500 templates",
        "exact 8-bit, 2,500 templates",
    ]
    for row in found.values():
        assert row.skipped is None
        assert row.values["recall"] == 1
        assert row.samples["wall"]


def test_recall_is_against_all_templates_in_blocks(monkeypatch):
    monkeypatch.setattr(gallery_crowds, "_AT_ONCE", 7)
    for clustered in (False, True):
        people = gallery_crowds.make_gallery(500, 3, 16, clustered=clustered)
        queries = np.concatenate([people.visits(np.arange(20), 1), people.strangers(20, 2)])
        person, distance = people.exact_nearest(queries)
        plain = people.exact().person_distances(queries)
        assert person.tolist() == plain.argmin(axis=1).tolist()
        np.testing.assert_allclose(distance, plain.min(axis=1), atol=1e-6)
