"""Matching of halves of real walks, on embeddings worked out by hand."""

import numpy as np
import pytest
from real_clips import match_halves, windows


def walk(*values):
    """A silhouette of one pixel per value."""
    return np.array(values, np.uint8)[:, None, None]


def first_pixel(sequences):
    return sequences[:, :1, 0].astype(np.float32)  # [k, 1, 1]


def test_windows_are_a_hop_apart_and_a_short_walk_is_one():
    assert windows(walk(*range(9)), 4, 2)[:, 0, 0, 0].tolist() == [0, 2, 4]
    assert windows(walk(7, 8), 4, 2).shape == (1, 2, 1, 1)


def test_well_separated_people_have_rank1_and_auc_of_one():
    people = {"a": (walk(10), walk(12)), "b": (walk(50), walk(47)), "c": (walk(90), walk(99))}
    assert match_halves(people, first_pixel) == {"rank1": 1.0, "auc": 1.0}


def test_rank1_and_auc_of_two_people_by_hand():
    """b's second half looks like a: one of two is right; own 1 and 28, other 39 and 12."""
    people = {"a": (walk(10), walk(11)), "b": (walk(50), walk(22))}
    figures = match_halves(people, first_pixel)
    assert figures["rank1"] == 0.5
    assert figures["auc"] == pytest.approx(3 / 4)  # of four pairs, 28 is not below 12
