"""Zones of a camera's picture: who stands where, and whom the segmenter's findings leave out."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from cstl_edge.arrays import Image
from cstl_edge.live.boxes import Box
from cstl_edge.live.segmentation.base import Detection, SceneState, Segmenter
from cstl_edge.serve.site import Zone

Point = tuple[float, float]  # shares of width and height


class Zones:
    """The zones of one camera."""

    def __init__(self, zones: Sequence[Zone]) -> None:
        self._look = [zone for zone in zones if zone.use == "look"]
        self._ignore = [zone for zone in zones if zone.use == "ignore"]

    @property
    def all(self) -> list[Zone]:
        """All of them."""
        return [*self._look, *self._ignore]

    def name_of(self, box: Box, size: tuple[int, int]) -> str | None:
        """Return the first `look` zone in which somebody's feet are.

        Args:
            box: x, y, width, height of the person [pixels].
            size: Height and width of the picture [pixels].
        """
        feet = feet_of(box, size)
        return next((zone.name for zone in self._look if inside(feet, zone.polygon)), None)

    def counts(self, box: Box, size: tuple[int, int]) -> bool:
        """Tell whether somebody counts: in a `look` zone where there is one, in no `ignore` zone.

        Args:
            box: x, y, width, height of the person [pixels].
            size: Height and width of the picture [pixels].
        """
        feet = feet_of(box, size)
        if any(inside(feet, zone.polygon) for zone in self._ignore):
            return False
        return not self._look or any(inside(feet, zone.polygon) for zone in self._look)


class ZonedSegmenter:
    """A segmenter that does not find people who do not count."""

    def __init__(self, inner: Segmenter, zones: Zones) -> None:
        self._inner, self._zones = inner, zones

    @property
    def state(self) -> SceneState:
        """State of the inner segmenter."""
        return self._inner.state

    @property
    def detail(self) -> str | None:
        """What the inner segmenter says of its masks, see `FrameResult.masking`."""
        detail: str | None = getattr(self._inner, "detail", None)
        return detail

    def learn(self, samples: Iterable[tuple[Image, Image]], *, rolling: bool = False) -> None:
        """Let the inner segmenter learn the empty scene.

        samples: pairs of frames
        rolling: whether to keep renewing the model
        """
        self._inner.learn(samples, rolling=rolling)

    def rest(self, boxes: Sequence[Box]) -> None:
        """Let the inner segmenter, where it can, leave out the masks of these people once."""
        rest = getattr(self._inner, "rest", None)
        if rest is not None:
            rest(boxes)

    def segment(self, image: Image, time_s: float, expected: Sequence[Box] = ()) -> list[Detection]:
        """Return the people of one frame who count.

        Args:
            image: uint8 [H, W, 3], BGR.
            time_s: Media time of the frame [s].
            expected: Boxes that the tracker predicts.
        """
        size = image.shape[0], image.shape[1]
        found = self._inner.segment(image, time_s, expected)
        return [detection for detection in found if self._zones.counts(detection.box, size)]


def feet_of(box: Box, size: tuple[int, int]) -> Point:
    """Return where somebody stands, as shares of the picture's width and height.

    box: x, y, width, height [pixels]
    size: height and width of the picture [pixels]
    """
    x, y, width, height = box
    return (x + width / 2) / size[1], min((y + height) / size[0], 1.0)


def inside(point: Point, polygon: Sequence[Point]) -> bool:
    """Tell whether a point lies in a polygon or on its edge (even-odd rule).

    >>> inside((0.5, 0.5), [(0, 0), (1, 0), (1, 1), (0, 1)])
    True
    """
    corners = np.asarray(polygon, np.float64)  # [k, 2]
    following = np.roll(corners, -1, axis=0)
    x, y = point
    (ax, ay), (bx, by) = corners.T, following.T
    cross = (bx - ax) * (y - ay) - (by - ay) * (x - ax)
    on_edge = (
        (np.abs(cross) < 1e-9)
        & (np.minimum(ax, bx) <= x + 1e-9)
        & (x - 1e-9 <= np.maximum(ax, bx))
        & (np.minimum(ay, by) <= y + 1e-9)
        & (y - 1e-9 <= np.maximum(ay, by))
    )
    if on_edge.any():
        return True
    spans = (ay > y) != (by > y)
    if not spans.any():
        return False
    crossing = ax[spans] + (y - ay[spans]) / (by[spans] - ay[spans]) * (bx[spans] - ax[spans])
    return bool(np.count_nonzero(crossing > x) % 2)
