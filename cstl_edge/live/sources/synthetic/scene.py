"""Scene of the synthetic street: its camera, its picture without people, its light and its noise.

A level camera two metres above the pavement looks at a house front. Distances on the ground are in
metres, `x` to the right and `z` away from the camera; pixels are rows and columns of the picture.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from cstl_edge.arrays import Array, Image

CAMERA_HEIGHT_M = 2.0
FOCAL_SHARE = 0.9  # of the width: 58 degrees of view
HORIZON_SHARE = 0.30  # of the height
WALL_M = 14.0  # distance of the house front
NOISE_STD = 2.2  # grey levels, of the sensor
FLICKER_STD, CLOUDS = 0.004, 0.015  # relative, of the light: in every frame, and slowly
CLOUDS_PERIOD_S = 15.0
TILE_M = 0.8  # of the pavement
POLE_DISTANCES_M, POLE_WIDTHS_M = (3.2, 3.9), (0.08, 0.16)  # between camera and walkers
BANK_MARGIN_PX = 64  # noise is cut from a bank at a random place: drawing new noise costs 12 ms


@dataclass(frozen=True)
class PinholeCamera:
    """A pinhole camera; `size` is height, width in pixels."""

    size: tuple[int, int]

    @property
    def focal_px(self) -> float:
        """Pixels per metre at one metre."""
        return FOCAL_SHARE * self.size[1]

    @property
    def horizon_px(self) -> float:
        """Row of the horizon."""
        return HORIZON_SHARE * self.size[0]

    def floor_row(self, z_m: Any) -> Any:
        """Return the row where a point of the ground at distance `z_m` is seen."""
        return self.horizon_px + self.focal_px * CAMERA_HEIGHT_M / z_m

    def column(self, x_m: Any, z_m: Any) -> Any:
        """Return the column where a point `x_m` to the right at distance `z_m` is seen."""
        return self.size[1] / 2 + self.focal_px * x_m / z_m


@dataclass(frozen=True)
class Pole:
    """A lamp post that hides whoever is behind it, from the picture's top to its foot."""

    columns: slice
    z_m: float


class Light:
    """Changes from frame to frame although nothing moves: clouds, flicker, sensor noise."""

    def __init__(self, size: tuple[int, int], seed: int) -> None:
        """Draw the noise; size: height, width of the picture in pixels."""
        rng = np.random.default_rng([seed, 1])
        shape = (size[0] + BANK_MARGIN_PX, size[1] + BANK_MARGIN_PX, 3)
        grey = rng.normal(0, NOISE_STD, shape[:2]).astype(np.float32)[..., None]
        colour = rng.standard_normal(shape, dtype=np.float32) * (NOISE_STD / 2)
        self._bank = np.clip(128 + grey + colour, 0, 255).round().astype(np.uint8)
        self._clouds_phase = rng.uniform(0, 2 * np.pi)
        self._size, self._seed = size, seed

    def apply(self, image: Image, index: int, time_s: float) -> Image:
        """Return the picture as the sensor gives it.

        Args:
            image: uint8 [H, W, 3], BGR, without noise.
            index: Number of the frame; the same number gives the same noise.
            time_s: Media time of the frame in seconds, for the clouds.
        """
        rng = np.random.default_rng([self._seed, 2, index])
        top, left = rng.integers(0, BANK_MARGIN_PX, 2)
        noise = self._bank[top : top + self._size[0], left : left + self._size[1]]
        clouds = CLOUDS * np.sin(2 * np.pi * time_s / CLOUDS_PERIOD_S + self._clouds_phase)
        gain = 1.0 + clouds + FLICKER_STD * rng.normal()
        return np.asarray(cv2.addWeighted(image, gain, noise, 1.0, -128.0), dtype=np.uint8)


def empty_street(camera: PinholeCamera, seed: int) -> Image:
    """Paint the street without people, uint8 [H, W, 3]."""
    rng = np.random.default_rng([seed, 0])
    height, width = camera.size
    foot = round(float(camera.floor_row(WALL_M)))
    canvas = np.empty((height, width, 3), np.float32)
    canvas[:foot] = _house_front(rng, foot, width, camera.focal_px / WALL_M)
    canvas[foot:] = _pavement(rng, camera, foot)
    canvas[foot - 3 : foot + 2] *= 0.6  # the dirt where house and pavement meet
    stains = _blotches(rng, (height, width), 24) + 0.5 * _blotches(rng, (height, width), 5)
    canvas *= 1.0 + 0.05 * stains[..., None]
    canvas += rng.normal(0, 3.0, (height, width, 1))
    soft = cv2.GaussianBlur(np.clip(canvas, 0, 255).astype(np.uint8), (0, 0), 0.7)
    return np.asarray(soft, dtype=np.uint8)


