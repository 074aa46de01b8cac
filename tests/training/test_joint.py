"""Training of a joint projection: it finds what only parts together tell, and checks its data."""

import numpy as np
import pytest

from cstl_edge.distance import Distance
from cstl_edge.errors import DataError
from cstl_edge.training.joint import JointSettings, fit_joint

PARTS, DIMENSIONS, WALKS = 3, 8, 12
QUICK = JointSettings(steps=300, people=8, walks=4, rate=1e-2, dropout=0, noise=0.01)


@pytest.fixture
def rng():
    return np.random.default_rng(5)


def crowd(rng, people):
    """Make walks whose parts share a nuisance: only its difference between parts is a person's."""
    own = rng.normal(size=(people, 1, 1, DIMENSIONS)) * np.array([1, -1, 0.5])[:, None]
    nuisance = 3 * rng.normal(size=(people, WALKS, 1, DIMENSIONS))
    rows = own + nuisance + 0.3 * rng.normal(size=(people, WALKS, PARTS, DIMENSIONS))
    labels = np.repeat(np.arange(people), WALKS)
    return rows.reshape(-1, PARTS, DIMENSIONS).astype(np.float32), labels


def rank1(distance, rows, people):
    far = distance.pairwise(rows, rows, rows.mean(axis=0))
    np.fill_diagonal(far, np.inf)
    return float((people[far.argmin(axis=1)] == people).mean())


def test_it_finds_what_only_several_parts_together_tell(rng):
    rows, people = crowd(rng, 40)
    joint = fit_joint(rows, people, np.zeros(len(rows), int), QUICK, lambda text: None)
    assert joint.shape == (DIMENSIONS, PARTS, DIMENSIONS)
    assert joint.dtype == np.float32
    others, labels = crowd(rng, 30)  # whom it has not seen
    parts = Distance("cosine")
    weights = np.array([0.001] * PARTS + [1], np.float32)
    assert rank1(parts, others, labels) < 0.4
    assert rank1(Distance("cosine", weights, None, None, joint), others, labels) > 0.8


def test_the_same_seed_gives_the_same_matrix(rng):
    rows, people = crowd(rng, 10)
    few = JointSettings(steps=5, people=4, walks=2, seed=3)
    one, two = (fit_joint(rows, people, people * 0, few, lambda text: None) for _ in range(2))
    np.testing.assert_array_equal(one, two)


def test_groups_are_centred_apart(rng):
    """Two groups a thousand apart: the same as one group where their means are taken away."""
    rows, people = crowd(rng, 20)
    groups = people % 2
    moved = rows + 1000 * groups[:, None, None].astype(np.float32)
    settings = JointSettings(steps=50, people=8, walks=4)
    apart = fit_joint(moved, people, groups, settings, lambda text: None)
    together = fit_joint(rows, people, groups, settings, lambda text: None)
    assert np.abs(apart - together).max() < 0.05 * np.abs(together).max()


@pytest.mark.parametrize(("people", "walks"), [(4, WALKS), (40, 2)])
def test_too_few_people_or_walks_are_refused(rng, people, walks):
    rows, labels = crowd(rng, people)
    keep = np.tile(np.arange(WALKS) < walks, people)
    with pytest.raises(DataError, match="expected 8 people of 4 walks each or more; got"):
        fit_joint(rows[keep], labels[keep], labels[keep] * 0, QUICK)
