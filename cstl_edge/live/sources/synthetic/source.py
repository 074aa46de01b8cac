"""Synthetic street, `synthetic://N`: N walkers cross it, and the truth of every frame is known.

    synthetic://6?seed=0&fps=25&seconds=20&size=640x360&live=1
    synthetic://8?dense=1&poles=2&turning=1&standing=1&carrying=1&live=1&loop=1
    synthetic://street?side=0&people=8&seed=1     one of four sides of a street, see `sides`

It reads like a file (every frame, no pacing) unless `live=1`; a live one begins again with
`loop=1`. The same seed gives the same pictures, whatever part of them is read; another number of
walkers gives other people. A list of walkers may be given, so that some are seen on another day, in
other clothes and from another side than when they were enrolled.
"""

from __future__ import annotations

import copy
import math
import threading
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from cstl_edge.arrays import Bytes, Image
from cstl_edge.errors import ConfigError
from cstl_edge.live.sources.base import Frame, FrameSource
from cstl_edge.live.sources.stream import Capture
from cstl_edge.live.sources.synthetic.actor import Actor, WalkerSpec
from cstl_edge.live.sources.synthetic.cast import EMPTY_S, Habits, scheduled, street_walkers
from cstl_edge.live.sources.synthetic.scene import (
    Light,
    PinholeCamera,
    Pole,
    draw_poles,
    empty_street,
)

FPS = 25.0
SIZE = (360, 640)  # height, width in pixels
MAX_PEOPLE = 50
LIMITS = {"fps": (1.0, 120.0), "seconds": (0.1, 86_400.0)}
SIDES_PX = (120, 4096)  # of the picture
MAX_POLES = 9


@dataclass(frozen=True)
class WalkerTruth:
    """Ground truth of one walker in one frame.

    box: x, y, w, h in pixels of the part of them that can be seen
    visible: share of their outline in sight, 1.0 where neither the border, a neighbour nor a pole
        hides any
    """

    walker: int  # number in the list of people
    spec: WalkerSpec
    box: tuple[int, int, int, int]
    visible: float


