"""Labelled crops of real clips: a detector finds people, the teacher masks them.

The teacher is any mask network that has a manifest (docs/extending.md). A part of every clip in
time is held out for the measure. Letters: `h w` pixels of a crop.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from cstl_edge.arrays import Bytes, Floats, Image, Mask
from cstl_edge.live.boxes import Box, box_iou
from cstl_edge.live.segmentation.mask_network import crop_square, square_around
from cstl_edge.live.sources.open import open_source
from cstl_edge.opencv import import_cv2
from cstl_edge.runtime.detector import PersonDetector
from cstl_edge.runtime.masks.base import MaskNetwork

cv2 = import_cv2()

SIDE = 384  # pixels of a stored crop: the person has half of it
AROUND, FRAMED = 2.0, 1.25  # side of a stored crop, of the teacher's / larger side of the person
LEAST_PX = 70  # height of a person who is labelled
LEAST_PRESENCE, LEAST_PIXELS = 0.5, 600  # of the teacher's answer
SAME_PERSON = 0.5  # intersection over union of two boxes of one person
MOST = 2  # people of a frame, the surest
BLOCK_S, HELD_OUT = 15.0, 0.27  # of each block of a clip the last share is for the measure


@dataclass(frozen=True)
class LabelledCrop:
    """Surroundings of a person, and the teacher's mask of them."""

    image: Image  # uint8 BGR [h, w, 3]
    mask: Bytes  # uint8 [h, w], 255 times the probability
    box: Box  # of the person, in pixels of the crop
    presence: float
    time_s: float
    held_out: bool = False  # whether it is for the measure


def label_clips(
    clips: Sequence[Path], teacher: MaskNetwork, every: int = 7, height_px: int = 960
) -> Iterator[LabelledCrop]:
    """Yield the people of clips as the teacher masks them.

    Args:
        clips: Videos.
        teacher: Mask network.
        every: Frames from one that is labelled to the next.
        height_px: Frames are shrunk to this many rows.
    """
    detector = PersonDetector()
    for clip in clips:
        crops, last_s = list[LabelledCrop](), 0.0
        with open_source(str(clip)) as source:
            for frame in source:
                last_s = frame.time_s
                if frame.index % every == 0:
                    image = _shrunk(frame.image, height_px)
                    crops += _label_frame(image, frame.time_s, detector, teacher)
        yield from hold_out(crops, last_s)


def hold_out(crops: Iterable[LabelledCrop], last_s: float) -> Iterator[LabelledCrop]:
    """Yield the crops of a clip; those of the last share of every block are held out.

    crops: of one clip
    last_s: time of its last frame; a clip that is shorter than a block is one block
    """
    block_s = min(BLOCK_S, last_s + 1e-6)
    for crop in crops:
        yield replace(crop, held_out=crop.time_s % block_s >= (1 - HELD_OUT) * block_s)


def _shrunk(image: Image, height_px: int) -> Image:
    scale = height_px / image.shape[0]
    if scale >= 1:
        return image
    smaller: Image = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    return smaller


def _label_frame(
    image: Image, time_s: float, detector: PersonDetector, teacher: MaskNetwork
) -> Iterator[LabelledCrop]:
    """Yield the people of one frame."""
    boxes: list[Box] = []
    for person in detector(image)[:MOST]:
        labelled = _label(image, person.box, teacher) if person.box[3] >= LEAST_PX else None
        if labelled is None or any(box_iou(labelled[0], box) > SAME_PERSON for box in boxes):
            continue
        box, square, logits, presence = labelled
        boxes.append(box)
        around = square_around(box, AROUND)
        scale = SIDE / around[2]
        yield LabelledCrop(
            crop_square(image, around, SIDE),
            _on_grid(logits, square, around),
            ((box[0] - around[0]) * scale, (box[1] - around[1]) * scale,
             box[2] * scale, box[3] * scale),
            presence,
            time_s,
        )  # fmt: skip


def _label(image: Image, box: Box, teacher: MaskNetwork) -> tuple[Box, Box, Floats, float] | None:
    """Return the person's box, the square, the logits and the presence; None without a person.

    Twice: framed by the detector's box, then by the box of the mask itself.

    Args:
        image: uint8 BGR [H, W, 3].
        box: The detector's.
        teacher: Mask network.
    """
    for _ in range(2):
        square = square_around(box, FRAMED)
        logits, presence = teacher(crop_square(image, square, teacher.side)[None])
        mask: Mask = (logits[0] > 0).astype(np.uint8)
        _, _, stats, _ = cv2.connectedComponentsWithStats(mask)
        if presence[0] < LEAST_PRESENCE or len(stats) < 2:
            return None
        x, y, w, h, area = stats[1:][stats[1:, cv2.CC_STAT_AREA].argmax()]
        if area < LEAST_PIXELS:
            return None
        zoom = square[2] / teacher.side
        box = square[0] + x * zoom, square[1] + y * zoom, w * zoom, h * zoom
    return box, square, logits[0], float(presence[0])


def _on_grid(logits: Floats, square: Box, around: Box) -> Bytes:
    """Return 255 times the probability on the grid of a larger square, 0 outside the teacher's.

    Args:
        logits: [side, side] of `square`.
        square: That the teacher saw.
        around: That is stored.
    """
    share = 0.5 + 0.5 * np.tanh(0.5 * logits)
    zoom, scale = around[2] / SIDE, len(logits) / square[2]
    matrix = np.array(
        [[zoom * scale, 0, (around[0] - square[0]) * scale],
         [0, zoom * scale, (around[1] - square[1]) * scale]], np.float32,
    )  # fmt: skip
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    large = cv2.warpAffine(share.astype(np.float32), matrix, (SIDE, SIDE), flags=flags)
    return np.asarray((large * 255).round(), np.uint8)
