"""Protocol of segmenters, and their result: one `Detection` per candidate person of a frame.

Every segmenter assumes a camera that does not move, and reports through `state` when the picture
contradicts that. A box is `x y w h` in pixels of the source's frame; a mask covers its box at a
resolution of its own, with square pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Protocol

from cstl_edge.arrays import Floats, Image, Mask
from cstl_edge.live.boxes import Box

DrawPeople = Callable[[Image, Sequence[Box]], Mask]  # frame, boxes -> mask [H, W] of people

Colours = tuple[float, ...]  # Y, Cr, Cb of the upper half, then of the lower one


class SceneState(str, Enum):
    """State of the background model; the values are shown to people."""

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
    clothes: Floats | None = None  # their descriptor, see `live.clothes`
    interim: bool = False  # masked for tracking alone, since nobody wanted a better mask now


class Segmenter(Protocol):
    """Finds people in frames; holds a model of the empty scene.

    One that does not treat everybody alike may have a property `detail`: a sentence, or None where
    it does; the event `scene` reports its changes. One whose masks cost much may have a method
    `rest`, which is called before `segment` with those boxes of `expected` whose masks are for
    tracking alone in this frame; such detections are `interim`. One that can use it may have a
    method `ahead`, which is called before `segment` with the picture of the frame after, where that
    is there already, as in recordings.
    """

    @property
    def state(self) -> SceneState:
        """State of the background model."""

    def learn(self, samples: Iterable[tuple[Image, Image]], *, rolling: bool = False) -> None:
        """Learn the empty scene from a recording.

        Args:
            samples: Pairs of frames a moment apart, spread over the recording.
            rolling: Whether to keep renewing the model, for recordings far longer than the samples.
        """

    def segment(self, image: Image, time_s: float, expected: Sequence[Box] = ()) -> list[Detection]:
        """Return the people of one frame.

        Args:
            image: uint8 [H, W, 3], BGR.
            time_s: Media time of the frame in seconds; does not run backwards.
            expected: Boxes that the tracker predicts for this frame.
        """
