"""Boxes: intersection, union, overlap, borders, hiding."""

from __future__ import annotations

import pytest

from cstl_edge.live.boxes import box_iou, hides, intersection, near_border, union_box


def test_intersection_union_and_iou_of_two_boxes() -> None:
    a, b = (0.0, 0.0, 10.0, 20.0), (5.0, 10.0, 10.0, 20.0)
    assert intersection(a, b) == 50.0
    assert union_box(a, b) == (0.0, 0.0, 15.0, 30.0)
    assert box_iou(a, b) == pytest.approx(50 / 350)
    assert box_iou(a, (100.0, 0.0, 1.0, 1.0)) == 0.0


def test_near_border_compares_the_distance() -> None:
    assert near_border((1.0, 50.0, 20.0, 40.0), (200, 300, 3), 2.0)
    assert not near_border((10.0, 50.0, 20.0, 40.0), (200, 300, 3), 2.0)


def test_a_person_is_hidden_where_no_other_box_fits_better() -> None:
    person = (10.0, 10.0, 20.0, 50.0)
    assert hides((0.0, 0.0, 60.0, 80.0), person, [(12.0, 40.0, 20.0, 50.0)])
    assert not hides((0.0, 0.0, 60.0, 80.0), person, [(11.0, 10.0, 20.0, 50.0)])
    assert not hides((25.0, 0.0, 60.0, 80.0), person, [])
