"""Frames that come at a camera's rate, each showing a number of walkers."""

from __future__ import annotations

import time

import numpy as np

from cstl_edge.runtime.base import Encoder, Silhouettes
from cstl_edge.runtime.streaming import StreamingEncoder

FPS = 25
BUDGET_MS = 1000 / FPS  # a frame must be done when the next one comes
HOPELESS_MS = 50 * BUDGET_MS  # this far behind, the rest of a paced run tells nothing new
MOST_WALKERS = 1024  # where a search ends


def paced(
    encoder: Encoder, walkers: int, window: int, hop: int, seconds: float, slide: bool = True
) -> list[float]:
    """Return latencies [ms] of frames that come at `FPS`, each showing all the walkers.

    A latency counts from the moment the camera has the frame, so being late adds up.
    """
    stream = StreamingEncoder[int](encoder, window, hop, max_walkers=walkers, slide=slide)
    silhouettes = _walk(encoder, window)

    def push(t: int) -> None:
        stream.push({w: silhouettes[(t + w) % window] for w in range(walkers)})

    for t in range(window + hop):  # until every walker has had its first answer
        push(t)
    latencies: list[float] = []
    start = time.perf_counter()
    for t in range(int(seconds * FPS)):
        due = start + t / FPS
        time.sleep(max(0.0, due - time.perf_counter()))
        push(t)
        latencies.append((time.perf_counter() - due) * 1e3)
        if latencies[-1] > HOPELESS_MS:
            break
    return latencies


def _walk(encoder: Encoder, frames: int, seed: int = 0) -> Silhouettes:
    """Return coarse random silhouettes uint8 [frames, h, w]."""
    height, width = encoder.info.size
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 2, (frames, -(-height // 4), -(-width // 4)), dtype=np.uint8)
    fine = coarse.repeat(4, 1).repeat(4, 2)[:, :height, :width] * np.uint8(255)
    return np.ascontiguousarray(fine)
