"""Footage: clean masks of a session's frames, in the form of the first generator's.

Letters: `s` frames, `v` points, `H W` raster pixels.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cstl_edge.arrays import Doubles, Floats
from cstl_edge.walkers.clothed.figure import Figure, dress, ground_speed_mps, pose_points
from cstl_edge.walkers.clothed.session import WalkSession
from cstl_edge.walkers.person import Person, random_stream
from cstl_edge.walkers.render import (
    BODY_PX,
    MARKS,
    PELVIS_M,
    PHASE_STEP_STD,
    TIMES,
    Footage,
    blas,
    fill_outline,
    landmarks,
    project,
    splat,
    to_raster,
)


@dataclass(frozen=True)
class Take:
    """A session's figure seen by its camera, point by point."""

    figure: Figure
    xy: Floats  # [2, s, v] raster places
    depth_m: Floats  # [s, v] how much nearer to the camera than the path's middle
    magnification: Floats  # [s]
    travel_m: Floats  # [s]


def render_session(person: Person, session: WalkSession, frames: int) -> Footage:
    """Render clean frames of a session on one thread, so that bits do not depend on threads.

    Args:
        person: The person who walks.
        session: Walk, clothes and camera.
        frames: Number of frames; ValueError for less than one.
    """
    with blas().limit(limits=1, user_api="blas"):
        return to_footage(take_session(person, session, frames))


def take_session(person: Person, session: WalkSession, frames: int) -> Take:
    """Pose a person for every frame of a session and project the points.

    Args:
        person: The person who walks.
        session: Walk, clothes and camera.
        frames: Number of frames; ValueError for less than one.
    """
    if frames < 1:
        raise ValueError(f"expected at least 1 frame, got {frames}")
    figure, camera = dress(person, session), session.camera
    phase, travel, heading = timeline(figure, frames)
    points = pose_points(figure, phase, heading)
    floor = points[1, :, : figure.on_body].min(1)
    points[1] -= floor[:, None] + np.float32(PELVIS_M)
    along = np.diff(travel, prepend=travel[:1])
    x, z = np.cumsum(along * np.sin(heading)), np.cumsum(along * np.cos(heading))
    middle = frames // 2
    points[0] += (x - x[middle])[:, None]
    points[2] += (z - z[middle])[:, None]
    image, magnification = project(points, camera, float(np.abs(travel).max(initial=0)))
    azimuth = np.deg2rad(camera.view_deg + camera.azimuth_deg)
    depth = np.sin(azimuth) * points[0] + np.cos(azimuth) * points[2]
    xy = to_raster(image, figure.on_body)
    return Take(figure, xy, np.asarray(depth, np.float32), magnification, travel)


def to_footage(take: Take) -> Footage:
    """Draw the clean masks of a take."""
    figure, xy = take.figure, take.xy
    masks = splat(xy[:, :, : figure.on_body])
    for frame, mask in enumerate(masks):
        for hull in figure.hulls:
            fill_outline(mask, xy[:, frame, hull])
    camera = figure.session.camera
    scale = (camera.height_px * take.magnification / BODY_PX).astype(np.float32)
    mark_points, pelvis_points = landmarks()
    marks = xy[:, :, mark_points].transpose(1, 2, 0).reshape(len(masks), 2, len(MARKS), 2)
    return Footage(masks, scale, marks, take.travel_m, xy[0][:, pelvis_points].mean(1))


def timeline(figure: Figure, frames: int) -> tuple[Floats, Floats, Floats]:
    """Return stride phase [s], distance walked [s] and heading [s], the last two 0 in the middle.

    Args:
        figure: The dressed person.
        frames: Number of frames, s.
    """
    session = figure.session
    rng = random_stream(TIMES, session.seed)
    lost = (rng.random(frames) < session.camera.drop_rate) * rng.integers(1, 3, frames)
    time_s = (np.arange(frames) + np.cumsum(lost)) / session.camera.fps
    wander = np.cumsum(rng.normal(size=frames) * PHASE_STEP_STD)
    change = np.linspace(1.0, session.pace_end, frames)
    speed = np.cumsum(np.diff(time_s, prepend=0.0) * change)
    phase: Doubles = session.camera.start_phase + speed / figure.stride_s + wander
    middle = frames // 2
    travel = ground_speed_mps(figure) * figure.stride_s * (phase - phase[middle])
    heading = np.deg2rad(session.turn_deg_s) * (time_s - time_s[middle])
    return (phase % 1.0).astype(np.float32), travel.astype(np.float32), heading.astype(np.float32)
