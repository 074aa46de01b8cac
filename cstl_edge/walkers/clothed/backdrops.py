"""Backdrops: pictures of our own making, in families, for people to walk in front of.

Two families are kept for the shifted test set.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import cv2
import numpy as np

from cstl_edge.arrays import Array, Image

FAMILIES = ("wall", "street", "room", "cloth")
SHIFTED_FAMILIES = ("leaves", "paving")


def backdrop(
    rng: np.random.Generator,
    shape: tuple[int, int],
    families: tuple[str, ...],
    pictures: tuple[Image, ...] = (),
) -> Image:
    """Return a picture uint8 BGR [h, w, 3].

    Args:
        rng: Random numbers.
        shape: h, w in pixels.
        families: Families of drawn pictures to choose from.
        pictures: Photographs to choose from as often as from all families together.
    """
    if pictures and rng.random() < 0.5:
        return _cut(rng, pictures[int(rng.integers(len(pictures)))], shape)
    drawn = DRAWN[str(rng.choice(families))](rng, *shape)
    grey = drawn.mean(2, keepdims=True)
    drawn = grey + (drawn - grey) * rng.uniform(0.1, 0.7)
    return np.asarray(np.clip(drawn, 0, 255), np.uint8)


def _cut(rng: np.random.Generator, picture: Image, shape: tuple[int, int]) -> Image:
    """Return a random part of a photograph, scaled."""
    zoom = max(shape[0] / picture.shape[0], shape[1] / picture.shape[1]) * rng.uniform(1.0, 1.6)
    large = cv2.resize(picture, None, fx=zoom, fy=zoom, interpolation=cv2.INTER_LINEAR)
    top = int(rng.integers(max(1, large.shape[0] - shape[0])))
    left = int(rng.integers(max(1, large.shape[1] - shape[1])))
    part = large[top : top + shape[0], left : left + shape[1]]
    missing = [(0, s - p) for s, p in zip(shape, part.shape[:2], strict=True)]
    return np.asarray(np.pad(part, (*missing, (0, 0)), mode="edge"), np.uint8)


def _noise(rng: np.random.Generator, h: int, w: int, cell: float) -> Array:
    """Return smooth noise [h, w, 3], unit variance, of cells of some pixels."""
    rows, columns = max(2, round(h / cell)), max(2, round(w / cell))
    rough = rng.normal(size=(rows, columns, 3)).astype(np.float32)
    return np.asarray(cv2.resize(rough, (w, h), interpolation=cv2.INTER_CUBIC))


def _base(rng: np.random.Generator, h: int, w: int) -> Array:
    """Return wall and floor of two colours with a slow change of light."""
    wall, floor = rng.uniform(50, 220, 3), rng.uniform(40, 190, 3)
    rows = (np.arange(h) > h * rng.uniform(0.55, 0.8))[:, None, None]
    flat = np.where(rows, floor, wall) * np.ones((1, w, 1))
    return np.asarray(flat + 12 * _noise(rng, h, w, max(h, w) / 2), np.float32)


def _wall(rng: np.random.Generator, h: int, w: int) -> Array:
    out = _base(rng, h, w)
    step = rng.uniform(8, 30)
    lines = (np.arange(h) % step < 1.5)[:, None, None] * rng.uniform(-40, 20)
    return np.asarray(out + lines + rng.uniform(2, 10) * _noise(rng, h, w, rng.uniform(1.5, 6)))


def _street(rng: np.random.Generator, h: int, w: int) -> Array:
    out = _wall(rng, h, w)
    for _ in range(int(rng.integers(4, 14))):
        x, y = rng.integers(w), rng.integers(int(h * 0.7))
        end = (int(x + rng.uniform(0.05, 0.3) * h), int(y + rng.uniform(0.1, 0.5) * h))
        cv2.rectangle(out, (int(x), int(y)), end, rng.uniform(20, 230, 3).tolist(), -1)
    return out


def _room(rng: np.random.Generator, h: int, w: int) -> Array:
    out = _street(rng, h, w)
    for _ in range(int(rng.integers(2, 6))):
        x = int(rng.integers(w))
        colour = rng.uniform(20, 230, 3).tolist()
        cv2.line(out, (x, 0), (x, h), colour, int(rng.integers(2, 12)))
    return np.asarray(cv2.GaussianBlur(out, (0, 0), 1.0))


def _cloth(rng: np.random.Generator, h: int, w: int) -> Array:
    out = _base(rng, h, w)
    for cell in (3, 9, 27):
        out += rng.uniform(3, 16) * _noise(rng, h, w, cell)
    return out


def _leaves(rng: np.random.Generator, h: int, w: int) -> Array:
    out = _base(rng, h, w) * (0.6, 0.9, 0.6)
    for _ in range(int(h * w / 400)):
        place = (int(rng.integers(w)), int(rng.integers(int(h * 0.75))))
        axes = (int(rng.integers(2, 7)), int(rng.integers(1, 4)))
        colour = (rng.uniform(20, 90), rng.uniform(50, 190), rng.uniform(20, 110))
        cv2.ellipse(out, place, axes, float(rng.uniform(0, 180)), 0, 360, colour, -1)
    return np.asarray(cv2.GaussianBlur(out, (0, 0), 0.6))


def _paving(rng: np.random.Generator, h: int, w: int) -> Array:
    out = _base(rng, h, w)
    size = rng.uniform(10, 40)
    rows, columns = np.arange(h)[:, None] / size, np.arange(w)[None] / size
    checks = (rows.astype(int) + columns.astype(int)) % 2
    joints = ((rows % 1 < 0.08) | (columns % 1 < 0.08)) * 1.0
    pattern = checks * rng.uniform(5, 50) - joints * 30
    return np.asarray(out + pattern[..., None] + 4 * _noise(rng, h, w, 2))


DRAWN: Mapping[str, Callable[[np.random.Generator, int, int], Array]] = {
    "wall": _wall,
    "street": _street,
    "room": _room,
    "cloth": _cloth,
    "leaves": _leaves,
    "paving": _paving,
}
