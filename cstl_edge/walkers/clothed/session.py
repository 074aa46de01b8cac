"""Session of a walk: way of walking of the day, outfit, activity, path, and camera settings.

The camera's part is a `Recording` of the first generator (view, frame rate, height, faults) with
wider ranges; body and faults of the first generator serve both.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cstl_edge.walkers.clothed.outfit import Outfit, draw_activity, draw_outfit
from cstl_edge.walkers.person import random_stream
from cstl_edge.walkers.recording import Recording, make_recording

SESSION = 15  # purpose of random numbers, see `person.random_stream`
ELEVATION_DEG = (0.0, 30.0)
TURNING = 0.12  # share of walks whose direction changes within the recording
CHANGING_PACE = 0.06  # share that starts, stops or hurries
PACE_STD = 0.14  # of the logarithm
ARM_SWING_STD, ARM_OUT_STD = 0.50, 0.06
SHIFTED_FPS = (7.0, 25.0)
SHIFTED_HEIGHT_PX = (60, 120)


@dataclass(frozen=True)
class WalkSession:
    """One walk of one person, and the camera that sees it."""

    seed: int
    day: int
    camera: Recording
    outfit: Outfit
    activity: str  # "" or one of `outfit.ACTIVITIES`
    activity_side: str  # Left or Right
    pace: float  # speed relative to the person's own
    arm_swing: float  # relative to the person's own
    arm_out: float  # arms held away from the body: sideways share of their direction
    look_deg: float  # head turned aside, to the left
    turn_deg_s: float  # change of direction, degrees per second
    pace_end: float  # speed at the end of the walk relative to its start
    shifted: bool


def make_session(
    seed: int, day: int, person_seed: int, condition: str, view_deg: float, *, shifted: bool = False
) -> WalkSession:
    """Draw a session; the same seed at another view is the same walk seen by another camera.

    Args:
        seed: Seed of the walk and, with the view, of the camera.
        day: Number of the outfit and mood; walks of the same day share them.
        person_seed: Seed of the person.
        condition: nm ordinary, bg with a bag, cl in a coat.
        view_deg: 0 towards the camera, 90 from the walker's left side, 180 away, up to 360.
        shifted: Whether to draw from what the shifted test set keeps to itself.
    """
    rng = random_stream(SESSION, seed)
    outfit = draw_outfit(person_seed, day, condition, shifted=shifted)
    activity, side = draw_activity(rng, outfit.bags), str(rng.choice(("Left", "Right")))
    pace = float(np.exp(np.clip(rng.normal(), -2.2, 2.2) * PACE_STD))
    look = float(rng.normal() * (35 if activity == "aside" else 6))
    arm_swing = float(np.exp(np.clip(rng.normal(), -2, 2) * ARM_SWING_STD))
    arm_out = float(np.clip(rng.normal(), -1.5, 2.0) * ARM_OUT_STD)
    turns, turn = rng.random() < TURNING, float(rng.uniform(10, 50) * rng.choice((-1, 1)))
    changes, end = rng.random() < CHANGING_PACE, float(np.exp(rng.uniform(-0.9, 0.5)))
    return WalkSession(
        seed=seed, day=day, camera=_camera(seed, condition, view_deg, shifted), outfit=outfit,
        activity=activity, activity_side=side, pace=pace,
        arm_swing=arm_swing, arm_out=arm_out, look_deg=look,
        turn_deg_s=turn if turns else 0.0, pace_end=end if changes else 1.0, shifted=shifted,
    )  # fmt: skip


def _camera(seed: int, condition: str, view_deg: float, shifted: bool) -> Recording:
    rng = random_stream(SESSION, seed, 1 + round(view_deg * 100) % 36000)
    low, high = ELEVATION_DEG
    settings: dict[str, object] = {
        "elevation_deg": float(low + (high - low) * rng.beta(1.0, 2.0)),
        "azimuth_deg": float(np.clip(rng.normal() * 6, -15, 15)),
    }
    if shifted:
        settings["fps"] = float(rng.uniform(*SHIFTED_FPS))
        settings["height_px"] = int(rng.integers(*SHIFTED_HEIGHT_PX, endpoint=True))
    return make_recording(seed, condition, view_deg, **settings)
