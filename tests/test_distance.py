"""Distances against float64 loops by their definition; whitening and blended means."""

import math

import numpy as np
import pytest

from cstl_edge.distance import (
    EUCLIDEAN,
    SHRINKAGE,
    Distance,
    blended_mean,
    whitening_of,
)

RNG = np.random.default_rng(3)


def symmetric(parts, dimensions):
    """Make positive definite matrices [p, d, d]."""
    noise = RNG.normal(size=(parts, dimensions, dimensions))
    return np.asarray(
        noise @ noise.transpose(0, 2, 1) / dimensions + np.eye(dimensions), np.float32
    )


def plain_cosine(a, b, mean, whitening, weights):
    """Weighted mean over parts of 1 - cos, one pair at a time, in float64."""
    out = np.empty((len(a), len(b)))
    for i, x in enumerate(a.astype(np.float64)):
        for j, y in enumerate(b.astype(np.float64)):
            parts = []
            for p in range(len(x)):
                u, v = (whitening[p].astype(np.float64) @ (e[p] - mean[p]) for e in (x, y))
                parts.append(1 - u @ v / (np.linalg.norm(u) * np.linalg.norm(v)))
            out[i, j] = np.average(parts, weights=weights)
    return out


def test_cosine_is_that_of_the_definition():
    a, b = (RNG.normal(2, 1, size=(n, 4, 6)).astype(np.float32) for n in (5, 7))
    mean, whitening = RNG.normal(2, 0.1, size=(4, 6)).astype(np.float32), symmetric(4, 6)
    weights = np.array([1, 2, 3, 4], np.float32)
    distance = Distance("cosine", weights, mean, whitening)
    expected = plain_cosine(a, b, mean, whitening, weights)
    np.testing.assert_allclose(distance.pairwise(a, b), expected, atol=1e-5)
    other = mean + 1
    expected = plain_cosine(a, b, other, whitening, weights)
    np.testing.assert_allclose(distance.pairwise(a, b, other), expected, atol=1e-5)


def test_euclidean_weighs_the_parts():
    a, b = (RNG.normal(size=(n, 3, 6)).astype(np.float32) for n in (4, 5))
    weights = np.array([1, 1, 4], np.float32)
    expected = [
        [np.average([math.dist(*xy) for xy in zip(x, y, strict=True)], weights=weights) for y in b]
        for x in a
    ]
    np.testing.assert_allclose(Distance(weights=weights).pairwise(a, b), expected, rtol=1e-5)


@pytest.mark.parametrize("distance", [EUCLIDEAN, Distance("cosine")])
def test_what_is_not_finite_is_infinitely_far(distance):
    a = RNG.normal(size=(3, 2, 4)).astype(np.float32)
    a[1, 0, 0] = np.nan
    distances = distance.pairwise(a, a)
    assert np.isinf(distances[1]).all()
    assert np.isinf(distances[:, 1]).all()
    assert np.isfinite(distances[[0, 0, 2], [0, 2, 2]]).all()


def test_an_embedding_without_length_is_half_way_to_everything():
    zero, one = np.zeros((1, 1, 4), np.float32), np.ones((1, 1, 4), np.float32)
    assert Distance("cosine").pairwise(zero, one)[0, 0] == 1


def test_whitening_makes_the_scatter_within_people_round():
    people = np.repeat(np.arange(50), 20)
    spread = np.array([3.0, 1.0, 0.3, 0.1])
    rows = RNG.normal(size=(50, 1, 1, 4)) * 9 + RNG.normal(size=(50, 20, 1, 4)) * spread
    embeddings = rows.reshape(1000, 1, 4)
    whitening = whitening_of(embeddings, people)
    variance = spread**2 / np.mean(spread**2)
    shrunk = (1 - SHRINKAGE) * variance + SHRINKAGE
    np.testing.assert_allclose(np.diag(whitening[0]), 1 / np.sqrt(shrunk), rtol=0.1)
    assert np.abs(whitening[0] - np.diag(np.diag(whitening[0]))).max() < 0.1


def test_adapted_whitening_is_half_way_to_the_own_scatter():
    synthetic, own = np.diag([4.0, 1.0, 0.5]), np.diag([0.5, 0.5, 3.0])
    unit = [scatter / np.trace(scatter) * 3 for scatter in (synthetic, own)]

    def root(scatter):
        return np.diag(1 / np.sqrt(np.diag((1 - SHRINKAGE) * scatter) + SHRINKAGE))[None]

    distance = Distance("cosine", whitening=root(unit[0]).astype(np.float32))
    adapted = distance.adapted(own[None] * 40, 40)
    np.testing.assert_allclose(adapted.whitening, root((unit[0] + unit[1]) / 2), rtol=1e-4)
    assert distance.adapted(own[None], 0) is distance
    assert EUCLIDEAN.adapted(own[None], 40) is EUCLIDEAN


def test_a_mean_of_few_people_leans_on_the_prior():
    mean, prior = np.full((2, 2), 3.0, np.float32), np.zeros((2, 2), np.float32)
    assert blended_mean(None, 0, prior) is prior
    assert blended_mean(mean, 1, None) is mean
    np.testing.assert_allclose(blended_mean(mean, 1, prior), 1.0)
    np.testing.assert_allclose(blended_mean(mean, 2, prior), 1.5)
    np.testing.assert_allclose(blended_mean(mean, 1e6, prior), 3.0, rtol=1e-5)


def test_a_joint_row_is_compared_beside_the_whitened_parts():
    """By its definition: a projection of all parts, centred, not whitened, one more cosine."""
    a, b = (RNG.normal(2, 1, size=(n, 3, 5)).astype(np.float32) for n in (4, 6))
    mean, whitening = RNG.normal(2, 0.1, size=(3, 5)).astype(np.float32), symmetric(3, 5)
    joint = RNG.normal(size=(5, 3, 5)).astype(np.float32)
    weights = np.array([1, 2, 3, 6], np.float32)
    parts = plain_cosine(a, b, mean, whitening, weights[:3])
    rows = [((x - mean).reshape(len(x), -1) @ joint.reshape(5, -1).T)[:, None] for x in (a, b)]
    one = plain_cosine(*rows, np.zeros((1, 5)), np.eye(5, dtype=np.float32)[None], [1])
    distance = Distance("cosine", weights, mean, whitening, joint)
    np.testing.assert_allclose(distance.pairwise(a, b), (parts + one) / 2, atol=1e-5)
    assert distance.project(a).shape == (4, 4, 5)


def test_adaptation_leaves_the_joint_row_as_it_is():
    joint = RNG.normal(size=(4, 2, 4)).astype(np.float32)
    distance = Distance("cosine", None, np.zeros((2, 4), np.float32), symmetric(2, 4), joint)
    noise = RNG.normal(size=(100, 2, 4)) * [3, 1, 1, 0.1]
    adapted = distance.adapted(np.einsum("npd,npe->pde", noise, noise), 100)
    assert adapted.joint is joint
    assert not np.allclose(adapted.whitening, distance.whitening, atol=0.05)
    assert adapted.project(noise).shape == (100, 3, 4)
