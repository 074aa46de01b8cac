"""What a walker costs on this machine: one more frame of one, and how many at once keep up."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from cstl_edge.measure import percentile
from cstl_edge.runtime.base import Encoder, Silhouettes
from cstl_edge.runtime.streaming import StreamingEncoder

FPS = 25
BUDGET_MS = 1000 / FPS  # a frame must be done when the next one comes
WARM_UP = 2  # samples dropped at the beginning of each contender
HOPELESS_MS = 50 * BUDGET_MS  # this far behind, the rest of a paced run tells nothing new
MOST_WALKERS = 1024  # where the search ends
EAGER_EVERY = 4  # rounds: the slowest contender needs the fewest samples


def walk(encoder: Encoder, frames: int, seed: int = 0) -> Silhouettes:
    """Return coarse random silhouettes uint8 [frames, h, w]."""
    height, width = encoder.info.size
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 2, (frames, -(-height // 4), -(-width // 4)), dtype=np.uint8)
    fine = coarse.repeat(4, 1).repeat(4, 2)[:, :height, :width] * np.uint8(255)
    return np.ascontiguousarray(fine)


def ways(encoder: Encoder) -> dict[str, bool]:
    """Return the ways to stream on an encoder, and whether windows slide there."""
    return {"streaming": True} | (
        {"streaming, whole windows": False} if encoder.info.slides else {}
    )


def cost_of_a_frame(
    runtime: Encoder,
    eager: Encoder | None,
    window: int,
    hop: int,
    rounds: int,
    others: Mapping[str, Encoder] | None = None,
) -> dict[str, list[float]]:
    """Return milliseconds per frame of one walker by contender, taken in turn in one run.

    A sample of streaming is a whole hop divided by its frames, so each holds its share of the head.
    One hop goes before it untimed: a camera's frame finds the caches as the last one left them, not
    as the contender before did (2.1 against 2.8 ms for whoever came first, on two busy cores).
    Where windows slide, streaming with whole windows is a contender too.

    others: further encoders that stream in the same run, by what is added to a contender's name,
    e.g. {"int8": encoder}
    """
    silhouettes = walk(runtime, window)
    streams = {
        (name, k): StreamingEncoder[int](runtime, window, k, slide=slide)
        for name, slide in ways(runtime).items()
        for k in (1, hop)
    }
    for added, encoder in (others or {}).items():
        for k in (1, hop):
            streams[f"streaming, {added}", k] = StreamingEncoder[int](encoder, window, k)
    samples: dict[str, list[float]] = {}

    def clock(name: str, frames: int, work: Callable[[], Any]) -> None:
        start = time.perf_counter()
        work()
        samples.setdefault(name, []).append((time.perf_counter() - start) * 1e3 / frames)

    for stream in streams.values():
        _feed(stream, silhouettes)
    for turn in range(rounds + WARM_UP):
        for (name, k), stream in streams.items():
            frames = np.roll(silhouettes, -turn, 0)[:k]
            _feed(stream, frames)
            clock(f"{name}, hop {k}", k, lambda s=stream, f=frames: _feed(s, f))  # type: ignore[misc]
        clock("trunk, one frame", 1, lambda: runtime.frames(silhouettes[:1]))
        clock("window anew, same runtime", 1, lambda: runtime.encode(silhouettes[None]))
        if eager is not None and turn % EAGER_EVERY == 0:
            clock("window anew, eager PyTorch", 1, lambda: eager.encode(silhouettes[None]))
    return {name: taken[WARM_UP:] for name, taken in samples.items()}


def paced(
    encoder: Encoder, walkers: int, window: int, hop: int, seconds: float, slide: bool = True
) -> list[float]:
    """Return latencies [ms] of frames that come at `FPS`, each showing all the walkers.

    A latency counts from the moment the camera has the frame, so being late adds up.
    """
    stream = StreamingEncoder[int](encoder, window, hop, max_walkers=walkers, slide=slide)
    silhouettes = walk(encoder, window)

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


def most_walkers(run: Callable[[int], list[float]]) -> tuple[int, dict[int, list[float]]]:
    """Return how many walkers stay in time (p99), and the latencies of every number tried.

    run: from a number of walkers to latencies [ms]; doubled until too late, then bisected
    """
    tried: dict[int, list[float]] = {}

    def in_time(walkers: int) -> bool:
        tried[walkers] = run(walkers)
        return percentile(tried[walkers], 99) < BUDGET_MS

    low, high = 0, 1
    while in_time(high):
        low, high = high, 2 * high
        if low >= MOST_WALKERS:
            return low, tried
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if in_time(middle) else (low, middle)
    return low, tried


def _feed(stream: StreamingEncoder[int], silhouettes: Silhouettes) -> None:
    """Push frames of one walker."""
    for silhouette in silhouettes:
        stream.push({0: silhouette})
