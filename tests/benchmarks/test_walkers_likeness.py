"""Measures of likeness, on silhouettes and distances worked out by hand."""

import numpy as np
import pytest
from walkers_likeness import Walks, auc, classifier, measures, spread


def block(width, frames=4, step=20, left=12):
    """Frames with a trunk of some pixels and feet of others, the first frame wider by an arm."""
    out = np.zeros((frames, 64, 44), np.uint8)
    out[:, :54, left : left + width] = 255
    out[:, 54:, left : left + step] = 255
    return out


def test_widths_are_those_of_the_blocks():
    found = measures(block(15, step=21))
    assert found["trunk width"] == 15
    assert found["largest step"] == 21
    assert found["arm blur"] == 0
    moving = block(15)
    moving[::2, 16:36, 27:31] = 255  # an arm, half of the time: four pixels of 4 · 0.25
    assert measures(moving)["arm blur"] == pytest.approx(4.0)
    assert measures(moving)["trunk width"] > 15


def test_a_gap_between_the_legs_counts_and_a_hole_in_the_outline_is_rough():
    whole, notched = block(20), block(20)
    notched[:, 30:34, 12:24] = 0
    assert measures(notched)["roughness"] > measures(whole)["roughness"]


def test_spread_tells_people_from_walks_and_leaves_the_view_out():
    people, views = np.repeat(np.arange(200), 6), np.tile(np.repeat((0, 90, 180), 2), 200)
    rng = np.random.default_rng(0)
    values = 3.0 * rng.normal(size=200)[people] + 1.5 * rng.normal(size=1200) + views / 10
    between, within = spread(values, Walks([], people, views))
    assert between == pytest.approx(3.0, rel=0.12)
    assert within == pytest.approx(1.5, rel=0.12)


def test_auc_of_distances():
    assert auc(np.array([1.0, 2.0]), np.array([3.0, 4.0])) == 1
    assert auc(np.array([1.0, 3.5]), np.array([3.0, 4.0])) == 0.75
    assert auc(np.array([3.0, 4.0]), np.array([1.0, 2.0])) == 0


def test_classifier_finds_the_rows_that_differ():
    rng = np.random.default_rng(1)
    real = [(270, block(14, step=int(rng.integers(15, 25)))) for _ in range(4)]
    made = [block(20, step=int(rng.integers(15, 25))) for _ in range(8)]
    walks = Walks(made, np.arange(8), np.full(8, 270))
    found = classifier(real, walks)
    assert found["all"] > 0.95
    assert found["trunk"] > 0.95
    assert found["feet"] < 0.9
