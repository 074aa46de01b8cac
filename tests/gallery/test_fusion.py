"""Fusion of a person's walks, against plain loops and against the simulated searches."""

import numpy as np
import pytest

from cstl_edge.distance import Distance, whitening_of
from cstl_edge.evaluation.impostors import WalkSearches, walk_distances
from cstl_edge.gallery.fusion import fused_distances, nearest_walks
from cstl_edge.gallery.index import TemplateIndex, indexed

PARTS, DIMENSIONS, FUSED = 3, 8, 3


@pytest.fixture
def distance(rng):
    sample = rng.normal(size=(60, PARTS, DIMENSIONS)) * np.linspace(0.3, 2, DIMENSIONS)
    whitening = whitening_of(sample, np.repeat(np.arange(20), 3))
    joint = rng.normal(size=(DIMENSIONS, PARTS, DIMENSIONS)).astype(np.float32)
    weights = np.array([1, 2, 1, 4], np.float32)
    return Distance("cosine", weights, None, whitening, joint, FUSED)


def test_one_walk_of_one_template_is_at_its_own_distance():
    similar = np.array([[0.25], [0.9], [-0.5]], np.float32)
    found = fused_distances(1 - similar[:, 0], similar, np.ones((3, 1, 1), np.float32))
    np.testing.assert_allclose(found, 1 - similar[:, 0], atol=1e-6)


def test_the_walks_most_like_the_search_are_taken_in_order():
    similar = np.array([[0.1, 0.9, 0.5, 0.4], [0.3, 0.3, 0.2, 0.8]], np.float32)
    assert nearest_walks(similar, 3).tolist() == [[1, 2, 3], [3, 0, 1]]
    assert nearest_walks(similar, 9).shape == (2, 4)


def test_what_walks_have_by_chance_cancels_out(rng):
    """Somebody seen in four noisy walks is nearer than who looks like the search once, by luck."""

    def unit(rows):
        return rows / np.linalg.norm(rows, axis=-1, keepdims=True)

    person, stranger, search = np.eye(3, 64)
    search = unit(person + search)
    walks = unit(person + 0.09 * rng.normal(size=(4, 64)))
    lucky = unit(np.concatenate([(search + 0.8 * stranger)[None], [stranger] * 3]))

    def far(rows):
        similar = (rows @ search)[None]
        order = nearest_walks(similar, 4)[0]
        alike = (rows @ rows.T)[order][:, order]
        return fused_distances(1 - similar.max(1), similar[:, order], alike[None])[0]

    assert (lucky @ search).max() > (walks @ search).max()
    assert far(walks) < far(lucky)


def plain(distance, query, walks, means):
    """Return the fused distance of a query [1, r, d] to a person, by the definition."""
    entries, units = [], []
    for walk, mean in zip(walks, means, strict=True):
        both = np.concatenate([walk, walk.mean(axis=0, keepdims=True)])
        projected = distance.project(both, mean)
        entries.append(distance.between(query, projected).min())
        units.append(projected[-1].ravel())
    order = sorted(range(len(units)), key=lambda i: -float(units[i] @ query.ravel()))
    together = np.mean([units[i] for i in order[:FUSED]], axis=0)
    cosine = together @ query.ravel() / np.linalg.norm(together)
    return (min(entries) + 1 - cosine) / 2


@pytest.mark.parametrize("windows", [1, 2])
def test_searches_are_those_of_plain_loops_under_each_cameras_mean(rng, distance, windows):
    counts, cameras = [1, 2, 5, 2], [rng.integers(0, 2, n) for n in (1, 2, 5, 2)]
    means = [rng.normal(1, 0.3, (PARTS, DIMENSIONS)).astype(np.float32) for _ in range(2)]
    people = [rng.normal(1, 1, (n, windows, PARTS, DIMENSIONS)).astype(np.float32) for n in counts]
    rows = np.concatenate([x.reshape(-1, PARTS, DIMENSIONS) for x in people])
    index = TemplateIndex(
        names=tuple("abcd"),
        starts=np.cumsum([0, *counts[:-1]]) * windows,
        templates=rows.transpose(1, 2, 0).copy(),
        walks=np.arange(0, len(rows), windows),
        cameras=tuple("xy"[i] for i in np.concatenate(cameras)),
    )
    index = indexed(index, distance)
    index = index.centred([means["xy".index(name)] for name in index.camera_names])
    queries = distance.project(rng.normal(1, 1, (6, PARTS, DIMENSIONS)).astype(np.float32))
    expected = [
        [plain(distance, query[None], x, [means[i] for i in of]) for x, of in
         zip(people, cameras, strict=True)]
        for query in queries
    ]  # fmt: skip
    np.testing.assert_allclose(index.person_distances(queries), expected, atol=5e-6)
    np.testing.assert_allclose(index.candidates(queries, 2), expected, atol=5e-6)


def test_thresholds_are_simulated_by_the_searches_of_a_gallery(rng, distance):
    """The table of a model and its gallery compute one and the same distance."""
    windows = rng.normal(size=(12, 2, PARTS, DIMENSIONS)).astype(np.float32)
    between = walk_distances(windows, distance)
    entries = np.array([[1, 2, 3, 4], [6, 7, 8, 9]])
    rows = windows[entries].reshape(-1, PARTS, DIMENSIONS)
    index = TemplateIndex(
        ("a", "b"), np.array([0, 8]), rows.transpose(1, 2, 0).copy(), np.arange(0, 16, 2)
    )
    mean = windows.mean(axis=(0, 1))
    index = indexed(index, distance).centred([mean])
    for seen in (1, 2):
        query = distance.project(windows[:1, :seen].mean(axis=1), mean)
        found = between.to_people(seen, np.array([0, 0]), entries)
        np.testing.assert_allclose(found, index.person_distances(query)[0], atol=5e-6)


def test_a_mated_search_leaves_its_own_walk_out(rng, distance):
    people = np.repeat(np.arange(6), 3)
    windows = rng.normal(size=(18, 1, PARTS, DIMENSIONS)).astype(np.float32)
    searches = WalkSearches(walk_distances(windows, distance), people, seed=0)
    found = searches.draw(1, 3, 4, 200, mated=True)
    assert np.isfinite(found).all()
    assert found.min() > 0.01  # or it found itself
    alone = WalkSearches(walk_distances(windows[::3], distance), people[::3], seed=0)
    found = alone.draw(1, 1, 4, 20, mated=True)
    assert np.isinf(found[:, 0]).all()  # the only walk of each is the search
    assert np.isfinite(found[:, 1:]).all()


def test_people_are_enrolled_from_different_walks(rng, distance):
    people = np.repeat(np.arange(5), 4)
    windows = rng.normal(size=(20, 1, PARTS, DIMENSIONS)).astype(np.float32)
    searches = WalkSearches(walk_distances(windows, distance), people, seed=0)
    walks = searches._pick(np.tile(np.arange(5), (50, 1)), 4)
    assert (np.sort(walks, axis=-1) == np.arange(20).reshape(5, 4)).all()
    more = searches._pick(np.tile(np.arange(5), (50, 1)), 6)
    assert all(len(set(row)) == 4 for row in more.reshape(-1, 6).tolist())
