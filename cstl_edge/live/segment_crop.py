"""Squares cut out of a frame for a network, and masks carried between their grids.

A square is a box with equal sides, which may reach beyond the frame; its grid is 256 pixels wide.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

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


def overlaps(detection: Detection, region: Box) -> bool:
    """Tell whether a detection's mask may have a pixel on the grid of a square, after rounding."""
    x, y, w, h = detection.box
    margin = w / detection.mask.shape[1] + region[2] / SIDE  # one pixel of either grid
    return (
        region[0] - margin < x + w
        and x < region[0] + region[2] + margin
        and region[1] - margin < y + h
        and y < region[1] + region[3] + margin
    )


def reached(blob: Mask, distance: int) -> Mask:
    """Return what an ellipse of radius `distance` covers along the convex hull of a blob [h, w].

    It is `cv2.dilate` of the filled hull, each of whose rows is one run of pixels, in a quarter of
    the time.
    """
    filled: Mask = np.zeros_like(blob)
    outlines, _ = cv2.findContours(blob, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    if not outlines:
        return filled
    cv2.fillConvexPoly(filled, cv2.convexHull(np.concatenate(outlines)), 255)
    width = blob.shape[1]
    some, far = filled.any(axis=1), 4 * max(blob.shape)  # an empty row begins far behind its end
    begins = np.where(some, filled.argmax(axis=1), far)  # [h]
    ends = np.where(some, width - 1 - filled[:, ::-1].argmax(axis=1), -far)
    ellipse = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * distance + 1, 2 * distance + 1))
    half = ellipse.sum(axis=1, dtype=np.int64) // 2  # [2 * distance + 1]
    first = (_around(begins, distance, far) - half).min(axis=1)
    last = (_around(ends, distance, -far) + half).max(axis=1)
    columns = np.arange(width)
    inside = (columns >= first[:, None]) & (columns <= last[:, None])  # [h, w]
    return np.asarray(inside * np.uint8(255), np.uint8)


def _around(values: npt.NDArray[np.int64], distance: int, outside: int) -> npt.NDArray[np.int64]:
    """Return the neighbours of every value up to a distance: [h] -> [h, 2 * distance + 1]."""
    padded = np.pad(values, distance, constant_values=outside)
    return np.lib.stride_tricks.sliding_window_view(padded, 2 * distance + 1)


def main_part(mask: Mask) -> Mask:
    """Keep the largest component and what is at least a tenth of it (a foot behind a bench)."""
    count, labels, stats, _ = cv2.connectedComponentsWithStats(mask, connectivity=8)
    if count <= 2:
        return mask
    areas = stats[:, cv2.CC_STAT_AREA].copy()
    areas[0] = 0
    kept: Mask = ((areas >= 0.1 * areas.max()).astype(np.uint8) * 255)[labels]
    return kept
