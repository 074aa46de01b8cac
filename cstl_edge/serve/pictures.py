"""Pictures of a camera for people who look: encoded once, and only while somebody looks."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from cstl_edge.arrays import Image
from cstl_edge.live.annotate import Answer, WalkerView, annotate
from cstl_edge.live.boxes import Box, overlap_slices
from cstl_edge.live.pipeline.perception import FrameResult, TrackObservation
from cstl_edge.live.segmentation.base import SceneState
from cstl_edge.live.sources.base import Frame
from cstl_edge.live.tracking.walk_filter import Reason
from cstl_edge.opencv import import_cv2
from cstl_edge.serve.messages import Label, LivePicture, Overlay, Watch
from cstl_edge.serve.zones import Zones

cv2 = import_cv2()

JPEG_QUALITY = 75
MAX_WIDTH = 1280  # of a picture for people [pixels]
DIM = 0.35  # of what the segmenter takes for background, in its test picture
ZONE_COLOURS = {"look": (110, 200, 80), "ignore": (60, 60, 220)}  # BGR
EARLY = 0.25  # of a period: a picture that is due so much later goes now
NO_ANSWER = Label("…", "pending")


@dataclass
class _Watcher:
    fps: float
    until_s: float
    next_s: float = 0.0


class Pictures:
    """The pictures that are wanted of one camera."""

    def __init__(
        self, camera: str, zones: Zones, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Begin with nobody looking.

        Args:
            camera: Name of the camera.
            zones: Drawn into test pictures.
            clock: Monotonic seconds.
        """
        self._camera, self._zones, self._clock = camera, zones, clock
        self._watchers: dict[Overlay, _Watcher] = {}
        self._sequence = 0

    def watch(self, wish: Watch) -> None:
        """Take a wish for pictures; a newer one of the same kind replaces it."""
        if wish.fps <= 0:
            self._watchers.pop(wish.overlay, None)
            return
        until_s = self._clock() + wish.until_s
        watcher = self._watchers.setdefault(wish.overlay, _Watcher(wish.fps, until_s))
        watcher.fps, watcher.until_s = wish.fps, until_s

    @property
    def watched(self) -> bool:
        """Whether somebody looks."""
        return bool(self._watchers)

    def due(self) -> list[Overlay]:
        """Return what is to be drawn of the present frame; wishes that are over are forgotten."""
        now_s, chosen = self._clock(), []
        for overlay, watcher in list(self._watchers.items()):
            if now_s > watcher.until_s:
                del self._watchers[overlay]
            elif now_s >= watcher.next_s - EARLY / watcher.fps:
                watcher.next_s = max(watcher.next_s, now_s - 1 / watcher.fps) + 1 / watcher.fps
                chosen.append(overlay)
        return chosen

    def draw(
        self, result: FrameResult, labels: Mapping[int, Label], overlay: Overlay
    ) -> LivePicture:
        """Return one picture of a frame.

        Args:
            result: What perception found in it.
            labels: What is written at the tracks.
            overlay: What is drawn.
        """
        image, scale = scaled(result.frame.image, MAX_WIDTH)
        note = None if result.scene is SceneState.READY else result.scene.value
        if overlay == "boxes":
            views = [_view(item, labels, scale) for item in result.observations]
            image = annotate(image, views, note)
        elif overlay == "segmentation":
            image = self._test_picture(image, result.observations, scale, note)
        return self._encoded(image, result.frame, overlay)

    def _encoded(self, image: Image, frame: Frame, overlay: Overlay) -> LivePicture:
        self._sequence += 1
        size = image.shape[0], image.shape[1]
        return LivePicture(self._camera, jpeg_of(image), frame.utc, self._sequence, overlay, size)

    def _test_picture(
        self, image: Image, observations: Sequence[TrackObservation], scale: float, note: str | None
    ) -> Image:
        """Draw what the segmenter sees: people bright, each with what is wrong with the frame."""
        dark = (image * DIM).astype(np.uint8)
        for item in observations:
            _uncover(dark, image, item, scale)
        for zone in self._zones.all:
            corners = np.array(zone.polygon) * (image.shape[1], image.shape[0])
            cv2.polylines(dark, [corners.round().astype(np.int32)], True, ZONE_COLOURS[zone.use], 2)
        return annotate(dark, [_finding(item, scale) for item in observations], note)


def jpeg_of(image: Image, quality: int = JPEG_QUALITY) -> bytes:
    """Return a picture as JPEG."""
    return bytes(cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])[1].tobytes())


def scaled(image: Image, max_width: int) -> tuple[Image, float]:
    """Return a picture of at most so many columns, and by how much it was scaled."""
    if image.shape[1] <= max_width:
        return image, 1.0
    scale = max_width / image.shape[1]
    size = max_width, max(1, round(image.shape[0] * scale))
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8), scale


def _view(item: TrackObservation, labels: Mapping[int, Label], scale: float) -> WalkerView:
    label = labels.get(item.id, NO_ANSWER)
    answer: Answer = "none" if label.kind == "pending" else label.kind
    return WalkerView(_times(item.box, scale), label.text, answer, item.mask, item.id)


def _finding(item: TrackObservation, scale: float) -> WalkerView:
    text = "a walk" if item.reason is None else item.reason.value
    height = f"{item.box[3]:.0f} px"
    walks = item.reason in (None, Reason.TOO_FEW)
    view = WalkerView(_times(item.box, scale), f"{text}, {height}", "known", None, item.id)
    return view if walks else replace(view, answer="unknown")


def _times(box: Box, scale: float) -> Box:
    x, y, width, height = box
    return x * scale, y * scale, width * scale, height * scale


def _uncover(dark: Image, bright: Image, item: TrackObservation, scale: float) -> None:
    """Copy what the mask of somebody covers."""
    x, y, width, height = (round(v) for v in _times(item.box, scale))
    if item.mask is None or width < 1 or height < 1:
        return
    mask = cv2.resize(item.mask, (width, height), interpolation=cv2.INTER_NEAREST)
    there, own = overlap_slices(x, y, mask.shape, bright.shape)
    chosen = mask[own] > 127
    dark[there][chosen] = bright[there][chosen]
