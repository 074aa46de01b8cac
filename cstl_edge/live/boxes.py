"""Boxes in pixels of the frame: intersection, union, overlap."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from cstl_edge.arrays import Array

Box = tuple[float, float, float, float]  # x, y, w, h in pixels of the source's frame
COVERED = 0.6  # of a person inside the box that hides them


def box_iou(a: Box, b: Box) -> float:
    """Return intersection over union of two boxes.

    >>> box_iou((0, 0, 2, 2), (1, 0, 2, 2))
    0.3333333333333333
    """
    inside = intersection(a, b)
    return inside / (a[2] * a[3] + b[2] * b[3] - inside) if inside else 0.0


def intersection(a: Box, b: Box) -> float:
    """Return the area that two boxes share, in square pixels."""
    ax, ay, aw, ah = a
    bx, by, bw, bh = b
    # most pairs of a frame are apart; a call of `min` or `max` costs more than all the rest
    width = (ax + aw if ax + aw < bx + bw else bx + bw) - (ax if ax > bx else bx)
    if width <= 0:
        return 0.0
    height = (ay + ah if ay + ah < by + bh else by + bh) - (ay if ay > by else by)
    return width * height if height > 0 else 0.0


def union_box(a: Box, b: Box) -> Box:
    """Return the smallest box around two boxes."""
    x, y = min(a[0], b[0]), min(a[1], b[1])
    return x, y, max(a[0] + a[2], b[0] + b[2]) - x, max(a[1] + a[3], b[1] + b[3]) - y


def near_border(box: Box, frame: tuple[int, ...], distance: float = 1.0) -> bool:
    """Return whether a box comes close to the border of a frame.

    Args:
        box: The box, in pixels of the frame.
        frame: Shape of the frame, H, W, ….
        distance: Pixels that count as close, inclusive.
    """
    x, y, w, h = box
    return min(x, y, frame[1] - x - w, frame[0] - y - h) <= distance


def hides(box: Box, person: Box, others: Iterable[Box]) -> bool:
    """Return whether a box covers a person's box, and no other box fits the person better.

    Args:
        box: The box that may hide the person.
        person: Box of the person.
        others: Boxes of other people.
    """
    if intersection(box, person) < COVERED * (person[2] * person[3] or 1e-9):
        return False
    fits = max(0.5, box_iou(box, person))
    return not any(box_iou(other, person) > fits for other in others)


def mask_area(mask: Array) -> int:
    """Return the number of set pixels of a mask [h, w]."""
    return int(np.count_nonzero(mask))


def overlap_slices(
    left: int, top: int, patch: tuple[int, ...], picture: tuple[int, ...]
) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
    """Return the slices of a picture and of a patch where the two overlap, empty where nowhere.

    Args:
        left: Column of the picture at which the patch begins; may be negative.
        top: Row of the picture at which the patch begins.
        patch: Shape of the patch, h, w, ….
        picture: Shape of the picture, H, W, ….

    >>> overlap_slices(-2, 1, (2, 5), (9, 9))
    ((slice(1, 3, None), slice(0, 3, None)), (slice(0, 2, None), slice(2, 5, None)))
    """
    first_row, first_column = max(top, 0), max(left, 0)
    last_row = max(first_row, min(top + patch[0], picture[0]))
    last_column = max(first_column, min(left + patch[1], picture[1]))
    target = slice(first_row, last_row), slice(first_column, last_column)
    source = slice(first_row - top, last_row - top), slice(first_column - left, last_column - left)
    return target, source
