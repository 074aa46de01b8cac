"""Renderer: posed points → clean masks of one fixed scale, by splatting and closing.

Points are about two pixels apart at the raster's scale, so setting their pixels and closing the
gaps gives the outline; hems and bags are convex and are filled as outlines. Letters: `s` frames,
`v` points, `H W` raster pixels.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
from threadpoolctl import ThreadpoolController

from cstl_edge.arrays import Doubles, Floats, Mask
from cstl_edge.walkers.body import DressedBody, dress, ground_speed_mps, pose_points
from cstl_edge.walkers.person import Gait, Person, random_stream
from cstl_edge.walkers.pose import SIDES, basis, stride_time_s
from cstl_edge.walkers.recording import Recording

TIMES = 5  # purpose of the random numbers, see `person.random_stream`
RASTER = (168, 176)  # H, W
BODY_PX, FEET_ROW = 144, 160  # a body spans 144 px and stands on row 160
CLOSING = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (5, 5))
PELVIS_M = 0.95  # height above the floor that the camera is aimed at
MAX_DRIFT = 0.45  # tangent of the largest change of view while walking past
NEAREST_M = 2.0  # the camera keeps this distance from the end of the path
PHASE_STEP_STD = 0.006  # strides; irregularity of the pace
MARKS = ("ForeArm", "Hand", "Leg", "ToeBase")
SUBPIXEL = 3  # fractional bits of cv2's outlines


blas = lru_cache(maxsize=1)(ThreadpoolController)  # searches all loaded libraries: 3 ms, once


@dataclass(frozen=True)
class Footage:
    """Clean frames of one recording."""

    masks: Mask  # [s, H, W] 0 or 255
    scale: Floats  # [s] height in pixels per raster pixel, from the camera's point of view
    marks: Floats  # [s, 2, 4, 2] raster x, y of elbow, hand, knee and toes, left then right
    travel_m: Floats  # [s] distance walked, 0 at the middle of the recording
    root_x: Floats  # [s] raster column of the pelvis


def render_walk(person: Person, recording: Recording, frames: int) -> Footage:
    """Render clean frames of a person's recording.

    Args:
        person: The person who walks.
        recording: Walk and camera.
        frames: Number of frames; ValueError for less than one.
    """
    if frames < 1:
        raise ValueError(f"expected at least 1 frame, got {frames}")
    # On one thread: the last bits of a matrix product depend on the number of threads, and two
    # processes of two threads each on two cores took seven times as long.
    with blas().limit(limits=1, user_api="blas"):
        return _render(person, recording, frames)


def _render(person: Person, recording: Recording, frames: int) -> Footage:
    walker = dress(person, recording)
    phase, travel = timeline(person, recording, walker, frames)
    points = pose_points(walker, phase)  # [3, s, v]
    floor = points[1, :, : walker.on_body].min(1)
    points[1] -= floor[:, None] + np.float32(PELVIS_M)
    points[2] += travel[:, None]
    image, magnification = project(points, recording, float(np.abs(travel).max(initial=0)))
    xy = to_raster(image, walker.on_body)
    masks = splat(xy[:, :, : walker.on_body])
    for frame, mask in enumerate(masks):
        for hull in walker.hulls:
            fill_outline(mask, xy[:, frame, hull])
    scale = (recording.height_px * magnification / BODY_PX).astype(np.float32)
    mark_points, pelvis_points = landmarks()
    marks = xy[:, :, mark_points].transpose(1, 2, 0).reshape(frames, 2, len(MARKS), 2)
    return Footage(masks, scale, marks, travel, xy[0][:, pelvis_points].mean(1))


def timeline(
    person: Person, recording: Recording, walker: DressedBody, frames: int
) -> tuple[Floats, Floats]:
    """Return stride phase [s], 0..1, and distance walked [s] in metres, 0 in the middle.

    Args:
        person: The person who walks.
        recording: Source of the frame rate, the lost frames and the start phase.
        walker: The person dressed for it.
        frames: Number of frames, s.
    """
    rng = random_stream(TIMES, recording.seed)
    stride_s = stride_time_s(person, recording)
    lost = (rng.random(frames) < recording.drop_rate) * rng.integers(1, 3, frames)
    time_s = (np.arange(frames) + np.cumsum(lost)) / recording.fps
    wander = np.cumsum(rng.normal(size=frames) * PHASE_STEP_STD)
    phase = _apply_dwell(recording.start_phase + time_s / stride_s + wander, person.gait)
    travel = ground_speed_mps(walker, stride_s) * stride_s * (phase - phase[frames // 2])
    return (phase % 1.0).astype(np.float32), travel.astype(np.float32)


def _apply_dwell(phase: Doubles, gait: Gait) -> Doubles:
    """Return stride phases [s], not wrapped, with a gait's changes of pace within the stride."""
    waves = 2j * np.pi * np.array([1, 2])
    turns = gait.dwell * np.exp(np.multiply.outer(phase, waves)) / waves  # [s, 2]
    return np.asarray(phase + turns.real.sum(1), dtype=np.float64)


