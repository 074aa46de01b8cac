"""A street of synthetic walkers as a camera would send it, drawn before anything is measured.

`synthetic://N` lets walkers enter some seconds apart, so that two or three are in view however
large N is. Here all N enter within `ENTER_S` and cross at the same time: N is the number that the
pipeline has to follow at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from cstl_edge.arrays import Image
from cstl_edge.live.sources.options import SourceOptions
from cstl_edge.live.sources.stream import LiveSource
from cstl_edge.live.sources.synthetic.cast import EMPTY_S, street_walkers
from cstl_edge.live.sources.synthetic.source import FPS, SIZE, PacedCamera, SyntheticSource

ENTER_S = 2.0
CROSSING_S = 7.0  # from the first walker's entering to the end of the pictures
SEED = 0


def draw_street(walkers: int, seconds: float = EMPTY_S + CROSSING_S) -> list[Image]:
    """Return the pictures uint8 [H, W, 3] of a street that walkers cross together, `FPS` a second.

    The street is empty for the first EMPTY_S. A walker costs up to a second to draw.
    """
    people = [
        replace(spec, start_s=EMPTY_S + ENTER_S * i / walkers)
        for i, spec in enumerate(street_walkers(walkers, SEED))
    ]
    with SyntheticSource(people, seed=SEED, seconds=seconds, size=SIZE) as scene:
        return [frame.image for frame in scene]


def street_uri(walkers: int) -> str:
    """Return the URI of the street in results."""
    return f"synthetic://{walkers}, crossing together, 640x360"


def paced_source(images: Sequence[Image], name: str) -> LiveSource:
    """Return pictures as a live source that sends one whenever its moment has come."""
    return LiveSource(name, lambda: PacedCamera(images, FPS), SourceOptions())
