"""Intersection, union and overlap of boxes."""

from __future__ import annotations

import pytest

from cstl_edge.live.boxes import box_iou, intersection, union_box


def test_boxes() -> None:
    a, b = (0.0, 0.0, 10.0, 20.0), (5.0, 10.0, 10.0, 20.0)
    assert intersection(a, b) == 50.0
    assert union_box(a, b) == (0.0, 0.0, 15.0, 30.0)
    assert box_iou(a, b) == pytest.approx(50 / 350)
    assert box_iou(a, (100.0, 0.0, 1.0, 1.0)) == 0.0
