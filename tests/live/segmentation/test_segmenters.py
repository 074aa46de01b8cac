"""Boxes, and the choice of a segmenter."""

from __future__ import annotations

import pytest

from cstl_edge.errors import ConfigError
from cstl_edge.live.boxes import box_iou, intersection, union_box
from cstl_edge.live.segmentation.base import SceneState
from cstl_edge.live.segmentation.open import SEGMENTERS, make_segmenter


def test_boxes() -> None:
    a, b = (0.0, 0.0, 10.0, 20.0), (5.0, 10.0, 10.0, 20.0)
    assert intersection(a, b) == 50.0
    assert union_box(a, b) == (0.0, 0.0, 15.0, 30.0)
    assert box_iou(a, b) == pytest.approx(50 / 350)
    assert box_iou(a, (100.0, 0.0, 1.0, 1.0)) == 0.0


@pytest.mark.parametrize("name", SEGMENTERS)
def test_every_segmenter_starts_without_a_scene(name: str) -> None:
    assert make_segmenter(name).state is SceneState.LEARNING


def test_an_unknown_segmenter_names_the_known_ones() -> None:
    with pytest.raises(ConfigError, match="roi, plate"):
        make_segmenter("mog2")