def draw_poles(street: Image, camera: PinholeCamera, count: int, seed: int) -> list[Pole]:
    """Paint lamp posts into the picture, in place, and return them.

    Args:
        street: Picture of the street, uint8 [H, W, 3].
        camera: Its camera.
        count: How many, spread over the width.
        seed: Seed of the street.
    """
    rng, poles = np.random.default_rng([seed, 7]), []
    for number in range(count):
        z_m = float(rng.uniform(*POLE_DISTANCES_M))
        width = max(3, round(camera.focal_px * float(rng.uniform(*POLE_WIDTHS_M)) / z_m))
        left = int(camera.size[1] * (number + rng.uniform(0.25, 0.75)) / count)
        pole = Pole(slice(left, left + width), z_m)
        round_light = 0.65 + 0.5 * np.sin(np.linspace(0.4, 2.4, width))[None, :, None]
        street[:, pole.columns] = np.array([72, 78, 74]) * round_light[:, : camera.size[1] - left]
        poles.append(pole)
    return poles


def _house_front(rng: np.random.Generator, height: int, width: int, px_per_m: float) -> Array:
    """Paint bricks or plaster with windows: [height, width, 3]."""
    plaster = np.array([[130, 150, 168], [165, 172, 176], [128, 140, 178], [150, 165, 160]])
    front = np.empty((height, width, 3), np.float32)
    front[:] = plaster[rng.integers(len(plaster))] + rng.normal(0, 5, 3)
    front[:: max(3, round(0.12 * px_per_m))] *= 0.93  # courses of brick
    step = rng.uniform(2.2, 3.0) * px_per_m
    for left in np.arange(rng.uniform(-1, 0) * step, width, step):
        glass = rng.uniform(0.75, 1.1) * np.array([105, 92, 80])
        sill = height - 0.95 * px_per_m
        box = (left, sill - 1.5 * px_per_m, left + 0.45 * step, sill)
        _rectangle(front, box, np.array([195, 200, 200]))
        inset = (box[0] + 3, box[1] + 3, box[2] - 3, box[3] - 3)
        _rectangle(front, inset, glass)
    front[round(height - 0.35 * px_per_m) :] *= 0.82  # the plinth
    return front


def _pavement(rng: np.random.Generator, camera: PinholeCamera, foot: int) -> Array:
    """Paint stone tiles in perspective: [H - foot, W, 3]."""
    height, width = camera.size
    rows = np.arange(foot, height, dtype=np.float32)[:, None] + 0.5
    z_m = camera.focal_px * CAMERA_HEIGHT_M / (rows - camera.horizon_px)  # [H - foot, 1]
    columns = np.arange(width, dtype=np.float32)[None] + 0.5
    x_m = (columns - width / 2) * z_m / camera.focal_px  # [H - foot, W]
    across, along = x_m / TILE_M, np.broadcast_to(z_m / TILE_M, x_m.shape)
    shades = rng.normal(0, 5, (64, 64)).astype(np.float32)
    tone = shades[np.floor(across).astype(int) % 64, np.floor(along).astype(int) % 64]
    width_of_gap = 0.02 + 0.6 * z_m / camera.focal_px / TILE_M  # a gap is never under half a pixel
    gap = (across % 1 < width_of_gap) | (along % 1 < width_of_gap)
    stone = np.array([148, 152, 154]) + rng.normal(0, 6, 3)
    painted: Array = (stone + tone[..., None]) * np.where(gap, 0.86, 1.0)[..., None]
    return painted


def _rectangle(canvas: Array, box: Sequence[float | np.floating[Any]], colour: Array) -> None:
    left, top, right, bottom = (max(0, round(float(v))) for v in box)
    canvas[top:bottom, left:right] = colour


def _blotches(rng: np.random.Generator, size: tuple[int, int], cell_px: int) -> Array:
    """Return smooth noise of about unit variance, [H, W]."""
    coarse = rng.standard_normal((size[0] // cell_px + 2, size[1] // cell_px + 2), dtype=np.float32)
    smooth = cv2.resize(coarse, size[::-1], interpolation=cv2.INTER_CUBIC)
    return np.asarray(smooth, dtype=np.float32)
