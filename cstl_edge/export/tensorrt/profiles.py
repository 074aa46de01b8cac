"""Optimization profiles of engines: one for a single walker, one for every other call.

TensorRT chooses its kernels per profile, for the sizes called `opt`. The most frequent live call,
one walker with a full window, has a profile to itself; a second one takes everything else.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from cstl_edge.errors import ConfigError
from cstl_edge.runtime.manifest import Shape
from cstl_edge.runtime.tensorrt.record import Profile, SizeRange

TYPICAL_WALKERS = 8  # what the second profile is fastest for
MOST_WALKERS = 32


@dataclass(frozen=True)
class Sizes:
    """Sizes of the calls that an engine has to take."""

    walkers: int = MOST_WALKERS
    """In one call; more are cut into several."""
    window: int = 30
    """Frames of a live window."""
    frames: int = 240
    """Frames of the longest sequence."""

    def __post_init__(self) -> None:
        """Refuse sizes out of range (ConfigError)."""
        if not 1 <= self.walkers <= MOST_WALKERS:
            raise ConfigError(f"expected 1..{MOST_WALKERS} walkers; got {self.walkers}")
        if not 1 <= self.window <= self.frames:
            raise ConfigError(
                f"expected a window of 1..{self.frames} frames, the longest sequence; "
                f"got {self.window}"
            )


def profiles(graph: str, shape: Shape, sizes: Sizes) -> list[Profile]:
    """Return the profiles of a graph.

    Args:
        graph: `frames`, `head` or `full`.
        shape: of the network.
        sizes: of the calls.
    """
    one, many = (1, 1, 1), (1, min(TYPICAL_WALKERS, sizes.walkers), sizes.walkers)
    window, any_length = (sizes.window,) * 3, (1, sizes.window, sizes.frames)
    pixels, feature = _fixed(*shape.size), _fixed(shape.parts, shape.channels)
    if graph == "frames":
        return [{"silhouettes": _range(rows, *pixels)} for rows in _distinct(one, many)]
    name, rest = ("features", feature) if graph == "head" else ("silhouettes", pixels)
    return [
        {name: _range(rows, frames, *rest), "lengths": _range(rows)}
        for rows, frames in _distinct((one, window), (many, any_length))
    ]


def _distinct(*wanted: Any) -> list[Any]:
    """Drop duplicates: an engine for one walker has one profile."""
    return list(dict.fromkeys(wanted))


def _fixed(*sizes: int) -> list[tuple[int, int, int]]:
    return [(size, size, size) for size in sizes]


def _range(*axes: tuple[int, int, int]) -> SizeRange:
    """Return the range of an input from (min, opt, max) of its axes."""
    low, best, high = zip(*axes, strict=True)
    return SizeRange(min=low, opt=best, max=high)
