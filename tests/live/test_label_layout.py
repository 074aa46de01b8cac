"""Labels: off each other, off every head, in the picture, near their walkers."""

import numpy as np
import pytest

from cstl_edge.live.label_layout import HEAD_HEIGHT, HEAD_WIDTH, place_labels

FRAME = (480, 848)


def shared(a, b):
    """Area that two rectangles x, y, width, height have in common."""
    width = min(a[0] + a[2], b[0] + b[2]) - max(a[0], b[0])
    height = min(a[1] + a[3], b[1] + b[3]) - max(a[1], b[1])
    return max(width, 0) * max(height, 0)


def head(box):
    x, y, w, h = box
    return (x + w * (1 - HEAD_WIDTH) / 2, y, w * HEAD_WIDTH, h * HEAD_HEIGHT)


@pytest.mark.parametrize("seed", range(20))
def test_labels_hide_neither_each_other_nor_a_head(seed):
    rng = np.random.default_rng(seed)
    boxes = [
        (float(x), float(y), 80.0, 200.0)
        for x, y in zip(rng.uniform(-20, 800, 12), rng.uniform(-20, 300, 12), strict=True)
    ]
    sizes = [(int(width), 24) for width in rng.integers(40, 260, 12)]
    note = (0.0, 0.0, 200.0, 24.0)
    places = place_labels(sizes, boxes, FRAME, [note])
    labels = [(*place, *size) for place, size in zip(places, sizes, strict=True)]
    for number, label in enumerate(labels):
        assert 0 <= label[0] <= FRAME[1] - label[2]
        assert 0 <= label[1] <= FRAME[0] - label[3]
        assert all(shared(label, other) == 0 for other in labels[number + 1 :])
        assert all(shared(label, head(box)) == 0 for box in boxes)
        assert shared(label, note) == 0


def test_lone_walker_has_the_label_on_top_and_at_the_upper_border_below_the_head():
    assert place_labels([(100, 24)], [(300.0, 100.0, 80.0, 200.0)], FRAME) == [(300, 76)]
    ((x, y),) = place_labels([(100, 24)], [(300.0, 0.0, 80.0, 200.0)], FRAME)
    assert y >= 200 * HEAD_HEIGHT or not 240 < x < 380


def test_label_larger_than_the_picture_starts_at_its_corner():
    assert place_labels([(900, 500)], [(5.0, 5.0, 8.0, 8.0)], FRAME) == [(0, 0)]
    assert place_labels([], [], FRAME) == []
