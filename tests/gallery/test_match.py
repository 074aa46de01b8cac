"""Matching: distances and thresholds against plain loops, and the decision."""

import math

import numpy as np
import pytest

from cstl_edge.errors import ModelError
from cstl_edge.gallery import match
from cstl_edge.gallery.match import (
    ImpostorTable,
    TemplateIndex,
    Threshold,
    choose_threshold,
    decide,
)

TABLE = {
    "sizes": [1, 4, 16],
    "fpir": [0.001, 0.01, 0.1],
    "threshold": [[4.0, 5.0, 6.0], [3.0, 4.0, 5.0], [2.0, 3.0, 4.0]],
    "data": "made up",
}


def plain_distances(queries, templates):
    """Part-mean Euclidean distance in float64, by the definition: [k, p, d], [n, p, d] -> [k, n]"""
    out = np.empty((len(queries), len(templates)))
    for i, query in enumerate(queries.astype(np.float64)):
        for j, template in enumerate(templates.astype(np.float64)):
            out[i, j] = np.mean([math.dist(a, b) for a, b in zip(query, template, strict=True)])
    return out


def index_of(*people):
    """Build an index from one [k, p, d] per person."""
    counts = [len(person) for person in people]
    return TemplateIndex(
        names=tuple(f"p{i}" for i in range(len(people))),
        starts=np.concatenate([[0], np.cumsum(counts)[:-1]]).astype(np.intp),
        templates=np.ascontiguousarray(np.concatenate(people).transpose(1, 2, 0), np.float32),
    )


def crowd(rng, people, parts=4, dimensions=8):
    return [rng.standard_normal((2, parts, dimensions)).astype(np.float32) for _ in range(people)]


@pytest.mark.parametrize("k", [1, 3, 16, 70])  # one by one, as matrices, in two blocks
def test_distances_equal_those_of_a_float64_loop(rng, k):
    templates = rng.standard_normal((40, 8, 32)).astype(np.float32)
    queries = rng.standard_normal((k, 8, 32)).astype(np.float32)
    distances = index_of(*templates[:, None]).person_distances(queries)
    np.testing.assert_allclose(distances, plain_distances(queries, templates), rtol=1e-5)


@pytest.mark.parametrize("offset", [0.0, 10.0, 1000.0])
@pytest.mark.parametrize("gap", [1.0, 0.1, 1e-2, 1e-3])
def test_distances_of_near_identical_templates_are_exact(rng, offset, gap):
    base = (offset + rng.standard_normal((1, 8, 256))).astype(np.float32)
    noise = rng.standard_normal((80, 8, 256)).astype(np.float32)
    templates = base + np.float32(gap) * noise
    distances = index_of(*templates[:, None]).template_distances(base)
    np.testing.assert_allclose(distances, plain_distances(base, templates), rtol=1e-3)


def test_a_template_is_at_distance_zero_from_itself(rng):
    templates = rng.standard_normal((30, 8, 64)).astype(np.float32)
    distances = index_of(*templates[:, None]).template_distances(templates)
    assert not distances.diagonal().any()
    assert (distances[~np.eye(30, dtype=bool)] > 1).all()


def test_one_ruined_part_counts_once():
    """The part mean is not the distance of the flattened vector: one far part is no catastrophe."""
    query = np.zeros((1, 4, 2), np.float32)
    one_far, all_off = query.copy(), query + np.float32(1.5 / math.sqrt(2))
    one_far[0, 0] = (4, 0)
    np.testing.assert_allclose(index_of(one_far, all_off).person_distances(query), [[1.0, 1.5]])


def test_a_persons_distance_is_that_of_the_nearest_template(rng):
    people = [rng.standard_normal((k, 4, 8)).astype(np.float32) for k in (1, 5, 2)]
    query = rng.standard_normal((2, 4, 8)).astype(np.float32)
    expected = np.stack([plain_distances(query, person).min(axis=1) for person in people], axis=1)
    np.testing.assert_allclose(index_of(*people).person_distances(query), expected, rtol=1e-5)


def test_impostor_scores_are_each_persons_luckiest_search(rng):
    people = [rng.standard_normal((k, 4, 8)).astype(np.float32) for k in rng.integers(1, 5, 25)]
    expected = [
        min(plain_distances(a, b).min() for j, b in enumerate(people) if j != i)
        for i, a in enumerate(people)
    ]
    np.testing.assert_allclose(index_of(*people).impostor_scores, sorted(expected), rtol=1e-5)


def test_large_galleries_are_sampled(rng, monkeypatch):
    people = crowd(rng, 30)
    monkeypatch.setattr(match, "MAX_PROBES", 10)
    scores = index_of(*people).impostor_scores
    assert len(scores) == 10
    assert np.isfinite(scores).all()


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


def test_decisions_give_a_name_or_the_reason_against_one(rng):
    a, b = np.zeros((1, 1, 2), np.float32), np.full((1, 1, 2), [[3, 4]], np.float32)
    query = np.array([[[0, 1]]], np.float32)
    known = decide(index_of(a, b), query, Threshold(2.0, "model", "note"), 0.01)
    assert (known.name, known.distance, known.runner_up, known.reason) == ("p0", 1.0, "p1", None)
    assert known.margin == pytest.approx(math.sqrt(18) - 1)
    assert (known.threshold, known.threshold_source, known.note) == (2.0, "model", "note")
    far = decide(index_of(a, b), query, Threshold(1.0, "gallery"), 0.01)
    assert (far.name, far.nearest, far.reason) == (None, "p0", "nearest is too far")
    assert decide(index_of(a, b), query, Threshold(None, "none"), 0.01).reason == "no calibration"
    twins = decide(index_of(a, a), query, Threshold(2.0, "given"), 0.01)
    assert (twins.name, twins.margin, twins.reason) == (None, 0.0, "ambiguous")
    alone = decide(index_of(a), query, Threshold(2.0, "given"), 0.01)
    assert (alone.name, alone.runner_up, alone.margin, alone.people) == ("p0", None, None, 1)


def test_several_windows_are_one_search():
    a, b = np.zeros((1, 1, 1), np.float32), np.full((1, 1, 1), 10, np.float32)
    windows = np.array([1, 1, 7], np.float32).reshape(3, 1, 1)  # mean 3 to a, 7 to b
    decision = decide(index_of(a, b), windows, Threshold(4.0, "given"), 0.01)
    assert (decision.name, decision.distance, decision.margin) == ("p0", 3.0, 4.0)
