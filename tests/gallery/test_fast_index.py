"""The fast search answers exactly as the plain one, whatever the means of cameras do."""

import numpy as np
import pytest

from cstl_edge.distance import Distance, whitening_of
from cstl_edge.gallery import fast_index, quantised
from cstl_edge.gallery.fast_index import FastCosineIndex, fast_indexed
from cstl_edge.gallery.index import TemplateIndex
from cstl_edge.gallery.quantised import QuantisedVectors

PARTS, DIMENSIONS = 3, 16


@pytest.fixture(autouse=True)
def _at_once(monkeypatch):
    monkeypatch.setattr(fast_index, "PLAIN_SEARCHES", 0)


@pytest.fixture(params=["parts", "joint", "fused"])
def distance(rng, request):
    sample = rng.normal(size=(60, PARTS, DIMENSIONS)) * np.linspace(0.3, 2, DIMENSIONS)
    whitening = whitening_of(sample, np.repeat(np.arange(20), 3))
    mean = np.zeros((PARTS, DIMENSIONS), np.float32)
    if request.param == "parts":
        return Distance("cosine", np.array([1, 2, 1], np.float32), mean, whitening)
    joint = rng.normal(size=(DIMENSIONS, PARTS, DIMENSIONS)).astype(np.float32)
    fused = 4 if request.param == "fused" else 0
    return Distance("cosine", np.array([1, 2, 1, 4], np.float32), mean, whitening, joint, fused)


def gallery(rng, people=1100, clusters=0):
    """Make raw templates of people with two walks each, seen by two cameras."""
    centres = rng.normal(1, 1, (people, 1, PARTS, DIMENSIONS))
    if clusters:
        alike = rng.normal(1, 1, (clusters, 1, PARTS, DIMENSIONS))
        centres = alike[rng.integers(0, clusters, people)] + 0.05 * centres
    counts = 4  # templates of each, two of each walk
    rows = centres + 0.3 * rng.normal(size=(people, counts, PARTS, DIMENSIONS))
    rows = rows.reshape(-1, PARTS, DIMENSIONS).astype(np.float32)
    return TemplateIndex(
        names=tuple(f"p{i}" for i in range(people)),
        starts=np.arange(0, len(rows), counts),
        templates=rows.transpose(1, 2, 0),
        walks=np.arange(0, len(rows), 2),
        cameras=tuple("ab"[i] for i in rng.integers(0, 2, len(rows) // 2)),
    )


def test_products_of_integers_are_within_their_bound(rng, monkeypatch):
    vectors = rng.normal(size=(300, PARTS, 40)).astype(np.float32)
    vectors[0] = 0
    vectors[1, 0] *= 1e4
    monkeypatch.setattr(quantised, "BLOCK", 100)
    integers = QuantisedVectors(300, np.split(vectors.copy(), 6))
    lengths = np.linalg.norm(vectors, axis=2).T  # [p, n]
    for query in rng.normal(size=(3, PARTS, 40)).astype(np.float32):
        exact = np.einsum("pd,npd->pn", query, vectors)
        of_query = np.linalg.norm(query, axis=1)[:, None]
        found, lost = integers.part_products(query)
        allowed = of_query * integers.errors + lost[:, None] * (lengths + integers.errors)
        assert (np.abs(found - exact) <= allowed + 1e-5 * np.abs(exact)).all()
        found, lost = integers.products(query)
        assert lost < 2e-3 * np.linalg.norm(query)
        allowed = (of_query * integers.errors).sum(axis=0)
        allowed += lost * (np.linalg.norm(lengths, axis=0) + integers.errors.sum(axis=0))
        rounding = 1e-5 * np.abs(exact).sum(axis=0)
        assert (np.abs(found - exact.sum(axis=0)) <= allowed + rounding).all()


@pytest.mark.parametrize("clusters", [0, 40])
def test_nearest_people_and_their_distances_are_those_of_the_plain_search(rng, distance, clusters):
    raw = gallery(rng, clusters=clusters)
    index = fast_indexed(raw, distance)
    assert isinstance(index, FastCosineIndex)
    means = [rng.normal(1, 0.3, (PARTS, DIMENSIONS)).astype(np.float32) for _ in range(2)]
    index = index.centred(means)
    skipped = 0
    for drift in (0, 1e-3, 0.02, 0.1, 0.5, 0):  # of means that follow who walks by
        moved = [m + drift * rng.normal(size=m.shape).astype(np.float32) for m in means]
        index.nearest(distance.project(raw.templates[None, :, :, 0]), 2)
        before, index = index.quantised.entries, index.centred(moved)
        if 0 < drift < 0.1:
            assert index.quantised.entries[0].vectors is before[0].vectors
        elif drift == 0.5:
            assert not index.quantised.entries  # all is quantised again
        for person in rng.integers(0, len(raw.names), 12):
            walk = raw.templates[:, :, 4 * person] if person % 3 else np.float32(1)
            walk = (walk + 0.3 * rng.normal(size=(PARTS, DIMENSIONS))).astype(np.float32)
            query = distance.project(walk[None], moved[0])
            plain, fast = index.person_distances(query)[0], index.nearest(query, 2)
            order = np.argsort(index.candidates(query, 2)[0], kind="stable")[:2]
            assert np.argsort(fast, kind="stable")[:2].tolist() == order.tolist()
            np.testing.assert_allclose(fast[order], plain[order], atol=2e-6)
            finite = np.isfinite(fast)
            np.testing.assert_allclose(fast[finite], plain[finite], atol=2e-6)
            skipped += (~finite).sum()
    assert skipped > 0.5 * 72 * len(raw.names)  # or it is not fast


def test_two_people_of_one_walk_are_both_nearest(rng, distance):
    raw = gallery(rng)
    raw.templates[:, :, 44:48] = raw.templates[:, :, 40:44]  # p11 is p10
    index = fast_indexed(raw, distance).centred([None, None])
    query = index.queries_of(np.array([41]))
    nearest = index.nearest(query, 2)
    assert np.argsort(nearest, kind="stable")[:2].tolist() == [10, 11]
    assert nearest[10] == nearest[11]  # so that neither is named


def test_scores_are_taken_over_while_means_move_little(rng, distance):
    index = fast_indexed(gallery(rng), distance).centred([None, None])
    mean = np.zeros((PARTS, DIMENSIONS), np.float32)
    index = index.centred([mean, mean])
    scores = index.impostor_scores
    near = index.centred([mean + np.float32(1e-3)] * 2)
    assert near.impostor_scores is scores
    assert near.centred([mean + np.float32(2e-3)] * 2).impostor_scores is scores
    far = near.centred([mean + np.float32(1)] * 2)
    assert far.impostor_scores is not scores


def test_the_first_searches_of_a_state_are_plain(rng, distance, monkeypatch):
    monkeypatch.setattr(fast_index, "PLAIN_SEARCHES", 2)
    index = fast_indexed(gallery(rng), distance).centred([None, None])
    query = index.queries_of(np.array([41]))
    quantised = []
    for _ in range(3):
        index.nearest(query, 2)
        quantised.append(bool(index.quantised.entries))
    assert quantised == [False, False, True]


def test_small_galleries_are_searched_plainly(rng, distance):
    assert not isinstance(fast_indexed(gallery(rng, 20), distance), FastCosineIndex)
