"""What finds people in a frame: the protocol, its result, and the choice between the two ways.

`plate` compares the frame with a learned picture of the empty scene and needs no weights; `roi`
lets a small network draw the person inside every box that the plate gives. Both assume a camera
that does not move, and say so through `state` when the picture contradicts it. Boxes are `x y w h`
in pixels of the source's frame; a mask covers its box at a resolution of its own, with square
pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from cstl_edge.errors import ConfigError

Image = npt.NDArray[np.uint8]  # BGR [H, W, 3]
Mask = npt.NDArray[np.uint8]  # [H, W], 0 or 255
Box = tuple[float, float, float, float]  # x, y, w, h in pixels of the source's frame

DrawPeople = Callable[[Image, Sequence[Box]], Mask]  # frame, boxes -> mask [H, W] of people

Colours = tuple[float, ...]  # Y, Cr, Cb of the upper half, then of the lower one

SEGMENTERS = ("roi", "plate")  # the first is the default


class SceneState(str, Enum):
    """Whether the assumption behind the plate holds."""

    LEARNING = "learning the empty scene"
    READY = "ready"
    DISTURBED = "the camera moves or the light changed: no silhouettes until the scene is still"


@dataclass(frozen=True)
class Detection:
    """One candidate person of one frame."""

    box: Box
    mask: Mask
    clipped: bool  # reaches the border of the frame
    score: float = 1.0  # 0..1, how much it looks like one whole person
    shared: bool = False  # the mask holds more than this one person
    colours: Colours | None = None  # mean of the upper and of the lower half


class Segmenter(Protocol):
    """Finds people; remembers the empty scene."""

    @property
    def state(self) -> SceneState:
        """Whether the scene is known and still."""

    def learn(self, samples: Iterable[tuple[Image, Image]], *, rolling: bool = False) -> None:
        """Learn the empty scene from pairs of frames a moment apart, spread over a recording.

        rolling: keep renewing it, for a recording much longer than the samples
        """

    def segment(self, image: Image, time_s: float, expected: Sequence[Box] = ()) -> list[Detection]:
        """Return the people of one frame; `expected` are the tracker's predicted boxes."""


def make_segmenter(name: str = SEGMENTERS[0], *, threads: int = 1) -> Segmenter:
    """Return a segmenter by its name; raises ConfigError for a name that is none."""
    from cstl_edge.live.segment_plate import PlateSegmenter

    if name == "plate":
        return PlateSegmenter()
    if name == "roi":
        from cstl_edge.live.segment_roi import RoiSegmenter

        return RoiSegmenter(PlateSegmenter(), threads=threads)
    raise ConfigError(f"no segmenter named {name!r}; expected one of {', '.join(SEGMENTERS)}")


def box_iou(a: Box, b: Box) -> float:
    """Return intersection over union of two boxes.

    >>> box_iou((0, 0, 2, 2), (1, 0, 2, 2))
    0.3333333333333333
    """
    inside = intersection(a, b)
    return inside / max(a[2] * a[3] + b[2] * b[3] - inside, 1e-9)


def intersection(a: Box, b: Box) -> float:
    """Return the area that two boxes share, in square pixels."""
    width = min(a[0] + a[2], b[0] + b[2]) - max(a[0], b[0])
    height = min(a[1] + a[3], b[1] + b[3]) - max(a[1], b[1])
    return max(width, 0.0) * max(height, 0.0)


def union_box(a: Box, b: Box) -> Box:
    """Return the smallest box that holds both."""
    x, y = min(a[0], b[0]), min(a[1], b[1])
    return x, y, max(a[0] + a[2], b[0] + b[2]) - x, max(a[1] + a[3], b[1] + b[3]) - y


def mask_area(mask: npt.NDArray[Any]) -> int:
    """Return the number of set pixels."""
    return int(np.count_nonzero(mask))
