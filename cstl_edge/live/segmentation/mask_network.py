"""Geometry of the square crops in which a mask network looks for people.

The network is `runtime.masks`: by default BlazePose lite, cut down to its person mask and its
presence flag (see `assets/NOTICE-blazepose.md`).
"""

from __future__ import annotations

import numpy as np

from cstl_edge.arrays import Image, Indices, Mask
from cstl_edge.live.boxes import Box, intersection
from cstl_edge.live.segmentation.base import Detection
from cstl_edge.opencv import import_cv2

cv2 = import_cv2()

SIDE = 256  # pixels of a crop of the shipped network


def square_around(box: Box, margin: float) -> Box:
    """Return the square around the middle of a box, `margin` times its larger side."""
    x, y, w, h = box
    side = margin * max(w, h)
    return x + (w - side) / 2, y + (h - side) / 2, side, side


def crop_square(image: Image, region: Box, side: int = SIDE) -> Image:
    """Return a square of the frame, uint8 [side, side, 3], black outside the frame.

    Args:
        image: uint8 [H, W, 3].
        region: Square in pixels of the frame.
        side: Of the network's crops [pixels].
    """
    x, y, length, _ = region
    scale = side / length
    # INTER_AREA does not exist for warps: shrink first where the square is much larger than a crop
    if scale < 0.6:
        x0, y0 = max(0, int(x)), max(0, int(y))
        part = image[y0 : int(y + length) + 1, x0 : int(x + length) + 1]
        small = cv2.resize(part, None, fx=2 * scale, fy=2 * scale, interpolation=cv2.INTER_AREA)
        image, x, y, scale = small, (x - x0) * 2 * scale, (y - y0) * 2 * scale, 0.5
    matrix = np.array([[scale, 0, -x * scale], [0, scale, -y * scale]], np.float32)
    crop: Image = cv2.warpAffine(image, matrix, (side, side), flags=cv2.INTER_LINEAR)
    return crop


def paste_mask(detection: Detection, region: Box, side: int = SIDE) -> Mask:
    """Return a detection's mask on the grid of a crop of `region`: uint8 [side, side].

    Args:
        detection: Detection with its mask.
        region: Square in pixels of the frame.
        side: Of the network's crops [pixels].
    """
    x, y, w, _ = detection.box
    scale = side / region[2]
    to_frame = w / detection.mask.shape[1]
    zoom = scale * to_frame
    matrix = np.array(
        [[zoom, 0, (x - region[0]) * scale], [0, zoom, (y - region[1]) * scale]], np.float32
    )
    pasted: Mask = cv2.warpAffine(detection.mask, matrix, (side, side), flags=cv2.INTER_NEAREST)
    return pasted


def may_overlap(detection: Detection, region: Box, side: int = SIDE) -> bool:
    """Return whether a detection's mask may have a pixel in a crop of `region`, after rounding.

    Args:
        detection: Detection with its mask.
        region: Square in pixels of the frame.
        side: Of the network's crops [pixels].
    """
    x, y, w, h = detection.box
    margin = w / detection.mask.shape[1] + region[2] / side  # one pixel of either grid
    grown = (x - margin, y - margin, w + 2 * margin, h + 2 * margin)
    return intersection(grown, region) > 0


def dilated_hull(blob: Mask, distance: int) -> Mask:
    """Return the filled convex hull of a blob [h, w], dilated by an ellipse of radius `distance`.

    The same as `cv2.dilate` of the filled hull in a quarter of the time, because each row of a hull
    is one run of pixels.
    """
    filled: Mask = np.zeros_like(blob)
    outlines, _ = cv2.findContours(blob, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    if not outlines:
        return filled
    cv2.fillConvexPoly(filled, cv2.convexHull(np.concatenate(outlines)), 255)
    width = blob.shape[1]
    has_pixels, beyond = filled.any(axis=1), 4 * max(blob.shape)  # empty rows begin past their end
    begins = np.where(has_pixels, filled.argmax(axis=1), beyond)  # [h]
    ends = np.where(has_pixels, width - 1 - filled[:, ::-1].argmax(axis=1), -beyond)
    ellipse = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * distance + 1, 2 * distance + 1))
    half = ellipse.sum(axis=1, dtype=np.int64) // 2  # [2 * distance + 1]
    first = (_around(begins, distance, beyond) - half).min(axis=1)
    last = (_around(ends, distance, -beyond) + half).max(axis=1)
    columns = np.arange(width)
    inside = (columns >= first[:, None]) & (columns <= last[:, None])  # [h, w]
    return np.asarray(inside * np.uint8(255), np.uint8)


def _around(values: Indices, distance: int, outside: int) -> Indices:
    """Return the neighbours of every value up to a distance: [h] -> [h, 2 * distance + 1]."""
    padded = np.pad(values, distance, constant_values=outside)
    return np.lib.stride_tricks.sliding_window_view(padded, 2 * distance + 1)


def main_components(mask: Mask) -> Mask:
    """Keep the largest component and those of at least a tenth of it (a foot behind a bench)."""
    count, labels, stats, _ = cv2.connectedComponentsWithStats(mask, connectivity=8)
    if count <= 2:
        return mask
    areas = stats[:, cv2.CC_STAT_AREA].copy()
    areas[0] = 0
    main: Mask = ((areas >= 0.1 * areas.max()).astype(np.uint8) * 255)[labels]
    return main