class SyntheticSource(FrameSource):
    """A street of synthetic walkers, read like a file."""

    def __init__(
        self,
        people: int | Sequence[WalkerSpec] = 6,
        *,
        seed: int = 0,
        fps: float = FPS,
        seconds: float | None = None,
        size: tuple[int, int] = SIZE,
        start_s: float | None = None,
        stop_s: float | None = None,
        habits: Habits | None = None,
        poles: int = 0,
        wardrobe: Image | None = None,
        uri: str | None = None,
    ) -> None:
        """Plan the street; raises ConfigError for values out of range and impossible walkers.

        Args:
            people: A number of strangers, or a list of walkers.
            seed: Of the street, its light and its strangers.
            fps: Frames per second.
            seconds: Length of the whole street, None until the last walker has left.
            size: Height, width in pixels.
            start_s: Start of the part that is read, in seconds.
            stop_s: End of that part.
            habits: What strangers do beside crossing.
            poles: Lamp posts between the camera and the walkers.
            wardrobe: Picture from which clothes must differ, in place of the empty street.
            uri: Address, for messages.
        """
        count = people if isinstance(people, int) else len(people)
        _check(count, fps, seconds, size, poles)
        super().__init__(uri or f"synthetic://{count}?seed={seed}")
        strangers = street_walkers(people, seed, habits) if isinstance(people, int) else people
        self.fps, self.size = fps, size
        camera = PinholeCamera(size)
        self._street = empty_street(camera, seed)
        self._poles: list[Pole] = draw_poles(self._street, camera, poles, seed)
        self._light = Light(size, seed)
        backdrop = self._street if wardrobe is None else wardrobe
        self._actors = self._staged(scheduled(strangers, seed), camera, backdrop)
        ends = [actor.first_index + actor.frames for actor in self._actors]
        total = round(seconds * fps) if seconds else max(ends, default=0) + round(EMPTY_S * fps)
        self._first = 0 if start_s is None else math.ceil(start_s * fps - 1e-9)
        self._index = self._first
        self._stop = total if stop_s is None else min(total, math.ceil(stop_s * fps - 1e-9))
        self.frames = max(0, self._stop - self._index)
        self._last: tuple[int, list[WalkerTruth], Bytes] | None = None

    def _staged(
        self, cast: Sequence[WalkerSpec], camera: PinholeCamera, backdrop: Image
    ) -> list[Actor]:
        try:
            return [Actor(spec, camera, self.fps, backdrop) for spec in cast]
        except ValueError as err:
            raise ConfigError(f"cannot stage {self.uri}: {err}") from err

    def reopen(self) -> SyntheticSource:
        """Return a new source of the same street; the two share what has been rendered."""
        again = copy.copy(self)
        again._index, again._ended = self._first, False
        return again

    def render(self) -> None:
        """Render all outlines now (about 2 ms per walker and frame) and not as walkers enter."""
        for actor in self._actors:
            actor.render()

    @property
    def people(self) -> list[WalkerSpec]:
        """The walkers, each with the moment of the entrance; `WalkerTruth.walker` is the place."""
        return [actor.spec for actor in self._actors]

    def image(self, index: int) -> Image:
        """Return the picture of any frame, uint8 [H, W, 3]."""
        canvas = self._street.copy()
        drawings = self._drawings(index)
        for actor, drawing in drawings:
            actor.shade(drawing, canvas)
        for actor, drawing in drawings:
            actor.paint(drawing, canvas)
            for pole in self._poles:  # the street shows where it stands before a walker
                if pole.z_m < drawing.z_m:
                    canvas[:, pole.columns] = self._street[:, pole.columns]
        return self._light.apply(canvas, index, index / self.fps)

    def truth(self, index: int) -> list[WalkerTruth]:
        """Return the ground truth of every walker in sight at frame `index`."""
        return self._ground_truth(index)[0]

    def labels(self, index: int) -> Bytes:
        """Return uint8 [H, W]: 0 the street, i + 1 where walker i is seen."""
        return self._ground_truth(index)[1]

    def _next(self) -> Frame | None:
        if self._index >= self._stop:
            return None
        index, self._index = self._index, self._index + 1
        return Frame(index, self.image(index), index / self.fps)

    def _drawings(self, index: int) -> list[tuple[Actor, Any]]:
        """Return the walkers of a frame, the farthest first."""
        drawings = [(a, d) for a in self._actors if (d := a.at(index)) is not None]
        return sorted(drawings, key=lambda pair: -pair[1].z_m)

    def _ground_truth(self, index: int) -> tuple[list[WalkerTruth], Bytes]:
        """Return truth and labels of a frame; those of the last frame are stored."""
        if self._last is None or self._last[0] != index:
            labels = np.zeros(self.size, np.uint8)
            drawings = self._drawings(index)
            for actor, drawing in drawings:
                drawing.mark(labels, self._actors.index(actor) + 1)
                for pole in self._poles:
                    if pole.z_m < drawing.z_m:
                        labels[:, pole.columns] = 0
            truths = [self._truth(actor, drawing.area, labels) for actor, drawing in drawings]
            truth = sorted((t for t in truths if t is not None), key=lambda t: t.walker)
            self._last = index, truth, labels
        return self._last[1], self._last[2]

    def _truth(self, actor: Actor, area: int, labels: Bytes) -> WalkerTruth | None:
        walker = self._actors.index(actor)
        mine = (labels == walker + 1).astype(np.uint8)
        left, top, width, height = cv2.boundingRect(mine)
        if width == 0:
            return None
        box = (left, top, width, height)
        visible = float(np.count_nonzero(mine)) / area
        return WalkerTruth(walker, actor.spec, box, visible)


class PacedCamera(Capture):
    """Capture that gives pictures at a frame rate, as a camera would."""

    def __init__(self, images: Iterable[Image], fps: float) -> None:
        self.fps = fps
        self._images = iter(images)
        self._count, self._begun_s = 0, 0.0
        self._stopped = threading.Event()

    def open(self) -> None:
        """Begin."""
        self._begun_s = time.monotonic()

    def read(self) -> Image | None:
        """Wait until the next picture is due; None after the last."""
        due_s = self._begun_s + self._count / self.fps
        if self._stopped.wait(max(0.0, due_s - time.monotonic())):
            return None
        self._count += 1
        image = next(self._images, None)
        return None if image is None else image.copy()  # a frame belongs to its receiver

    def stop(self) -> None:
        """Wake a waiting `read`."""
        self._stopped.set()


def _check(
    count: int, fps: float, seconds: float | None, size: tuple[int, int], poles: int
) -> None:
    if not 0 <= count <= MAX_PEOPLE:
        raise ConfigError(f"expected 0 to {MAX_PEOPLE} walkers, got {count}")
    if not all(SIDES_PX[0] <= side <= SIDES_PX[1] for side in size):
        raise ConfigError(f"expected sides of {SIDES_PX[0]} to {SIDES_PX[1]} pixels, got {size}")
    if not 0 <= poles <= MAX_POLES:
        raise ConfigError(f"expected 0 to {MAX_POLES} poles, got {poles}")
    for name, value in (("fps", fps), ("seconds", seconds)):
        low, high = LIMITS[name]
        if value is not None and not low <= value <= high:
            raise ConfigError(f"expected {name} from {low:g} to {high:g}, got {value}")
