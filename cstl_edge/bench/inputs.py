"""What the graphs are fed: the silhouettes of a synthetic walker."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np

from cstl_edge.arrays import Silhouettes

WALKER_ID = 950_000  # in no training, no calibration and no accuracy
BLOCK = 4  # pixels of a side: silhouettes have areas, not grains


@lru_cache(maxsize=8)
def walk(frames: int, size: tuple[int, int]) -> tuple[Silhouettes, str]:
    """Return silhouettes uint8 [frames, h, w], and what they show.

    Where Walkers are not made, in that size or without cv2, they are coarse random blocks. INT8 was
    calibrated on people, so its answers on blocks are further off.
    """
    try:
        from cstl_edge.walkers.collection import generate

        made = generate(
            [WALKER_ID], recordings={"nm": 1}, frames=frames, size=size, views_deg=(90,)
        )
    except (ImportError, ValueError):
        rng, (height, width) = np.random.default_rng(0), size
        coarse = rng.integers(0, 2, (frames, -(-height // BLOCK), -(-width // BLOCK)), np.uint8)
        fine = coarse.repeat(BLOCK, 1).repeat(BLOCK, 2)[:, :height, :width] * np.uint8(255)
        return np.ascontiguousarray(fine), "random blocks"
    return made.silhouettes[0], f"Walkers {WALKER_ID}"


def feed(graph: str, batch: int, frames: int, size: tuple[int, int]) -> dict[str, Any]:
    """Return the inputs of `frames` or `full`, each sequence a turn of the same walk.

    batch: silhouettes of `frames`, sequences of `full`
    """
    if graph == "frames":
        return {"silhouettes": walk(max(batch, 1), size)[0]}
    one, _ = walk(frames, size)
    turned = np.stack([np.roll(one, -i, 0) for i in range(batch)])  # [n, s, h, w]
    return {"silhouettes": turned, "lengths": np.full(batch, frames, np.int32)}


def windows(features: Any, batch: int, frames: int) -> dict[str, Any]:
    """Return the inputs of `head` from the features [s, p, c] of a walk."""
    turned = np.stack([np.roll(features[:frames], -i, 0) for i in range(batch)])  # [n, s, p, c]
    return {"features": turned, "lengths": np.full(batch, frames, np.int32)}
