"""Recording of a walk: pace, clothes, bag, camera and segmenter, drawn from a seed.

The session (pace, mood, clothes, bag) is drawn from the seed alone, the camera (pose, frame rate,
size, noise) from the seed and the view: the same seed at another view is the same walk seen by
another camera, as in the CASIA-B recordings.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np

from cstl_edge.arrays import Floats
from cstl_edge.walkers.person import COMPONENTS, random_stream

CONDITIONS = ("nm", "bg", "cl")
BAGS = ("backpack", "side", "hand")
SESSION, CAMERA = 3, 4
MIN_FPS, MAX_FPS = 8.0, 30.0
MIN_HEIGHT_PX, MAX_HEIGHT_PX = 50, 400
COMMON_FPS = (10.0, 12.5, 15.0, 20.0, 25.0, 30.0)  # usual settings of cameras
MOOD_STD = 0.20  # of the stride components' spread between people
MAX_NOISE = 2.0  # severity drawn at most
DISTANCE_M = (4.0, 14.0)


def limits_metadata(low: float, high: float) -> dict[str, float]:
    """Return the range of a field, inclusive, that overrides must keep to, as its metadata."""
    return {"low": low, "high": high}


@dataclass(frozen=True)
class Recording:
    """One walk seen by one camera."""

    seed: int
    condition: str  # nm normal, bg bag, cl coat
    view_deg: float  # 0 towards the camera, 90 from the walker's left side, 180 away
    # session
    pace: float = field(metadata=limits_metadata(0.4, 2.0))  # speed relative to the person's own
    mood: Floats  # [12] deviations of the stride components
    posture: Floats  # [4] deviations: lean, head, arm swing (log), elbow
    start_phase: float = field(metadata=limits_metadata(0.0, 1.0))  # 0..1 of a stride
    fit: float = field(metadata=limits_metadata(-0.02, 0.1))  # metres between skin and clothes
    bag: str  # "", backpack, side or hand
    bag_side: str  # Left or Right
    bag_size: float = field(metadata=limits_metadata(0.3, 2.0))  # relative
    coat_bulk: float = field(metadata=limits_metadata(0.0, 0.15))  # metres, 0 without a coat
    coat_hem: float = field(metadata=limits_metadata(0.0, 1.0))  # 0 at the hips .. 1 below knees
    # camera
    fps: float = field(metadata=limits_metadata(1.0, 240.0))
    height_px: int = field(metadata=limits_metadata(24, 2000))  # of the person in mid-walk
    elevation_deg: float = field(metadata=limits_metadata(-20.0, 60.0))
    azimuth_deg: float = field(metadata=limits_metadata(-45.0, 45.0))  # jitter of the view
    roll_deg: float = field(metadata=limits_metadata(-30.0, 30.0))
    distance_m: float = field(metadata=limits_metadata(2.0, 200.0))  # at the middle of the walk
    drop_rate: float = field(metadata=limits_metadata(0.0, 0.5))  # share of frames that are lost
    noise: float = field(metadata=limits_metadata(0.0, 3.0))  # severity of faults, 1 ordinary


def make_recording(
    seed: int, condition: str = "nm", view_deg: float = 90.0, **overrides: object
) -> Recording:
    """Draw a recording; the same seed at another view is the same walk from another camera.

    Args:
        seed: Seed of the session and, with the view, of the camera.
        condition: One of nm normal, bg bag, cl coat.
        view_deg: View, 0 towards the camera, 90 from the walker's left side, 180 away.
        overrides: Values of fields of `Recording` by name, in place of what is drawn.

    Raises:
        ValueError: an unknown condition or field, or a value out of range.
    """
    if condition not in CONDITIONS:
        raise ValueError(f"expected a condition of {', '.join(CONDITIONS)}, got {condition!r}")
    if not np.isfinite(view_deg):
        raise ValueError(f"expected a view in degrees, got {view_deg}")
    session = _session(random_stream(SESSION, seed), condition)
    camera = _camera(random_stream(CAMERA, seed, round(view_deg * 100) % 36000))
    _check(overrides)
    drawn: dict[str, Any] = {**session, **camera, **overrides}
    return Recording(seed, condition, float(view_deg), **drawn)


def _session(rng: np.random.Generator, condition: str) -> dict[str, object]:
    drawn: dict[str, object] = {
        "pace": float(np.exp(np.clip(rng.normal(), -2, 2) * 0.07)),
        "mood": (rng.normal(size=COMPONENTS) * MOOD_STD).astype(np.float32),
        "posture": (rng.normal(size=4) * (0.012, 0.03, 0.10, 0.05)).astype(np.float32),
        "start_phase": float(rng.random()),
        "fit": float(rng.uniform(0.003, 0.015)),
    }
    bag, side = str(rng.choice(BAGS)), str(rng.choice(("Left", "Right")))
    size, bulk, hem = rng.uniform(0.8, 1.25), rng.uniform(0.018, 0.045), rng.uniform(0.1, 1.0)
    carries, coated = condition == "bg", condition == "cl"
    return drawn | {
        "bag": bag if carries else "",
        "bag_side": side,
        "bag_size": float(size),
        "coat_bulk": float(bulk) if coated else 0.0,
        "coat_hem": float(hem) if coated else 0.0,
    }


def _camera(rng: np.random.Generator) -> dict[str, object]:
    common, free = float(rng.choice(COMMON_FPS)), float(rng.uniform(MIN_FPS, MAX_FPS))
    low, high = np.log(MIN_HEIGHT_PX), np.log(MAX_HEIGHT_PX)
    return {
        "fps": common if rng.random() < 0.6 else free,
        "height_px": round(float(np.exp(rng.uniform(low, high)))),
        "elevation_deg": float(rng.uniform(0, 14)),
        "azimuth_deg": float(np.clip(rng.normal(), -2, 2) * 3.0),
        "roll_deg": float(np.clip(rng.normal(), -2, 2) * 1.0),
        "distance_m": float(np.exp(rng.uniform(*np.log(DISTANCE_M)))),
        "drop_rate": float(rng.choice((0.0, 0.0, 0.03, 0.1))),
        "noise": float(min(rng.gamma(3.0, 0.25), MAX_NOISE)),
    }


def _check(overrides: dict[str, object]) -> None:
    known = {kind.name: kind.metadata for kind in fields(Recording)[3:]}  # after seed .. view
    for name, value in overrides.items():
        if name not in known:
            raise ValueError(f"unknown field {name!r} of a recording; one of {', '.join(known)}")
        if known[name]:
            low, high = known[name].values()
            if not isinstance(value, (int, float)) or not low <= value <= high:
                raise ValueError(f"expected {name} in {low}..{high}, got {value!r}")
    if (bag := overrides.get("bag", "")) not in ("", *BAGS):
        raise ValueError(f"expected a bag of {', '.join(BAGS)} or '', got {bag!r}")
    if (side := overrides.get("bag_side", "Left")) not in ("Left", "Right"):
        raise ValueError(f"expected a bag_side of Left or Right, got {side!r}")
