"""Segmentation in two steps: the plate says where somebody is, a small network draws the person.

The network is BlazePose lite, cut down to its person mask and its presence flag (see
`assets/NOTICE-blazepose.md`), run by ONNX Runtime on a square crop of 1.25 times the box. It closes
holes, drops shadows and reflections and finds the legs that look like the floor; what it does not
take for a person keeps a low score, so that no track starts there. The plate keeps neighbours
apart.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from cstl_edge.arrays import Image, Mask
from cstl_edge.live.boxes import Box, intersection, mask_area, union_box
from cstl_edge.live.segmentation.background import SURE_HEIGHT_SHARE, PlateSegmenter
from cstl_edge.live.segmentation.base import Detection, SceneState
from cstl_edge.live.segmentation.mask_network import (
    SIDE,
    PersonMask,
    cut,
    main_part,
    near_border,
    overlaps,
    paste,
    reached,
    square,
)
from cstl_edge.opencv import import_cv2

cv2 = import_cv2()

MARGIN = 1.25  # side of the crop / larger side of the box
MAX_SECOND_LOOKS = 3  # per frame
STRETCH = 0.5  # of the square: how far a person may go on behind its edge
GROWTH = 1.4  # of the box, from which a second look is taken
MAX_BOXES = 12  # per frame; the largest ones are drawn, 12 ms each on one core
LEARN_BOXES = 4  # per sample of the plate
LEARN_MARGIN = 2.0  # the plate may hold half of somebody, the box is then of the other half
MIN_HEIGHT_PX = 32  # smaller boxes are not worth the network's time
DOUBTED = 0.3  # score of a blob in which the network sees nobody
UNSURE = 0.45  # and of a person it sees, but not as a whole one
BORDER_SHARE = 0.004  # of the frame's height: a mask this close to the border is cut by it
SURE = 0.5  # presence from which a detection may start a track
MIN_MOVED = 0.15  # of a drawn person that must differ from the plate: a chair stands still
REACH = 0.10  # of the person's height: how far the mask may leave the plate's blob
MIN_KEPT = 0.25  # of the plate's blob that the network must call a person


@dataclass(frozen=True)
class _Look:
    """What the network saw around one blob."""

    detection: Detection
    region: Box  # where the person should be
    square: Box
    drawn: Mask  # [256, 256]: everybody in the square
    own: Mask  # [256, 256]: the plate's blob
    others: Mask  # [256, 256]: other people's blobs
    presence: float
    wide: bool  # the second look: the person may be anywhere in the square


class RoiSegmenter:
    """Boxes from the plate, masks from the network."""

    def __init__(
        self, plate: PlateSegmenter, network: PersonMask | None = None, *, threads: int = 1
    ) -> None:
        self._plate = plate
        self._network = network or PersonMask(threads=threads)

    @property
    def state(self) -> SceneState:
        """Whether the scene is known and still."""
        return self._plate.state

    def learn(self, samples: Iterable[tuple[Image, Image]], *, rolling: bool = False) -> None:
        """Learn the empty scene, with the network's word on who is no part of it."""
        self._plate.learn(samples, rolling=rolling, draw=self._draw)

    def segment(self, image: Image, time_s: float, expected: Sequence[Box] = ()) -> list[Detection]:
        """Return the people of one frame, drawn by the network."""
        found = self._plate.segment(image, time_s, expected)
        found.sort(key=lambda d: (-d.box[2] * d.box[3], d.box))
        pairs = [(d, region(d.box, expected)) for d in found if not d.shared]
        pairs = [pair for pair in pairs if pair[1][3] >= MIN_HEIGHT_PX][:MAX_BOXES]
        looks = self._look(image, pairs, found)
        looks = self._look_again(image, looks, found)
        people = [_refine(look, image.shape) for look in looks]
        # who is shared gives no silhouette and needs no better mask
        return _without_parts(people) + [d for d in found if d.shared]

    def _look(
        self,
        image: Image,
        pairs: Sequence[tuple[Detection, Box]],
        found: Sequence[Detection],
        *,
        wide: bool = False,
    ) -> list[_Look]:
        if not pairs:
            return []
        squares = [square(box, MARGIN) for _, box in pairs]
        logits, presence = self._network(np.stack([cut(image, s) for s in squares]))
        drawn = (logits > 0).astype(np.uint8) * 255
        looks = []
        for i, (detection, box) in enumerate(pairs):
            around, seen = squares[i], (drawn[i], paste(detection, squares[i]))
            others = _neighbours(detection, box, around, found)
            looks.append(_Look(detection, box, around, *seen, others, float(presence[i]), wide))
        return looks

    def _look_again(
        self, image: Image, looks: Sequence[_Look], found: Sequence[Detection]
    ) -> list[_Look]:
        """Look at a larger box where the network sees more of a person than the plate did."""
        larger = [(look, _beyond(look, image.shape)) for look in looks]
        wanted = [(look, box) for look, box in larger if box is not None][:MAX_SECOND_LOOKS]
        pairs = [(look.detection, box) for look, box in wanted]
        seconds = self._look(image, pairs, found, wide=True)
        better = {id(w[0]): s for w, s in zip(wanted, seconds, strict=True) if s.presence >= SURE}
        return [better.get(id(look), look) for look in looks]

    def _draw(self, image: Image, boxes: Sequence[Box]) -> Mask:
        """Return the mask of everybody in and around the boxes of a frame."""
        people = np.zeros(image.shape[:2], np.uint8)
        tall = [b for b in boxes if b[3] >= SURE_HEIGHT_SHARE * image.shape[0]]
        tall = sorted(tall, key=lambda b: -b[2] * b[3])[:LEARN_BOXES]
        if not tall:
            return people
        squares = [square(box, LEARN_MARGIN) for box in tall]
        logits, _ = self._network(np.stack([cut(image, around) for around in squares]))
        for around, drawn in zip(squares, logits, strict=True):
            scale = around[2] / SIDE
            matrix = np.array([[scale, 0, around[0]], [0, scale, around[1]]], np.float32)
            size = people.shape[::-1]
            people |= cv2.warpAffine((drawn > 0).astype(np.uint8), matrix, size)
        return people


