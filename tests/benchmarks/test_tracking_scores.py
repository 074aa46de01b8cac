"""Scores of tracking against cases worked out by hand."""

import pytest

pytest.importorskip("scipy", reason="scores of tracking are matched by scipy")

from tracking import counted, wrong_share
from tracks.scores import iou_matrix, score

FRAMES = 100


def box(place):
    return (100.0 * place, 0.0, 40.0, 100.0)


def people(count):
    return [{k: box(k) for k in range(count)} for _ in range(FRAMES)]


def test_overlap_of_boxes():
    overlap = iou_matrix([(0, 0, 2, 2)], [(1, 0, 2, 2), (5, 5, 1, 1)])
    assert overlap.tolist() == [pytest.approx([1 / 3, 0])]


def test_perfect_tracks():
    result = score(people(3), [{k + 7: b for k, b in frame.items()} for frame in people(3)])
    assert (result.idf1, result.hota, result.switches) == pytest.approx((1, 1, 0))
    assert (result.recall, result.precision) == (1, 1)


def test_two_of_eight_swapped_half_way():
    """Each of the two has the half of its boxes: 1 - 2 / 8 / 2."""
    swapped = {0: 1, 1: 0}
    tracks = [
        {swapped.get(k, k) if i >= FRAMES // 2 else k: b for k, b in frame.items()}
        for i, frame in enumerate(people(8))
    ]
    result = score(people(8), tracks)
    assert result.idf1 == pytest.approx(0.875)
    assert result.switches == 2
    # AssA: 6 with 1, 2 with a third (50 of 100 + 100 - 50)
    assert result.association == pytest.approx((6 + 2 / 3) / 8)
    assert result.hota == pytest.approx(((6 + 2 / 3) / 8) ** 0.5)


def test_one_missed_and_one_false():
    tracks = [{0: frame[0], 5: (900.0, 0.0, 40.0, 100.0)} for frame in people(2)]
    result = score(people(2), tracks)
    assert (result.recall, result.precision, result.idf1) == (0.5, 0.5, 0.5)
    assert result.hota == pytest.approx((1 / 3) ** 0.5)  # DetA 100 / 300, AssA 1


def test_a_track_that_breaks_is_one_switch():
    tracks = [{i // 60: frame[0]} for i, frame in enumerate(people(1))]
    result = score(people(1), tracks)
    assert (result.idf1, result.switches) == (pytest.approx(0.6), 1)


def test_nobody_and_nothing():
    empty = score([{}, {}], [{}, {}])
    assert (empty.idf1, empty.hota, empty.switches) == (0, 0, 0)


def test_who_is_hardly_seen_is_neither_missed_nor_a_false_box():
    """Boxes that fit somebody hidden, or lie inside them and fit nobody, do not count."""
    seen, hidden = (0.0, 0.0, 40.0, 100.0), (100.0, 0.0, 40.0, 100.0)
    people = [(3, seen, 1.0), (4, hidden, 0.2)]
    boxes = {
        1: seen,
        2: (105.0, 0.0, 40.0, 100.0),  # fits the hidden one
        5: (110.0, 60.0, 20.0, 40.0),  # a piece of them
        6: (10.0, 60.0, 20.0, 40.0),  # a piece of who is seen
        7: (125.0, 60.0, 60.0, 40.0),  # more than half of it outside
    }
    truth, rest = counted([people], [boxes])
    assert truth == [{3: seen}]
    assert set(rest[0]) == {1, 6, 7}


def test_boxes_of_another_than_most_of_a_track_are_wrong():
    swapped = [{k: frame[(k + (i >= 75)) % 2] for k in frame} for i, frame in enumerate(people(2))]
    assert wrong_share(people(2), swapped) == pytest.approx(0.25)
