"""Person-mask segmenter: background subtraction finds boxes, a small network masks the people.

The network (`mask_network`) sees a square crop of 1.25 times the box. It closes holes, removes
shadows and reflections and finds legs of the colour of the floor; blobs in which it finds no person
keep a low score, so that no track starts there. The blobs also separate people who stand close
together.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from cstl_edge.arrays import Floats, Image, Mask
from cstl_edge.live.boxes import Box, box_iou, intersection, mask_area, near_border, union_box
from cstl_edge.live.segmentation.background import SURE_HEIGHT_SHARE, BackgroundSegmenter
from cstl_edge.live.segmentation.base import Detection, SceneState
from cstl_edge.live.segmentation.mask_network import (
    crop_square,
    dilated_hull,
    main_components,
    may_overlap,
    paste_mask,
    square_around,
)
from cstl_edge.opencv import import_cv2
from cstl_edge.runtime.masks.base import MaskNetwork
from cstl_edge.runtime.masks.manifest import SMALL
from cstl_edge.runtime.masks.open import open_mask_network

cv2 = import_cv2()

MARGIN = 1.25  # side of the crop / larger side of the box
MAX_SECOND_PASSES = 3  # per frame
AS_EXPECTED = 0.7  # intersection over union with the expected box, from which a blob will do
STRETCH = 0.5  # of the square: how far a person may go on behind its edge
GROWTH = 1.4  # of the box, from which it is masked a second time
MAX_BOXES = 12  # per frame, the largest ones: 12 ms each on one core
LEARN_BOXES = 4  # per sample of the background
LEARN_MARGIN = 2.0  # the background may hold half of somebody, the box is then of the other half
MIN_HEIGHT_PX = 32  # smaller boxes are not worth the network's time
NOBODY_SCORE = 0.3  # of a blob in which the network finds nobody
UNSURE_SCORE = 0.45  # of a person that is found, but not as a whole one
BORDER_SHARE = 0.004  # of the frame's height: a mask this close to the border is cut by it
SURE = 0.5  # presence from which a detection may start a track
MIN_MOVED = 0.15  # of a drawn person that must differ from the background: a chair stands still
REACH = 0.10  # of the person's height: how far the mask may leave the blob
MIN_COVERED = 0.25  # of the blob that the network must call a person


@dataclass(frozen=True)
class _MaskedCrop:
    """Output of the network around one blob; the masks are on the grid of the crop."""

    detection: Detection
    region: Box  # where the person is expected
    square: Box
    network_mask: Mask  # [side, side]: everybody in the square
    blob_mask: Mask  # [side, side]: the blob
    others: Mask  # [side, side]: other people's blobs
    presence: float
    wide: bool  # second pass: the person may be anywhere in the square

    @property
    def side(self) -> int:
        """Return the side of the grid [pixels]."""
        return len(self.network_mask)


def open_person_mask(
    threads: int, network: Path | None = None, model: Path | None = None
) -> PersonMaskSegmenter:
    """Return the segmenter for the table of `open`; raises ModelError without its weights.

    Args:
        threads: Number of crops at once.
        network: Manifest of the mask network; None for the shipped one.
        model: Exported model whose engines are in use, see `open_mask_network`.
    """
    opened = open_mask_network(network, threads=threads, model=model)
    return PersonMaskSegmenter(BackgroundSegmenter(), opened)


def open_person_mask_small(threads: int, model: Path | None = None) -> PersonMaskSegmenter:
    """Return the segmenter with the small network of the package, see `open_person_mask`."""
    return open_person_mask(threads, SMALL, model)


class PersonMaskSegmenter:
    """Takes boxes from background subtraction and masks from the network."""

    def __init__(self, background: BackgroundSegmenter, network: MaskNetwork) -> None:
        self._background, self._network = background, network
        self._resting: Sequence[Box] = ()

    @property
    def state(self) -> SceneState:
        """State of the background model."""
        return self._background.state

    def learn(self, samples: Iterable[tuple[Image, Image]], *, rolling: bool = False) -> None:
        """Learn the background; the network masks people, who are no part of it."""
        self._background.learn(samples, rolling=rolling, draw=self._draw_people)

    def segment(self, image: Image, time_s: float, expected: Sequence[Box] = ()) -> list[Detection]:
        """Return the people of one frame with masks of the network.

        Args:
            image: uint8 [H, W, 3], BGR.
            time_s: Media time of the frame in seconds; does not run backwards.
            expected: Boxes that the tracker predicts for this frame.
        """
        detections = self._background.segment(image, time_s, expected)
        detections.sort(key=lambda d: (-d.box[2] * d.box[3], d.box))
        pairs, interim = split_resting(worth_masking(detections, expected), expected, self._resting)
        if not pairs:
            self._background.look_ahead()
        masked = self.masked(image, pairs[:MAX_BOXES], detections, MAX_SECOND_PASSES)
        # a shared detection gives no silhouette and needs no better mask
        shared = [d for d in detections if d.shared]
        return drop_parts([person for person, _ in masked] + interim) + shared

    def rest(self, boxes: Sequence[Box]) -> None:
        """Take the expected boxes of those who need no mask of the network in the next frame."""
        self._resting = boxes

    def ahead(self, image: Image) -> None:
        """Take the picture of the frame after the next one."""
        self._background.ahead(image, at_once=False)

    def masked(
        self,
        image: Image,
        pairs: Sequence[tuple[Detection, Box]],
        detections: Sequence[Detection],
        second_passes: int,
    ) -> list[tuple[Detection, int]]:
        """Return the person in each pair as the network masks them, and in how many crops.

        Args:
            image: uint8 [H, W, 3], BGR.
            pairs: Detections, each with the box in which the person is expected.
            detections: Everybody in the frame.
            second_passes: Number of larger crops at most, where a person goes on.
        """
        firsts = self._mask_crops(image, pairs, detections)
        crops = self._mask_again(image, firsts, detections, second_passes)
        return [(_refine(crop, image.shape), 1 + crop.wide) for crop in crops]

    def _mask_crops(
        self,
        image: Image,
        pairs: Sequence[tuple[Detection, Box]],
        detections: Sequence[Detection],
        *,
        wide: bool = False,
    ) -> list[_MaskedCrop]:
        """Run the network on the square around the box of each pair (detection, box)."""
        if not pairs:
            return []
        squares = [square_around(box, MARGIN) for _, box in pairs]
        if len(pairs) == 1:  # a core is free; of several crops none waits for the look ahead
            self._background.look_ahead()
        logits, presence = self._run(image, squares)
        self._background.look_ahead()
        network_masks = (logits > 0).astype(np.uint8) * 255
        crops = []
        for i, (detection, box) in enumerate(pairs):
            side = self._network.side
            masks = network_masks[i], paste_mask(detection, squares[i], side)
            others = _other_people(detection, box, squares[i], detections, side)
            crops.append(
                _MaskedCrop(detection, box, squares[i], *masks, others, float(presence[i]), wide)
            )
        return crops

    def _mask_again(
        self,
        image: Image,
        crops: Sequence[_MaskedCrop],
        detections: Sequence[Detection],
        most: int,
    ) -> list[_MaskedCrop]:
        """Mask a larger box where the network finds more of a person than the blob holds."""
        larger = [(crop, _larger_box(crop, image.shape)) for crop in crops]
        chosen = [(crop, box) for crop, box in larger if box is not None][:most]
        pairs = [(crop.detection, box) for crop, box in chosen]
        seconds = self._mask_crops(image, pairs, detections, wide=True)
        passes = zip(chosen, seconds, strict=True)
        second_passes = {id(first): s for (first, _), s in passes if s.presence >= SURE}
        return [second_passes.get(id(crop), crop) for crop in crops]

    def _draw_people(self, image: Image, boxes: Sequence[Box]) -> Mask:
        """Return the mask of everybody in and around the boxes of a frame."""
        people = np.zeros(image.shape[:2], np.uint8)
        tall = [b for b in boxes if b[3] >= SURE_HEIGHT_SHARE * image.shape[0]]
        tall = sorted(tall, key=lambda b: -b[2] * b[3])[:LEARN_BOXES]
        if not tall:
            return people
        squares = [square_around(box, LEARN_MARGIN) for box in tall]
        logits, _ = self._run(image, squares)
        for square, logit in zip(squares, logits, strict=True):
            scale = square[2] / self._network.side
            matrix = np.array([[scale, 0, square[0]], [0, scale, square[1]]], np.float32)
            size = people.shape[::-1]
            people |= cv2.warpAffine((logit > 0).astype(np.uint8), matrix, size)
        return people

    def _run(self, image: Image, squares: Sequence[Box]) -> tuple[Floats, Floats]:
        """Run the network on squares of a frame: logits [m, side, side] and presence [m]."""
        side = self._network.side
        return self._network(np.stack([crop_square(image, square, side) for square in squares]))


def worth_masking(
    detections: Sequence[Detection], expected: Sequence[Box]
) -> list[tuple[Detection, Box]]:
    """Return the detections that hold one person of some size, with the box to mask."""
    pairs = [(d, expected_region(d.box, expected)) for d in detections if not d.shared]
    return [pair for pair in pairs if pair[1][3] >= MIN_HEIGHT_PX]


def split_resting(
    pairs: Sequence[tuple[Detection, Box]], expected: Sequence[Box], resting: Sequence[Box]
) -> tuple[list[tuple[Detection, Box]], list[Detection]]:
    """Return the pairs to mask; and as interim who rests and is where and as large as expected.

    Args:
        pairs: Detections of background subtraction with the box to mask.
        expected: Boxes that the tracker predicts for this frame.
        resting: Those of them that need no mask.
    """
    masked, interim = list[tuple[Detection, Box]](), list[Detection]()
    for pair in pairs:
        box = pair[0].box
        nearest = max(expected, key=lambda other: box_iou(other, box), default=None)
        if nearest is not None and nearest in resting and box_iou(nearest, box) >= AS_EXPECTED:
            interim.append(replace(pair[0], interim=True))
        else:
            masked.append(pair)
    return masked, interim


def expected_region(box: Box, expected: Sequence[Box]) -> Box:
    """Return the box to mask: `box`, grown to the expected person of whom it is a part."""
    area = max(box[2] * box[3], 1e-6)
    homes = [e for e in expected if intersection(box, e) > 0.5 * area]
    return union_box(box, homes[0]) if len(homes) == 1 else box


def _other_people(
    detection: Detection, around: Box, square: Box, detections: Sequence[Detection], side: int
) -> Mask:
    """Return on a crop's grid where other people are; pieces of the same person do not count.

    Args:
        detection: Person in question.
        around: Box in which the person is looked for.
        square: Of the crop.
        detections: Everybody in the frame.
        side: Of the grid [pixels].
    """
    others = np.zeros((side, side), np.uint8)
    area = around[2] * around[3]
    for other in detections:
        if other is detection or not may_overlap(other, square, side):
            continue
        size = other.box[2] * other.box[3]
        piece = intersection(other.box, around) > 0.7 * size and size < 0.5 * area
        if not piece:
            others |= paste_mask(other, square, side)
    return others


def _larger_box(crop: _MaskedCrop, frame: tuple[int, ...]) -> Box | None:
    """Return the whole person's box where the blob holds only a piece, else None."""
    count, labels = cv2.connectedComponents(crop.network_mask & ~crop.others, connectivity=8)
    touched = np.zeros(count, np.uint8)
    touched[labels[crop.blob_mask > 0]] = 1
    touched[0] = 0  # the background
    person = touched[labels]
    if not person.any():
        return None
    x, y, w, h = cv2.boundingRect(person)
    # a person drawn up to the edge of the square goes on behind it
    margin_px = STRETCH * crop.side
    left, top = x - margin_px * (x == 0), y - margin_px * (y == 0)
    right, bottom = (
        x + w + margin_px * (x + w == crop.side),
        y + h + margin_px * (y + h == crop.side),
    )
    scale = crop.square[2] / crop.side
    left, right = (min(max(crop.square[0] + v * scale, 0), frame[1]) for v in (left, right))
    top, bottom = (min(max(crop.square[1] + v * scale, 0), frame[0]) for v in (top, bottom))
    larger = union_box(crop.region, (left, top, right - left, bottom - top))
    grows = larger[2] * larger[3] > GROWTH * crop.region[2] * crop.region[3]
    return larger if grows else None