def region(box: Box, expected: Sequence[Box]) -> Box:
    """Return the box to look at: `box`, grown to the expected person of whom it is a part."""
    area = max(box[2] * box[3], 1e-6)
    homes = [e for e in expected if intersection(box, e) > 0.5 * area]
    return union_box(box, homes[0]) if len(homes) == 1 else box


def _neighbours(detection: Detection, around: Box, square: Box, found: Sequence[Detection]) -> Mask:
    """Return on a look's grid where other people are; pieces of the same person do not count.

    around: the box in which `detection` is looked for
    """
    others = np.zeros((SIDE, SIDE), np.uint8)
    area = around[2] * around[3]
    for other in found:
        if other is detection or not overlaps(other, square):
            continue
        size = other.box[2] * other.box[3]
        piece = intersection(other.box, around) > 0.7 * size and size < 0.5 * area
        if not piece:
            others |= paste(other, square)
    return others


def _beyond(look: _Look, frame: tuple[int, ...]) -> Box | None:
    """Return the box of the person of whom the plate saw only a piece, None if it saw all."""
    count, labels = cv2.connectedComponents(look.drawn & ~look.others, connectivity=8)
    touched = np.zeros(count, np.uint8)
    touched[labels[look.own > 0]] = 1
    touched[0] = 0  # the background
    person = touched[labels]
    if not person.any():
        return None
    x, y, w, h = cv2.boundingRect(person)
    # a person drawn up to the edge of the square goes on behind it
    more = STRETCH * SIDE
    left, top = x - more * (x == 0), y - more * (y == 0)
    right, bottom = x + w + more * (x + w == SIDE), y + h + more * (y + h == SIDE)
    scale = look.square[2] / SIDE
    left, right = (min(max(look.square[0] + v * scale, 0), frame[1]) for v in (left, right))
    top, bottom = (min(max(look.square[1] + v * scale, 0), frame[0]) for v in (top, bottom))
    whole = union_box(look.region, (left, top, right - left, bottom - top))
    grows = whole[2] * whole[3] > GROWTH * look.region[2] * look.region[3]
    return whole if grows else None


def _allowed(look: _Look) -> Mask:
    """Return where on the grid this person may be: near its blob, not in a neighbour's."""
    if look.wide:
        return np.asarray(~look.others | look.own, np.uint8)
    scale = SIDE / look.square[2]
    allowed = reached(look.own, max(3, round(REACH * look.region[3] * scale)))
    x, y = (look.region[i] - look.square[i] for i in (0, 1))
    w, h = look.region[2:]
    corners = [(round(a * scale), round(b * scale)) for a, b in ((x, y), (x + w, y + h))]
    cv2.rectangle(allowed, *corners, 255, cv2.FILLED)
    return np.asarray(allowed & ~look.others | look.own, np.uint8)


def _refine(look: _Look, frame: tuple[int, ...]) -> Detection:
    """Return the detection with the network's mask, or as it was, doubted, if that is no person.

    frame: shape of the whole frame
    """
    detection, own = look.detection, look.own
    person: Mask = look.drawn & _allowed(look)
    if mask_area(person & own) < MIN_KEPT * mask_area(own):
        return replace(detection, score=DOUBTED * detection.score)
    person = main_part(person)
    x, y, w, h = cv2.boundingRect(person)
    scale = look.square[2] / SIDE  # frame pixels per mask pixel
    box = (look.square[0] + x * scale, look.square[1] + y * scale, w * scale, h * scale)
    tall = box[3] >= max(box[2], SURE_HEIGHT_SHARE * frame[0])
    moved = mask_area(person & own) >= MIN_MOVED * mask_area(person)
    # what touched the border may have been a shadow, what the plate missed may touch it
    near = near_border(box, frame, 2 * scale + BORDER_SHARE * frame[0])
    return Detection(
        box,
        np.ascontiguousarray(person[y : y + h, x : x + w]),
        near and (detection.clipped or look.wide),
        1.0 if tall and moved and look.presence >= SURE else UNSURE,
        detection.shared,
        detection.colours,
    )


def _without_parts(people: list[Detection]) -> list[Detection]:
    """Drop detections that lie inside the mask of a larger one: pieces of the same person."""
    kept: list[Detection] = []
    for person in sorted(people, key=lambda d: (-mask_share(d), d.box)):
        area = person.box[2] * person.box[3]
        near = [k for k in kept if intersection(k.box, person.box) > 0.6 * area]
        grids = [
            (paste(k, square(k.box, MARGIN)), paste(person, square(k.box, MARGIN))) for k in near
        ]
        if not any(mask_area(a & b) > 0.5 * mask_area(b) for a, b in grids):
            kept.append(person)
    return kept


def mask_share(detection: Detection) -> float:
    """Return the area of a detection's mask in square pixels of the frame."""
    scale = detection.box[3] / detection.mask.shape[0]
    return mask_area(detection.mask) * scale * scale
