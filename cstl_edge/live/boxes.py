"""Boxes in pixels of the frame: intersection, union, overlap."""

from __future__ import annotations

import numpy as np

from cstl_edge.arrays import Array

Box = tuple[float, float, float, float]  # x, y, w, h in pixels of the source's frame


def box_iou(a: Box, b: Box) -> float:
    """Return intersection over union of two boxes.

    >>> box_iou((0, 0, 2, 2), (1, 0, 2, 2))
    0.3333333333333333
    """
    inside = intersection(a, b)
    return inside / max(a[2] * a[3] + b[2] * b[3] - inside, 1e-9)


def intersection(a: Box, b: Box) -> float:
    """Return the area that two boxes share, in square pixels."""
    width = min(a[0] + a[2], b[0] + b[2]) - max(a[0], b[0])
    height = min(a[1] + a[3], b[1] + b[3]) - max(a[1], b[1])
    return max(width, 0.0) * max(height, 0.0)


def union_box(a: Box, b: Box) -> Box:
    """Return the smallest box around two boxes."""
    x, y = min(a[0], b[0]), min(a[1], b[1])
    return x, y, max(a[0] + a[2], b[0] + b[2]) - x, max(a[1] + a[3], b[1] + b[3]) - y


def mask_area(mask: Array) -> int:
    """Return the number of set pixels of a mask [h, w]."""
    return int(np.count_nonzero(mask))