def _search_area(crop: _MaskedCrop) -> Mask:
    """Return where on the grid this person may be: near the blob, not in another person's."""
    if crop.wide:
        return np.asarray(~crop.others | crop.blob_mask, np.uint8)
    scale = crop.side / crop.square[2]
    allowed = dilated_hull(crop.blob_mask, max(3, round(REACH * crop.region[3] * scale)))
    x, y = (crop.region[i] - crop.square[i] for i in (0, 1))
    w, h = crop.region[2:]
    corners = [(round(a * scale), round(b * scale)) for a, b in ((x, y), (x + w, y + h))]
    cv2.rectangle(allowed, *corners, 255, cv2.FILLED)
    return np.asarray(allowed & ~crop.others | crop.blob_mask, np.uint8)


def _refine(crop: _MaskedCrop, shape: tuple[int, ...]) -> Detection:
    """Return the detection with the network's mask, or with a low score where nobody is found."""
    detection, blob_mask = crop.detection, crop.blob_mask
    person: Mask = crop.network_mask & _search_area(crop)
    if mask_area(person & blob_mask) < MIN_COVERED * mask_area(blob_mask):
        return replace(detection, score=NOBODY_SCORE * detection.score)
    person = main_components(person)
    x, y, w, h = cv2.boundingRect(person)
    scale = crop.square[2] / crop.side  # frame pixels per mask pixel
    box = (crop.square[0] + x * scale, crop.square[1] + y * scale, w * scale, h * scale)
    tall = box[3] >= max(box[2], SURE_HEIGHT_SHARE * shape[0])
    moved = mask_area(person & blob_mask) >= MIN_MOVED * mask_area(person)
    # at the border the blob may have been a shadow, and the mask may reach what the blob misses
    at_border = near_border(box, shape, 2 * scale + BORDER_SHARE * shape[0])
    return Detection(
        box,
        np.ascontiguousarray(person[y : y + h, x : x + w]),
        at_border and (detection.clipped or crop.wide),
        1.0 if tall and moved and crop.presence >= SURE else UNSURE_SCORE,
        detection.shared,
        detection.colours,
        detection.clothes,
    )


def drop_parts(people: list[Detection]) -> list[Detection]:
    """Drop detections that lie inside the mask of a larger one: pieces of the same person."""
    kept_people: list[Detection] = []
    for person in sorted(people, key=lambda d: (-frame_area(d), d.box)):
        area = person.box[2] * person.box[3]
        larger = [k for k in kept_people if intersection(k.box, person.box) > 0.6 * area]
        squares = [square_around(k.box, MARGIN) for k in larger]
        grids = [
            (paste_mask(k, s), paste_mask(person, s)) for k, s in zip(larger, squares, strict=True)
        ]
        if not any(mask_area(a & b) > 0.5 * mask_area(b) for a, b in grids):
            kept_people.append(person)
    return kept_people


def frame_area(detection: Detection) -> float:
    """Return the area of a detection's mask in square pixels of the frame."""
    scale = detection.box[3] / detection.mask.shape[0]
    return mask_area(detection.mask) * scale * scale
