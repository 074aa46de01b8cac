"""Silhouettes of sessions: footage, a segmenter's halo and faults, alignment.

Letters: `s` frames, `h w` pixels.
"""

from __future__ import annotations

import cv2
import numpy as np

from cstl_edge.arrays import Mask
from cstl_edge.silhouette import SIZES, SMALL, align
from cstl_edge.walkers.clothed.footage import render_session
from cstl_edge.walkers.clothed.session import WalkSession
from cstl_edge.walkers.frames import OVERSAMPLING, faulty_frame
from cstl_edge.walkers.noise import draw_faults
from cstl_edge.walkers.person import Person, random_stream
from cstl_edge.walkers.render import BODY_PX, Footage

HALO = 16  # purpose of random numbers, see `person.random_stream`
HALO_PX = (0.25, 0.35)  # mean and deviation of the outline's shift at the camera's height, pixels
HALO_MOST = 0.016  # of the body's height
LAG = 0.25  # share of recordings whose masks mix with the frame before


def silhouettes(
    person: Person, session: WalkSession, frames: int, size: tuple[int, int] = SMALL
) -> Mask:
    """Return aligned silhouettes with segmentation faults, uint8 [s, h, w], one per frame.

    Args:
        person: The person who walks.
        session: Walk, clothes and camera.
        frames: Number of frames, s.
        size: Height and width in pixels, one of `silhouette.SIZES`.

    Raises:
        ValueError: no frames, or another size.
    """
    if size not in SIZES:
        raise ValueError(f"expected a size of {' or '.join(map(str, SIZES))}, got {size}")
    footage = _haloed(render_session(person, session, frames), session)
    faults = draw_faults(session.camera, frames)
    working = OVERSAMPLING * size[0]
    return np.stack([align(faulty_frame(footage, faults, f, working), size) for f in range(frames)])


def _haloed(footage: Footage, session: WalkSession) -> Footage:
    """Return footage whose outlines lie outside the body as a segmenter's do, some with lag."""
    rng = random_stream(HALO, session.seed, round(session.camera.view_deg * 100) % 36000)
    shift_px = HALO_PX[0] + HALO_PX[1] * float(np.clip(rng.normal(), -2, 2.5))
    lags, share = rng.random() < LAG, float(rng.uniform(0.2, 0.55))
    masks = footage.masks
    shift = np.clip(shift_px / session.camera.height_px, -HALO_MOST / 2, HALO_MOST) * BODY_PX
    radius = round(abs(shift))
    if radius:
        kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius + 1, 2 * radius + 1))
        act = cv2.dilate if shift > 0 else cv2.erode
        rows = masks.reshape(-1, masks.shape[2])  # frames below each other, with empty margins
        masks = np.asarray(act(rows, kernel), np.uint8).reshape(masks.shape)
    if lags and len(masks) > 1:
        mixed = masks.astype(np.float32)
        mixed[1:] = (1 - share) * mixed[1:] + share * mixed[:-1]
        masks = (mixed > 0.45 * 255).astype(np.uint8) * np.uint8(255)
    return Footage(masks, footage.scale, footage.marks, footage.travel_m, footage.root_x)
