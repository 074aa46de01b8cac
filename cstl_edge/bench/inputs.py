"""Inputs of the graphs: silhouettes of a synthetic walker."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np

from cstl_edge.arrays import Silhouettes

WALKER_ID = 950_000  # in no training, no calibration and no accuracy
BLOCK = 4  # pixels of a side: silhouettes have areas, not grains


@lru_cache(maxsize=8)
def walk(frames: int, size: tuple[int, int]) -> tuple[Silhouettes, str]:
    """Return silhouettes uint8 [s, h, w], and a description of them.

    Without cv2, or in a size in which Walkers are not made, they are coarse random blocks. INT8 was
    calibrated on people, so its answers on blocks are further off.
    """
    try:
        from cstl_edge.walkers.collection import generate

        once = {"nm": 1}
        walks = generate([WALKER_ID], recordings=once, frames=frames, size=size, views_deg=(90,))
    except (ImportError, ValueError):
        return block_silhouettes(frames, size), "random blocks"
    return walks.silhouettes[0], f"Walkers {WALKER_ID}"


def block_silhouettes(frames: int, size: tuple[int, int]) -> Silhouettes:
    """Return coarse random silhouettes uint8 [s, h, w], always the same."""
    rng, (height, width) = np.random.default_rng(0), size
    coarse = rng.integers(0, 2, (frames, -(-height // BLOCK), -(-width // BLOCK)), np.uint8)
    fine = coarse.repeat(BLOCK, 1).repeat(BLOCK, 2)[:, :height, :width] * np.uint8(255)
    return np.ascontiguousarray(fine)


def feed(graph: str, batch: int, frames: int, size: tuple[int, int]) -> dict[str, Any]:
    """Return the inputs of `frames` or `full`, each sequence a turn of the same walk.

    Args:
        graph: Name of the graph, `frames` or `full`.
        batch: Number of silhouettes of `frames`, of sequences of `full`.
        frames: Length of a sequence.
        size: Height and width of a silhouette [pixels].
    """
    if graph == "frames":
        return {"silhouettes": walk(max(batch, 1), size)[0]}
    silhouettes, _ = walk(frames, size)
    return {"silhouettes": _turns(silhouettes, batch), "lengths": np.full(batch, frames, np.int32)}


def windows(features: Any, batch: int, frames: int) -> dict[str, Any]:
    """Return the inputs of `head`.

    Args:
        features: Features of a walk [s, p, c].
        batch: Number n of sequences, each a turn of the walk.
        frames: Length of a sequence.
    """
    turns = _turns(features[:frames], batch)  # [n, s, p, c]
    return {"features": turns, "lengths": np.full(batch, frames, np.int32)}


def _turns(walk: Any, count: int) -> Any:
    """Return a walk [s, ..] as `count` sequences [n, s, ..], each a frame further on."""
    return np.stack([np.roll(walk, -i, 0) for i in range(count)])
