"""Distances, rank-1 table and impostor thresholds against worked examples and plain loops."""

import numpy as np
import pytest

from cstl_edge.distance import EUCLIDEAN
from cstl_edge.evaluation.closed_set import rank1_table
from cstl_edge.evaluation.embeddings import gait_energy
from cstl_edge.evaluation.impostors import (
    WalkSearches,
    impostor_table,
    measure_open_set,
    walk_distances,
)
from cstl_edge.evaluation.intervals import bootstrap

from .conftest import draw_labelled

RNG = np.random.default_rng(0)


def labelled(people=6, spread=0.0, seed=0):
    return draw_labelled(people, spread=spread, dims=8, seed=seed)


def test_distance_is_the_mean_over_parts():
    a = RNG.normal(size=(5, 3, 4)).astype(np.float32)
    b = RNG.normal(size=(7, 3, 4)).astype(np.float32)
    plain = [[np.mean([np.linalg.norm(x[p] - y[p]) for p in range(3)]) for y in b] for x in a]
    assert np.allclose(EUCLIDEAN.pairwise(a, b), plain, atol=1e-5)


def test_perfect_embeddings_have_rank1_of_1():
    table = rank1_table(labelled())
    right = {"same_view": 1.0, "cross_view": 1.0}
    assert table["mean"] == right | {f"{name}_95": [1.0, 1.0] for name in right}
    assert table["cl"]["per_view"] == {0: 1.0, 90: 1.0}


def test_rank1_of_a_worked_example():
    """Two people, two views; at 90 degrees both look like person 11."""
    data = labelled(people=2)
    data.embeddings[data.views_deg == 90] = data.embeddings[data.people == 11][0]
    row = rank1_table(data, draws=50)["nm"]
    # gallery 0, probe 90: always called person 11 (half right); gallery 90 has two equal entries,
    # the first of which (person 10) wins, for probes at 0: half right again
    assert row["cross_view"] == pytest.approx(0.5)
    assert row["per_view"][90] == pytest.approx(0.5)
    assert row["same_view"] == pytest.approx((1.0 + 0.5) / 2)


def test_rank1_of_noise_is_chance():
    data = labelled(people=20, spread=1e3)
    assert rank1_table(data)["nm"]["cross_view"] < 0.2


def test_bootstrap_covers_the_mean_and_shrinks():
    few, many = RNG.random(20), RNG.random(2000)
    low, high = bootstrap(few)
    assert low < few.mean() < high
    narrow = bootstrap(many)
    assert narrow[1] - narrow[0] < (high - low) / 3


def test_gait_energy_is_the_mean_over_frames():
    silhouettes = RNG.integers(0, 256, (3, 5, 4, 2), dtype=np.uint8)
    energy = gait_energy(silhouettes)
    assert energy.shape == (3, 1, 8)
    assert np.allclose(energy[1, 0], silhouettes[1].mean(0).ravel() / 255, atol=1e-6)


def searches(people):
    """WalkSearches among walks of one window each."""
    windows = np.asarray(people.embeddings, np.float32)[:, None]
    return WalkSearches(walk_distances(windows, EUCLIDEAN), people.people, seed=0)


def test_impostor_thresholds_fall_with_the_gallery_and_rise_with_the_rate():
    people = labelled(people=12, spread=0.3)
    table = impostor_table(searches(people), sizes=(1, 4, 8), walks_each=(1, 6), draws=2000)
    (threshold,) = np.array(table["threshold"])  # of one window: [walks, sizes, rates]
    assert threshold.shape == (2, 3, 6)
    # more walks, more people: the nearest distance falls, but for the noise of its quantiles
    assert (np.diff(threshold[..., 2:], axis=0) <= 0.05).all()
    assert (np.diff(threshold[..., 2:], axis=1) <= 0.05).all()
    assert (np.diff(threshold, axis=2) >= 0).all()
    with pytest.raises(ValueError, match="more than 8 people"):
        impostor_table(searches(labelled(people=6)), sizes=(8,), draws=10)


def test_impostor_thresholds_hold_on_other_people():
    people, others = (labelled(people=60, spread=0.3, seed=seed) for seed in (3, 4))
    table = impostor_table(searches(people), sizes=(8,), draws=4000)
    for count in (1, 4):
        rows = measure_open_set(others, table, size=8, walks_each=count, draws=60)
        by_rate = {row["fpir_wanted"]: row for row in rows}
        assert 0.04 < by_rate[0.1]["fpir"] < 0.2
        assert by_rate[0.3]["fnir"] <= by_rate[0.01]["fnir"]
        # the two agree where the threshold lets the wanted rate pass, and lie apart by its error
        wide = by_rate[0.1]["fpir"] > 0.1
        assert (by_rate[0.1]["fnir"] <= by_rate[0.1]["fnir_at_wanted"] + 0.01) == wide
