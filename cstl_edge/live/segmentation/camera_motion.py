"""Motion of the camera: how far the whole picture moves from frame to frame.

Corners of a small grey picture are followed to a later one (Lucas and Kanade's method): walkers
move some of them, a camera most. While the camera stands still a picture is compared every `LOOK_S`
with one of a moment ago; while it moves, every frame with the one before. Letter: `m` corners.
"""

from __future__ import annotations

import math

import numpy as np

from cstl_edge.arrays import Bytes, Floats, Image
from cstl_edge.opencv import import_cv2

cv2 = import_cv2()

WIDTH = 192  # pixels of the small picture
LOOK_S = 0.2  # between two looks while the camera stands still
SHIFT = 0.006  # of the width: so much in one look is a camera that moves
STILL = 0.0012  # of the width per frame: less of it is standing still
STILL_S = 0.6  # so long before the camera counts as still again
MOST_CORNERS, LEAST_CORNERS = 80, 12
QUALITY, APART_PX = 0.01, 8  # of a corner against the best one; between two
WINDOW_PX, LEVELS = 15, 3  # in which a corner is followed, and halvings of the picture
AGREE_PX, AGREE = 0.7, 0.25  # from the median, or a share of it: this corner moves with the picture
MOST_AGREE = 0.6  # of the corners that have to


class CameraMotion:
    """Tells whether the camera moves, and sums up how far the picture has moved."""

    def __init__(self) -> None:
        self.moving = False
        self.offset: tuple[float, float] = (0.0, 0.0)
        """How far a thing at rest has moved in the picture since the beginning, x and y in pixels
        of the frame; only while the camera moves is it followed."""
        self._before: Bytes | None = None
        self._before_s = -math.inf
        self._moved_s = -math.inf

    def update(self, image: Image, time_s: float) -> bool:
        """Take a frame; return whether the camera moves.

        image: uint8 [H, W, 3]
        time_s: media time of the frame in seconds
        """
        if 0 <= time_s - self._before_s < LOOK_S and not self.moving:
            return False
        grey = _small_grey(image)
        before, gap_s = self._before, time_s - self._before_s
        self._before, self._before_s = grey, time_s
        if before is None or before.shape != grey.shape or not 0 <= gap_s <= 5 * LOOK_S:
            self.moving = False
            return False
        x, y = shift_between(before, grey)
        if math.hypot(x, y) > (STILL if self.moving else SHIFT) * WIDTH:
            self._moved_s, self.moving = time_s, True
            scale = image.shape[1] / WIDTH
            self.offset = self.offset[0] + x * scale, self.offset[1] + y * scale
        elif time_s - self._moved_s >= STILL_S:
            self.moving = False
        return self.moving


def shift_between(before: Bytes, after: Bytes) -> tuple[float, float]:
    """Return how far most of a picture has moved, x and y in pixels; 0, 0 where that is not plain.

    before, after: luma uint8 [h, w]
    """
    corners = cv2.goodFeaturesToTrack(before, MOST_CORNERS, QUALITY, APART_PX)  # [m, 1, 2]
    if corners is None or len(corners) < LEAST_CORNERS:
        return 0.0, 0.0
    window = WINDOW_PX, WINDOW_PX
    places, seen, _ = cv2.calcOpticalFlowPyrLK(
        before, after, corners, None, winSize=window, maxLevel=LEVELS
    )
    moves: Floats = (places - corners)[seen[:, 0] > 0][:, 0]  # [m, 2]
    if len(moves) < LEAST_CORNERS:
        return 0.0, 0.0
    x, y = np.median(moves, axis=0)
    away = np.hypot(*(moves - (x, y)).T)
    agree = away <= max(AGREE_PX, AGREE * math.hypot(x, y))
    return (float(x), float(y)) if agree.mean() >= MOST_AGREE else (0.0, 0.0)


def _small_grey(image: Image) -> Bytes:
    """Return luma uint8 [h, WIDTH] of a picture; colours say nothing more."""
    height = max(16, round(image.shape[0] * WIDTH / image.shape[1]))
    small = cv2.resize(image, (WIDTH, height), interpolation=cv2.INTER_AREA)
    grey: Bytes = cv2.cvtColor(small, cv2.COLOR_BGR2GRAY)
    return grey
