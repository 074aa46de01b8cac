"""Searches of the index against plain loops and against `distance.pairwise`."""

import math

import numpy as np
import pytest
from gallery_index import crowd, index_of

from cstl_edge.distance import Distance, whitening_of
from cstl_edge.gallery import index as index_module
from cstl_edge.gallery.index import CosineIndex, TemplateIndex, indexed


def plain_distances(queries, templates):
    """Part-mean Euclidean distance in float64, by the definition: [k, p, d], [n, p, d] -> [k, n]"""
    out = np.empty((len(queries), len(templates)))
    for i, query in enumerate(queries.astype(np.float64)):
        for j, template in enumerate(templates.astype(np.float64)):
            out[i, j] = np.mean([math.dist(a, b) for a, b in zip(query, template, strict=True)])
    return out


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
    monkeypatch.setattr(index_module, "MAX_PROBES", 10)
    scores = index_of(*people).impostor_scores
    assert len(scores) == 10
    assert np.isfinite(scores).all()


def cosine_distance(rng, parts, dimensions, weights=None, joint=False):
    """Make a `cosine` with a whitening of made-up people, and a joint row where it is asked for."""
    sample = rng.normal(size=(60, parts, dimensions)) * np.linspace(0.3, 2, dimensions)
    whitening = whitening_of(sample, np.repeat(np.arange(20), 3))
    shape = (dimensions, parts, dimensions)
    matrix = rng.normal(size=shape).astype(np.float32) if joint else None
    return Distance("cosine", weights, np.zeros(shape[1:], np.float32), whitening, matrix)


@pytest.mark.parametrize("weights", [(1, 2, 1, 1), (1, 2, 1, 1, 5)], ids=["parts", "joint"])
@pytest.mark.parametrize("k", [1, 3, 70])
def test_cosine_searches_are_those_of_pairwise_under_each_cameras_mean(rng, k, weights):
    distance = cosine_distance(rng, 4, 8, np.array(weights, np.float32), joint=len(weights) > 4)
    people = [rng.normal(1, 1, (count, 4, 8)).astype(np.float32) for count in (3, 1, 4)]
    means = [rng.normal(1, 0.3, (4, 8)).astype(np.float32) for _ in range(2)]
    plain = index_of(*people)
    walks, cameras = np.array([0, 2, 3, 4, 6]), ("a", "b", "b", "a", "a")
    raw = TemplateIndex(plain.names, plain.starts, plain.templates.copy(), walks, cameras)
    index = indexed(raw, distance).centred(means)
    query_mean = rng.normal(1, 0.3, (4, 8)).astype(np.float32)
    queries = rng.normal(1, 1, (k, 4, 8)).astype(np.float32)
    found = index.person_distances(distance.project(queries, query_mean))
    templates = np.concatenate(people)
    entries = [templates[:2], templates[2:3], templates[3:4], templates[4:6], templates[6:8]]
    owners, expected = [0, 0, 1, 2, 2], np.full((k, 3), np.inf)
    for owner, camera, walk in zip(owners, cameras, entries, strict=True):
        both = np.concatenate([walk, walk.mean(axis=0, keepdims=True)])
        mean = means["ab".index(camera)]
        far = distance.between(distance.project(queries, query_mean), distance.project(both, mean))
        expected[:, owner] = np.minimum(expected[:, owner], far.min(axis=1))
    np.testing.assert_allclose(found, expected, atol=2e-6)


@pytest.mark.parametrize("joint", [False, True])
def test_cosine_of_a_template_to_itself_is_zero_under_its_cameras_mean(rng, joint):
    distance = cosine_distance(rng, 3, 8, joint=joint)
    templates = rng.normal(5, 1, (6, 3, 8)).astype(np.float32)
    mean = np.full((3, 8), 5, np.float32)
    index = indexed(index_of(*templates[:, None].copy()), distance).centred([mean])
    assert isinstance(index, CosineIndex)
    found = index.template_distances(index.queries_of(np.arange(6)))
    assert found.diagonal().max() < 1e-5
    np.testing.assert_allclose(found, distance.pairwise(templates, templates, mean), atol=1e-5)


@pytest.mark.parametrize("joint", [False, True])
def test_cosine_impostor_scores_are_searches_of_the_others(rng, joint):
    distance = cosine_distance(rng, 3, 8, joint=joint)
    people = [rng.normal(size=(2, 3, 8)).astype(np.float32) for _ in range(25)]
    index = indexed(index_of(*people), distance)
    expected = []
    for i, own in enumerate(people):
        others = [x for j, x in enumerate(people) if j != i]
        entries = np.concatenate([*others, *(x.mean(axis=0, keepdims=True) for x in others)])
        expected.append(distance.pairwise(own, entries).min())
    np.testing.assert_allclose(index.impostor_scores, sorted(expected), atol=1e-5)
