"""People who are found without motion: by a detector, where background subtraction fails.

The rule of `auto`:

1. While the camera moves, or the scene is disturbed (the light changed), and until background
   subtraction has learned the scene again after that, a detector looks at the whole picture every
   `LOOK_S`. Between two looks people are where the tracker expects them, or where they were. The
   person network masks them; where it sees nobody, nobody is.
2. While background subtraction works the detector is off, but for somebody whom the tracker expects
   and of whom nothing differs from the scene: who stands still for long becomes part of it. There
   it looks at the surroundings of that person alone, every `STANDING_S`; who is found goes on being
   tracked, but starts no track.
3. The first learning of a scene is waited for: nobody is found in it.

Letters: `m` crops, `h w` pixels of a mask.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from cstl_edge.arrays import Floats, Image, Mask
from cstl_edge.live.boxes import Box, box_iou, intersection, mask_area, near_border, overlap_slices
from cstl_edge.live.clothes import clothes_of
from cstl_edge.live.segmentation.base import Detection
from cstl_edge.live.segmentation.blobs import Blob, mean_colours
from cstl_edge.live.segmentation.mask_network import crop_square, main_components, square_around
from cstl_edge.opencv import import_cv2
from cstl_edge.runtime.detector import PersonDetector
from cstl_edge.runtime.masks.base import MaskNetwork

cv2 = import_cv2()

LOOK_S = 0.2  # between two looks of the detector at a picture
STANDING_S = 0.5  # and at somebody who stands
STANDING_LASTS_S = 1.2  # so long a look at somebody who stands is believed
MARGIN = 1.25  # side of a crop / larger side of the box
TILE = 3.0  # side of a tile around somebody who stands / larger side of the box
SAME_PERSON = 0.4  # intersection over union of two boxes
COVERED = 0.2  # of a box that a detection may cover: it is that person, or hides them
MIN_HEIGHT_PX = 32  # smaller boxes are not worth the network's time
SURE, UNSURE_SCORE = 0.5, 0.45  # presence from which a track may start; score of who may start none
REACH = 0.18  # of a box's larger side: how far the mask may leave it
LEAST_FILLED = 0.12  # of the box: less is nobody
BORDER_SHARE = 0.004  # of the frame's height: a mask this close to the border is cut by it
MOST = 12  # people per frame


@dataclass(frozen=True)
class _Standing:
    """Somebody of whom nothing moves, as the detector confirmed."""

    box: Box
    time_s: float


class PeopleFinder:
    """Finds people in a picture with a detector, and masks them with the person network."""

    def __init__(self, detector: PersonDetector, network: MaskNetwork) -> None:
        self._detector, self._network = detector, network
        self._boxes: list[Box] = []  # of the last frame
        self._looked_s = -math.inf
        self._tiles_s = -math.inf
        self._standing: list[_Standing] = []

    def candidates(self, image: Image, time_s: float, expected: Sequence[Box]) -> list[Box]:
        """Return the boxes in which people are, or may be, the largest first.

        Args:
            image: uint8 [H, W, 3], BGR.
            time_s: Media time of the frame in seconds.
            expected: Boxes that the tracker predicts for this frame.
        """
        boxes: list[Box] = []
        if not 0 <= time_s - self._looked_s < LOOK_S:
            self._looked_s = time_s
            boxes += [person.box for person in self._detector(image)]
        for box in (*expected, *self._boxes):
            if all(box_iou(box, other) < SAME_PERSON for other in boxes):
                boxes.append(box)
        boxes = [box for box in boxes if box[3] >= MIN_HEIGHT_PX]
        return sorted(boxes, key=lambda box: (-box[2] * box[3], box))[:MOST]

    def masked(self, image: Image, boxes: Sequence[Box]) -> list[Detection | None]:
        """Return the person in each box as the network masks them, None where it sees nobody.

        image: uint8 [H, W, 3], BGR
        """
        if not boxes:
            return []
        squares = [square_around(box, MARGIN) for box in boxes]
        side = self._network.side
        crops = np.stack([crop_square(image, square, side) for square in squares])
        logits, presence = self._network(crops)
        return [
            _person(image, box, square, each, float(sure))
            for box, square, each, sure in zip(boxes, squares, logits, presence, strict=True)
        ]

    def remember(self, people: Sequence[Detection]) -> None:
        """Remember where the people of this frame are."""
        self._boxes = [person.box for person in people]

    def forget(self) -> None:
        """Forget everybody: background subtraction works again."""
        self._boxes, self._looked_s = [], -math.inf

    def standing(
        self, image: Image, time_s: float, expected: Sequence[Box], people: Sequence[Detection]
    ) -> list[Detection]:
        """Return those whom the tracker expects and of whom nothing differs from the scene.

        Args:
            image: uint8 [H, W, 3], BGR.
            time_s: Media time of the frame in seconds.
            expected: Boxes that the tracker predicts for this frame.
            people: Detections of the frame.
        """
        unseen = [box for box in expected if _is_uncovered(box, people)]
        if not unseen:
            self._standing = []
            return []
        if not 0 <= time_s - self._tiles_s < STANDING_S:
            self._tiles_s = time_s
            found = [box for tile in unseen[:MOST] for box in self._look(image, tile)]
            self._standing = [_Standing(box, time_s) for box in found]
        recent = [s.box for s in self._standing if time_s - s.time_s <= STANDING_LASTS_S]
        boxes = [b for b in recent if any(box_iou(b, e) >= SAME_PERSON for e in unseen)]
        boxes = [b for b in boxes if _is_uncovered(b, people)]
        return [
            replace(person, score=UNSURE_SCORE)
            for person in self.masked(image, boxes)
            if person is not None
        ]

    def _look(self, image: Image, box: Box) -> list[Box]:
        """Return the box of the person whom the detector sees where one is expected, if any."""
        left, top, side, _ = square_around(box, TILE)
        target, _ = overlap_slices(
            round(left), round(top), (round(side), round(side)), image.shape[:2]
        )
        tile = np.ascontiguousarray(image[target])
        if min(tile.shape[:2]) < MIN_HEIGHT_PX:
            return []
        x0, y0 = target[1].start, target[0].start
        boxes = [(p.box[0] + x0, p.box[1] + y0, p.box[2], p.box[3]) for p in self._detector(tile)]
        best = max(boxes, key=lambda found: box_iou(found, box), default=None)
        return [best] if best is not None and box_iou(best, box) >= SAME_PERSON else []


def _is_uncovered(box: Box, people: Sequence[Detection]) -> bool:
    """Return whether no detection covers a part of a box worth naming."""
    area = max(box[2] * box[3], 1e-9)
    return box[3] >= MIN_HEIGHT_PX and all(
        intersection(box, person.box) <= COVERED * min(area, person.box[2] * person.box[3])
        for person in people
    )


def _person(
    image: Image, box: Box, square: Box, logits: Floats, presence: float
) -> Detection | None:
    """Return the person in a box, None where the network sees nobody.

    Args:
        image: uint8 [H, W, 3], BGR.
        box: Where the person is looked for.
        square: Of the crop.
        logits: Of the crop, [side, side].
        presence: Whether somebody is in it, 0..1.
    """
    side = len(logits)
    scale = square[2] / side  # frame pixels per mask pixel
    mask: Mask = np.asarray(logits > 0, np.uint8) * np.uint8(255)
    margin = REACH * max(box[2], box[3])
    left, top = ((box[i] - margin - square[i]) / scale for i in (0, 1))
    right, bottom = ((box[i] + box[i + 2] + margin - square[i]) / scale for i in (0, 1))
    mask[: max(0, int(top))] = mask[max(0, int(bottom)) :] = 0
    mask[:, : max(0, int(left))] = mask[:, max(0, int(right)) :] = 0
    if presence < SURE or mask_area(mask) * scale**2 < LEAST_FILLED * box[2] * box[3]:
        return None
    mask = main_components(mask)
    x, y, w, h = cv2.boundingRect(mask)
    found = (square[0] + x * scale, square[1] + y * scale, w * scale, h * scale)
    if box_iou(found, box) < SAME_PERSON:
        return None
    mask = np.ascontiguousarray(mask[y : y + h, x : x + w])
    pixels = _patch(image, found, mask.shape)
    return Detection(
        found,
        mask,
        near_border(found, image.shape, 2 * scale + BORDER_SHARE * image.shape[0]),
        1.0 if h >= w else UNSURE_SCORE,
        colours=mean_colours(pixels, Blob((0, 0, w, h), mask, clipped=False)),
        clothes=clothes_of(pixels, mask),
    )


def _patch(image: Image, box: Box, shape: tuple[int, ...]) -> Image:
    """Return the pixels of a box at a mask's size, YCrCb [h, w, 3].

    Args:
        image: uint8 [H, W, 3], BGR.
        box: In pixels of the frame.
        shape: h, w.
    """
    x, y, w, h = box
    zoom = np.array([[w / shape[1], 0, x], [0, h / shape[0], y]], np.float32)
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    patch = cv2.warpAffine(image, zoom, shape[1::-1], flags=flags, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(cv2.cvtColor(patch, cv2.COLOR_BGR2YCrCb), np.uint8)
