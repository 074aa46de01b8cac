"""Squares cut out of a frame for a network, and masks carried between their grids.

A square is a box with equal sides, which may reach beyond the frame; its grid is 256 pixels wide.
"""

from __future__ import annotations

import numpy as np

from cstl_edge.live.segment import Box, Detection, Image, Mask
from cstl_edge.live.source import import_cv2

cv2 = import_cv2()

SIDE = 256  # pixels of a square's grid


def square(box: Box, margin: float) -> Box:
    """Return the square around the middle of a box, `margin` times its larger side."""
    x, y, w, h = box
    side = margin * max(w, h)
    return x + (w - side) / 2, y + (h - side) / 2, side, side


def cut(image: Image, region: Box) -> Image:
    """Return the square of the frame at 256 pixels, black outside the frame."""
    x, y, side, _ = region
    scale = SIDE / side
    # INTER_AREA does not exist for warps: shrink first where the crop is much larger than 256
    if scale < 0.6:
        x0, y0 = max(0, int(x)), max(0, int(y))
        part = image[y0 : int(y + side) + 1, x0 : int(x + side) + 1]
        small = cv2.resize(part, None, fx=2 * scale, fy=2 * scale, interpolation=cv2.INTER_AREA)
        image, x, y, scale = small, (x - x0) * 2 * scale, (y - y0) * 2 * scale, 0.5
    matrix = np.array([[scale, 0, -x * scale], [0, scale, -y * scale]], np.float32)
    crop: Image = cv2.warpAffine(image, matrix, (SIDE, SIDE), flags=cv2.INTER_LINEAR)
    return crop


def near_border(box: Box, frame: tuple[int, ...], distance: float) -> bool:
    """Tell whether a box comes this close to the edge of a frame of shape [H, W, 3]."""
    x, y, w, h = box
    right, bottom = frame[1] - x - w, frame[0] - y - h
    return min(x, y, right, bottom) <= distance


def paste(detection: Detection, region: Box) -> Mask:
    """Return a detection's mask on the 256x256 grid of a square."""
    x, y, w, _ = detection.box
    scale = SIDE / region[2]
    to_frame = w / detection.mask.shape[1]
    zoom = scale * to_frame
    matrix = np.array(
        [[zoom, 0, (x - region[0]) * scale], [0, zoom, (y - region[1]) * scale]], np.float32
    )
    pasted: Mask = cv2.warpAffine(detection.mask, matrix, (SIDE, SIDE), flags=cv2.INTER_NEAREST)
    return pasted


def main_part(mask: Mask) -> Mask:
    """Keep the largest component and what is at least a tenth of it (a foot behind a bench)."""
    count, labels, stats, _ = cv2.connectedComponentsWithStats(mask, connectivity=8)
    if count <= 2:
        return mask
    areas = stats[:, cv2.CC_STAT_AREA].copy()
    areas[0] = 0
    kept: Mask = ((areas >= 0.1 * areas.max()).astype(np.uint8) * 255)[labels]
    return kept
