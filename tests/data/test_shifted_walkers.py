"""Shifted test set: five walks of each person, the same pixels at both sizes."""

import numpy as np

from cstl_edge.data.shards import ShardedSequences
from cstl_edge.data.shifted_walkers import shifted_fingerprint, shifted_shards
from cstl_edge.evaluation.held_out import held_out
from cstl_edge.silhouette import LARGE, SMALL


def test_the_set_is_frozen():
    assert shifted_fingerprint() == "a3748479a42f"  # everything is chosen by it: never made anew


def test_everybody_walks_five_times_and_sizes_agree(tmp_path):
    small = ShardedSequences(shifted_shards(tmp_path, SMALL))
    large = ShardedSequences(shifted_shards(tmp_path, LARGE))
    assert len(np.unique(small.people)) == 32
    assert set(small.sequences) == {"nm-01", "nm-05", "nm-06", "bg-01", "cl-01"}
    assert set(small.views_deg) == {0, 90, 180, 270}
    assert len(small.people) > 600
    assert small.lengths.min() >= 6
    for row in (0, 200, 500):
        fine = large.read(row).astype(np.float64)
        mean = fine.reshape(len(fine), 64, 2, 44, 2).mean((2, 4))
        assert np.abs(small.read(row) - mean).max() <= 1
        assert 0.1 < (small.read(row) > 127).mean() < 0.6


def test_evaluation_takes_it_by_name(tmp_path, monkeypatch):
    monkeypatch.setattr("cstl_edge.evaluation.held_out.CACHE", tmp_path)
    test = held_out("walkers:shifted", SMALL)
    assert test.protocol == "casia-b"
    assert "shifted" in test.description
    assert test.source.endswith(shifted_fingerprint())
