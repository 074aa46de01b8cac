"""Motion of the camera: a pan is seen and summed up, walkers are none."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from cstl_edge.live.segmentation.camera_motion import CameraMotion, shift_between

FPS = 25.0


@pytest.fixture(scope="module")
def wall():
    """Return a wall with spots of all sizes, uint8 [360, 1000, 3]."""
    rng = np.random.default_rng(3)
    coarse = rng.uniform(0, 255, (45, 125, 3)).astype(np.float32)
    picture = cv2.resize(coarse, (1000, 360), interpolation=cv2.INTER_CUBIC)
    return np.clip(picture, 0, 255).astype(np.uint8)


def view(wall, left: float):
    """Return what a camera sees that has turned `left` pixels to the right: [360, 640, 3]."""
    matrix = np.array([[1, 0, -left], [0, 1, 0]], np.float32)
    return cv2.warpAffine(wall, matrix, (640, 360))


def watched(frames) -> tuple[CameraMotion, list[bool]]:
    motion = CameraMotion()
    return motion, [motion.update(image, i / FPS) for i, image in enumerate(frames)]


@pytest.mark.parametrize("speed_px", [1.5, 4.0, -7.0])
def test_a_pan_is_followed_to_a_pixel_per_second(wall, speed_px: float) -> None:
    lefts = [180 + speed_px * (i - 12) for i in range(25)]
    motion, moving = watched(view(wall, left) for left in lefts)
    assert all(moving[6:])
    # the first look compares with the picture of 0.2 s before, so nothing is missed
    assert motion.offset[0] == pytest.approx(lefts[0] - lefts[-1], abs=2)
    assert motion.offset[1] == pytest.approx(0, abs=1)


def test_a_camera_that_stops_counts_as_still_after_a_moment(wall) -> None:
    lefts = [100 + 5.0 * min(i, 20) for i in range(60)]
    _, moving = watched(view(wall, left) for left in lefts)
    assert moving[20]
    assert not any(moving[45:])


def test_walkers_are_no_motion_of_the_camera(wall) -> None:
    def street(frame: int):
        picture = view(wall, 100).copy()
        for number, speed in enumerate((6, -5, 9)):
            left = (80 + 190 * number + speed * frame) % 560
            picture[90:340, left : left + 80] = wall[20:270, 880:960]
        return picture

    motion, moving = watched(street(i) for i in range(40))
    assert not any(moving)
    assert motion.offset == (0.0, 0.0)


def test_where_nothing_can_be_followed_nothing_moves() -> None:
    flat = np.full((108, 192), 90, np.uint8)
    assert shift_between(flat, flat) == (0.0, 0.0)


def test_noise_and_a_change_of_light_are_no_motion(wall) -> None:
    rng = np.random.default_rng(4)

    def lit(frame: int):
        gain = 1.0 if frame < 15 else 0.6
        noisy = gain * view(wall, 100).astype(np.float32) + rng.normal(size=(360, 640, 1)) * 4
        return np.clip(noisy, 0, 255).astype(np.uint8)

    _, moving = watched(lit(i) for i in range(30))
    assert not any(moving)
