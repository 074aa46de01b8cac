"""Places of labels in a picture: near their walkers, off each other and off everybody's head."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from cstl_edge.live.boxes import Box

HEAD_HEIGHT, HEAD_WIDTH = 0.2, 0.7  # shares of a walker's box, at the middle of its top
HIDDEN_COST = 1000.0  # of a label over labels or heads, in heights of a label
COVERED_COST = 4.0  # of a whole label over other people's bodies

Place = tuple[int, int]  # left, top [pixels]
Rectangles = npt.NDArray[np.float64]  # [k, 4]: left, top, right, bottom [pixels]


def place_labels(
    sizes: Sequence[tuple[int, int]],
    boxes: Sequence[Box],
    frame: tuple[int, int],
    taken: Sequence[Box] = (),
) -> list[Place]:
    """Return where each label goes; every label lies in the picture as far as it fits.

    Args:
        sizes: Width and height of the label of each walker [pixels].
        boxes: x, y, width, height of the walkers, as many.
        frame: Height and width of the picture.
        taken: Further rectangles x, y, width, height that stay free.
    """
    bodies = _rectangles(boxes)
    obstacles = np.concatenate([_rectangles(taken), _heads(bodies)])
    places: list[Place] = [(0, 0)] * len(sizes)
    for index in sorted(range(len(sizes)), key=lambda i: (boxes[i][1], boxes[i][0], i)):
        candidates = _candidates(sizes[index], boxes[index], frame)
        others = np.delete(bodies, index, axis=0)
        width, height = sizes[index]
        shared = _overlap(candidates, obstacles)
        hidden = (shared > 0) + shared / (width * height)
        covered = _overlap(candidates, others) / (width * height)
        away = np.abs(candidates[:, :2] - candidates[0, :2]).sum(axis=1) / height
        best = candidates[np.argmin(HIDDEN_COST * hidden + COVERED_COST * covered + away)]
        places[index] = int(best[0]), int(best[1])
        obstacles = np.concatenate([obstacles, best[None]])
    return places


def _candidates(size: tuple[int, int], box: Box, frame: tuple[int, int]) -> Rectangles:
    """Return possible places of a label: the best one first, then around, then everywhere."""
    (width, height), (x, y, w, h) = size, box
    lefts, tops = [x, x + w - width, x + (w - width) / 2], [y - height, y + h, y + h - height]
    near = [(left, top) for top in tops for left in lefts]
    near += [(x - width, y), (x + w, y), (x - width, y + h / 2), (x + w, y + h / 2)]
    steps = np.arange(0, max(frame[1] - width, 0) + 1, max(width // 2, 1))
    rows = np.arange(0, max(frame[0] - height, 0) + 1, max(height // 2, 1))
    everywhere = np.stack(np.meshgrid(steps, rows), axis=-1).reshape(-1, 2)
    corners = np.concatenate([np.array(near, np.float64), everywhere]).round()
    corners = corners.clip(0, (max(frame[1] - width, 0), max(frame[0] - height, 0)))
    return np.concatenate([corners, corners + size], axis=1)


def _rectangles(boxes: Sequence[Box]) -> Rectangles:
    found = np.array(boxes, np.float64).reshape(-1, 4)
    return np.concatenate([found[:, :2], found[:, :2] + found[:, 2:]], axis=1)


def _heads(bodies: Rectangles) -> Rectangles:
    """Return where the heads of people are."""
    left, top, right, bottom = bodies.T
    inset = (right - left) * (1 - HEAD_WIDTH) / 2
    chin = top + (bottom - top) * HEAD_HEIGHT
    return np.stack([left + inset, top, right - inset, chin], axis=1)


def _overlap(labels: Rectangles, others: Rectangles) -> npt.NDArray[np.float64]:
    """Return the area that each label shares with all others together [pixels squared]."""
    low = np.maximum(labels[:, None, :2], others[None, :, :2])
    high = np.minimum(labels[:, None, 2:], others[None, :, 2:])
    shared = np.clip(high - low, 0, None)
    area: npt.NDArray[np.float64] = (shared[..., 0] * shared[..., 1]).sum(axis=1)
    return area
