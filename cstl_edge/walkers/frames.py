"""Frames of a walk: aligned silhouettes, segmenter-like masks, clean sprites.

Faults are applied at a working height that is cheap and loses nothing at the requested size;
`masks` scales the result to the recording's height. Letters: `s` frames, `h w` pixels.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from cstl_edge.arrays import Mask
from cstl_edge.silhouette import SIZES, SMALL, align
from cstl_edge.walkers.body import dress, ground_speed_mps
from cstl_edge.walkers.noise import Faults, apply_faults, draw_faults
from cstl_edge.walkers.person import Person
from cstl_edge.walkers.pose import stride_time_s
from cstl_edge.walkers.recording import Recording
from cstl_edge.walkers.render import BODY_PX, Footage, render_walk

OVERSAMPLING = 1.5  # working height over the silhouette's
MASK_WORKING_PX = 192  # working height of masks
MARGIN_PX = 4  # around a mask
MIN_HEIGHT_PX = 24  # a walker far away is never smaller


@dataclass(frozen=True)
class Sprite:
    """A clean frame of a walker, to be placed in a scene with its lowest row on the floor."""

    mask: Mask  # uint8 [h, w] 0/255, tight
    anchor_px: float  # column of the pelvis in the mask: moves at speed_mps, where the box jitters
    travel_m: float  # distance walked, 0 in the middle of the recording


def silhouettes(
    person: Person, recording: Recording, frames: int, size: tuple[int, int] = SMALL
) -> Mask:
    """Return aligned silhouettes with segmentation faults, uint8 [s, h, w], one per frame.

    Args:
        person: The person who walks.
        recording: Session and camera.
        frames: Number of frames, s.
        size: Height and width in pixels, one of `silhouette.SIZES`.

    Raises:
        ValueError: no frames, or another size.
    """
    if size not in SIZES:
        raise ValueError(f"expected a size of {' or '.join(map(str, SIZES))}, got {size}")
    footage = render_walk(person, recording, frames)
    faults = draw_faults(recording, frames)
    faulty = (
        faulty_frame(footage, faults, frame, OVERSAMPLING * size[0]) for frame in range(frames)
    )
    return np.stack([align(mask, size) for mask in faulty])


def masks(person: Person, recording: Recording, frames: int) -> list[Mask]:
    """Return masks like a segmenter's, each uint8 [h, w] 0/255 with a margin of 4 px.

    Args:
        person: The person who walks.
        recording: Session and camera; `height_px` is the person's height in the masks.
        frames: Number of frames.
    """
    footage = render_walk(person, recording, frames)
    faults = draw_faults(recording, frames)
    out = []
    for frame in range(frames):
        mask = faulty_frame(footage, faults, frame, MASK_WORKING_PX)
        height = _height_px(footage, frame)
        if height > MASK_WORKING_PX:
            mask = _scaled(mask, height / MASK_WORKING_PX)
        out.append(np.pad(_tight(mask)[0], MARGIN_PX))
    return out


def sprites(person: Person, recording: Recording, frames: int) -> list[Sprite]:
    """Return frames without faults, each with its place in a scene.

    Args:
        person: The person who walks.
        recording: Walk and camera.
        frames: Number of frames.
    """
    footage = render_walk(person, recording, frames)
    out = []
    for frame in range(frames):
        scale = _height_px(footage, frame) / BODY_PX
        mask, left = _tight(_scaled(footage.masks[frame], scale))
        anchor = float(footage.root_x[frame]) * scale - left
        out.append(Sprite(mask, anchor, float(footage.travel_m[frame])))
    return out


def speed_mps(person: Person, recording: Recording) -> float:
    """Return the walking speed at which the feet do not slide, in metres per second."""
    return ground_speed_mps(dress(person, recording), stride_time_s(person, recording))


def _height_px(footage: Footage, frame: int) -> float:
    return max(float(footage.scale[frame]) * BODY_PX, MIN_HEIGHT_PX)


def faulty_frame(footage: Footage, faults: Faults, frame: int, most_px: float) -> Mask:
    """Return one frame with faults at its own height, at most `most_px`."""
    scale = min(_height_px(footage, frame), most_px) / BODY_PX
    raster = footage.masks[frame]
    if scale > 1:
        clean = _scaled(raster, scale)
    else:
        h, w = (max(1, round(side * scale)) for side in raster.shape)
        clean = np.asarray(cv2.resize(raster, (w, h), interpolation=cv2.INTER_AREA), dtype=np.uint8)
    return apply_faults(clean, footage, faults, frame)


def _scaled(mask: Mask, scale: float) -> Mask:
    """Scale a binary mask, its outline smooth."""
    h, w = (max(1, round(side * scale)) for side in mask.shape)
    soft = cv2.GaussianBlur(mask, (0, 0), 1.0) if scale > 1 else mask
    kind = cv2.INTER_CUBIC if scale > 1 else cv2.INTER_AREA
    return np.asarray((cv2.resize(soft, (w, h), interpolation=kind) > 127) * np.uint8(255))


def _tight(mask: Mask) -> tuple[Mask, int]:
    """Return the mask cut to its person and the column where the cut begins."""
    x, y, w, h = cv2.boundingRect(mask)
    return np.ascontiguousarray(mask[y : y + h, x : x + w]), x
