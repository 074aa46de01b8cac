"""Thresholds: the model's table, the gallery's own scores."""

import math

import numpy as np
import pytest
from gallery_index import crowd, index_of

from cstl_edge.errors import ModelError
from cstl_edge.gallery.thresholds import ImpostorTable, Threshold, choose_threshold

TABLE = {
    "sizes": [1, 4, 16],
    "fpir": [0.001, 0.01, 0.1],
    "threshold": [[4.0, 5.0, 6.0], [3.0, 4.0, 5.0], [2.0, 3.0, 4.0]],
    "data": "made up",
}


def test_the_table_is_interpolated_in_logarithms():
    table = ImpostorTable(TABLE)
    assert table.threshold_at(4, 0.01) == Threshold(4.0, "model", None)
    assert table.threshold_at(2, 0.01).value == pytest.approx(4.5)
    assert table.threshold_at(8, 10**-1.5).value == pytest.approx(4.0)


def test_more_templates_per_person_lower_the_threshold(rng):
    near = [[t - 1.0 for t in row] for row in TABLE["threshold"]]
    walks = {**TABLE, "walks": [1, 4], "threshold": [TABLE["threshold"], near]}
    table = ImpostorTable(walks)
    assert table.threshold_at(4, 0.01, 1).value == pytest.approx(4.0)
    assert table.threshold_at(4, 0.01, 2).value == pytest.approx(3.5)
    assert table.threshold_at(4, 0.01, 9).value == pytest.approx(3.0)
    two_each = index_of(*crowd(rng, 4))
    assert choose_threshold(two_each, table, 0.01).value == pytest.approx(3.5)


def test_outside_the_table_its_edge_is_used_and_noted():
    threshold = ImpostorTable(TABLE).threshold_at(20, 1e-4)
    assert threshold.value == 2.0
    assert threshold.note == (
        "people 20 is above the model's table: taken for 16; "
        "fpir 0.0001 is below the model's table: taken for 0.001"
    )
    assert ImpostorTable(TABLE).threshold_at(1, 0.5).value == 6.0


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("sizes", [4, 1, 16]), ("sizes", []), ("fpir", [0.01, 0.1]), ("fpir", None),
        ("threshold", [[1.0, 2.0, float("nan")]] * 3), ("threshold", "far"), ("walks", [1, 4]),
    ],
)  # fmt: skip
def test_a_malformed_table_is_refused(key, value):
    with pytest.raises(ModelError, match=r"impostor table.*re-export"):
        ImpostorTable({**TABLE, key: value})
    with pytest.raises(ModelError, match=r"impostor table.*re-export"):
        ImpostorTable({key: value})  # axes are missing


def test_small_galleries_use_the_models_table_and_large_ones_their_scores(rng):
    table = ImpostorTable(TABLE)
    small, large = index_of(*crowd(rng, 20)), index_of(*crowd(rng, 21))
    assert choose_threshold(small, table, 0.1).source == "model"
    assert choose_threshold(small, None, 0.1) == Threshold(None, "none")
    assert choose_threshold(large, table, 0.1).source == "gallery"
    assert choose_threshold(large, None, 0.1) == choose_threshold(large, table, 0.1)


@pytest.mark.parametrize("fpir", [0.025, 0.1, 0.5, 0.99])
def test_the_share_of_scores_below_the_threshold_is_the_rate(rng, fpir):
    index = index_of(*crowd(rng, 40))
    chosen = choose_threshold(index, None, fpir)
    assert (index.impostor_scores < chosen.value).sum() <= fpir * 40
    assert chosen.note is None


def test_a_rate_too_low_for_the_scores_is_noted(rng):
    index = index_of(*crowd(rng, 25))
    alone = choose_threshold(index, None, 0.01)
    assert alone.value == index.impostor_scores[0]
    assert "25 scores of this gallery cannot show a rate of 0.01" in alone.note
    with_table = choose_threshold(index, ImpostorTable(TABLE), 0.01)
    at_25 = np.interp(math.log(0.04), np.log(TABLE["fpir"]), TABLE["threshold"][-1])
    assert with_table.value == pytest.approx(alone.value * 3.0 / at_25)
    assert "along the model's curve" in with_table.note


def test_strangers_are_named_about_as_often_as_the_rate(rng):
    index = index_of(*crowd(rng, 200))
    strangers = rng.standard_normal((3000, 4, 8)).astype(np.float32)
    nearest = index.person_distances(strangers).min(axis=1)
    for fpir in (0.02, 0.1, 0.3):
        # below the requested rate, since a person's score is the luckier of two searches
        rate = (nearest < choose_threshold(index, None, fpir).value).mean()
        assert 0.2 * fpir < rate < 1.3 * fpir
