"""The decision: a name, or the reason against one."""

import math

import numpy as np
import pytest
from gallery_index import index_of

from cstl_edge.gallery.match import SeenWalk, decide, walk_distances
from cstl_edge.gallery.thresholds import Threshold


def answer(index, windows, threshold, **more):
    distances = walk_distances(index, SeenWalk.of_windows(windows), None)
    return decide(index, distances, threshold, 0.01, **more)


def test_decisions_give_a_name_or_the_reason_against_one(rng):
    a, b = np.zeros((1, 1, 2), np.float32), np.full((1, 1, 2), [[3, 4]], np.float32)
    query = np.array([[[0, 1]]], np.float32)
    known = answer(index_of(a, b), query, Threshold(2.0, "model", "note"))
    assert (known.name, known.distance, known.runner_up, known.reason) == ("p0", 1.0, "p1", None)
    assert known.margin == pytest.approx(math.sqrt(18) - 1)
    assert (known.threshold, known.threshold_source, known.note) == (2.0, "model", "note")
    far = answer(index_of(a, b), query, Threshold(1.0, "gallery"))
    assert (far.name, far.nearest, far.reason) == (None, "p0", "nearest is too far")
    assert answer(index_of(a, b), query, Threshold(None, "none")).reason == "no calibration"
    twins = answer(index_of(a, a), query, Threshold(2.0, "given"))
    assert (twins.name, twins.margin, twins.reason) == (None, 0.0, "ambiguous")
    alone = answer(index_of(a), query, Threshold(2.0, "given"))
    assert (alone.name, alone.runner_up, alone.margin, alone.people) == ("p0", None, None, 1)


def test_several_windows_are_one_search():
    a, b = np.zeros((1, 1, 1), np.float32), np.full((1, 1, 1), 10, np.float32)
    windows = np.array([1, 1, 7], np.float32).reshape(3, 1, 1)  # mean 3 to a, 7 to b
    decision = answer(index_of(a, b), windows, Threshold(4.0, "given"))
    assert (decision.name, decision.distance, decision.margin) == ("p0", 3.0, 4.0)