def project(points: Floats, recording: Recording, reach_m: float) -> tuple[Floats, Floats]:
    """Project points [3, s, v] to image points [2, s, v] and magnification [s].

    The camera is aimed at the middle of the path and does not move: a walker who passes it is seen
    from changing sides, one who comes closer grows and is seen from above. It stands far enough
    away that the view drifts by no more than MAX_DRIFT.
    """
    view = recording.view_deg + recording.azimuth_deg
    azimuth, tilt, roll = np.deg2rad((view, recording.elevation_deg, recording.roll_deg))
    sideways, along = abs(np.sin(azimuth)), abs(np.cos(azimuth))
    least_m = reach_m * (along + sideways / MAX_DRIFT) + NEAREST_M * along
    camera_m = np.float32(max(recording.distance_m, least_m))
    turn = np.array(
        [
            [np.cos(azimuth), 0, -np.sin(azimuth)],
            [-np.sin(tilt) * np.sin(azimuth), np.cos(tilt), -np.sin(tilt) * np.cos(azimuth)],
            [np.cos(tilt) * np.sin(azimuth), np.sin(tilt), np.cos(tilt) * np.cos(azimuth)],
        ]
    )  # rows: right, up and towards the camera
    lean = np.array([[np.cos(roll), -np.sin(roll), 0], [np.sin(roll), np.cos(roll), 0], [0, 0, 1]])
    camera = (lean @ turn).astype(np.float32)
    xyz = (camera @ points.reshape(3, -1)).reshape(points.shape)
    magnification = camera_m / np.maximum(camera_m - xyz[2], np.float32(0.3))
    return xyz[:2] * magnification, magnification.mean(1)


def to_raster(image: Floats, on_body: int) -> Floats:
    """Scale each frame's points to the raster: x, y [2, s, v] in pixels, y down."""
    body = image[:, :, :on_body]
    low, high = body[1].min(1), body[1].max(1)
    scale = np.float32(BODY_PX) / np.maximum(high - low, np.float32(1e-3))
    middle = np.median(body[0, :, ::8], 1)
    x = image[0] * scale[:, None] + (RASTER[1] / 2 - middle * scale)[:, None]
    y = (FEET_ROW + low * scale)[:, None] - image[1] * scale[:, None]
    # points outside the raster (a bag's corner at most) stay at its border
    return np.stack([np.clip(x, 2, RASTER[1] - 3), np.clip(y, 2, RASTER[0] - 3)])


def splat(xy: Floats) -> Mask:
    """Return masks [s, H, W]: the pixels of points [2, s, v], gaps between them closed."""
    rows, columns = RASTER
    frames = xy.shape[1]
    x, y = xy.astype(np.int32)
    y += np.arange(frames, dtype=np.int32)[:, None] * np.int32(rows)
    canvas = np.zeros((frames * rows, columns), np.uint8)
    canvas.reshape(-1)[(y * columns + x).ravel()] = 255
    # frames lie below each other: their empty margins keep them apart
    closed = cv2.morphologyEx(canvas, cv2.MORPH_CLOSE, CLOSING)
    return np.asarray(closed, dtype=np.uint8).reshape(frames, rows, columns)


@lru_cache(maxsize=1)
def landmarks() -> tuple[list[int], list[int]]:
    """Return two sets of skin points.

    The nearest to the head of each marked bone, left side first; and a few all around the pelvis.
    """
    assets = basis()
    points, all_heads = assets.body["points"], assets.body["bone_heads"]
    heads = all_heads[[assets.bones.index(s + m) for s in SIDES for m in MARKS]]
    marks = ((points[None] - heads[:, None]) ** 2).sum(-1).argmin(1)
    level = np.abs(points[:, 1] - all_heads[assets.bones.index("Hips"), 1]) < 0.03
    pelvis = np.flatnonzero(level & (np.abs(points[:, 0]) < 0.25))
    return marks.tolist(), pelvis.tolist()


def fill_outline(mask: Mask, points: Floats) -> None:
    """Fill the outline of points [2, k] in a mask, in place."""
    outline = cv2.convexHull(np.ascontiguousarray(points.T))
    fixed = (outline * (1 << SUBPIXEL)).round().astype(np.int32)
    cv2.fillConvexPoly(mask, fixed, 255, shift=SUBPIXEL)
