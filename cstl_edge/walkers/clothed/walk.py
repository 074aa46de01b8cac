"""Way of walking: Fourier coefficients of the directions of body segments over one stride.

The basis is fitted to recorded strides of 19 people (`train/fit_strides.py`): components between
people, the spread of one person along them, and what they leave. Six further people are kept for
the shifted test set alone. Axes: x to the walker's left, y up, z forward. Letters: `k` segments
(and the pelvis' sway after them), `s` frames.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from importlib import resources

import numpy as np

from cstl_edge.arrays import Array, Floats
from cstl_edge.walkers.person import random_stream
from cstl_edge.walkers.pose import fourier

HARMONICS = 5
SEGMENTS = {  # name: joints of the recordings from and to which it points
    "hips": ("rhip", "lhip"),
    "trunk": ("pelvis", "thorax"),
    "shoulders": ("rsho", "lsho"),
    "head": ("thorax", "head"),
    "LeftUpLeg": ("lhip", "lknee"),
    "RightUpLeg": ("rhip", "rknee"),
    "LeftLeg": ("lknee", "lankle"),
    "RightLeg": ("rknee", "rankle"),
    "LeftFoot": ("lankle", "ltoe"),
    "RightFoot": ("rankle", "rtoe"),
    "LeftArm": ("lsho", "lelb"),
    "RightArm": ("rsho", "relb"),
    "LeftForeArm": ("lelb", "lwri"),
    "RightForeArm": ("relb", "rwri"),
}
INDEX = {name: row for row, name in enumerate(SEGMENTS)}
SWAY = len(SEGMENTS)  # row of the pelvis' sideways place, in metres
WALK, WALK_DAY = 11, 12  # purposes of random numbers, see `person.random_stream`
AGE = 21  # as above
CHILDREN, OLD = 0.06, 0.12  # shares of people
LIMIT = 2.2  # standard deviations drawn at most
REST = 0.7  # share of a residual that is the person's own; the others are the day's
DAY = 1.8  # spread from day to day over that of one recording session
SPREAD = 0.85  # of people over that of the recorded ones: ranges of motion of 138 adults
SWING = 0.90  # of the legs: mean range of motion of those adults
GAIN_STD = (0.06, 0.25)  # logarithm: a person's swing of legs and arms beside the components
SLOWER = 0.03  # added to the logarithm of the stride's time: mean speed of those adults
UPRIGHT = {"LeftUpLeg": -0.06, "RightUpLeg": -0.06, "LeftLeg": 0.13, "RightLeg": 0.13}
"""Added forwards to the mean direction: the recorded knees are bent 13 degrees more than theirs."""
MIX = 0.3  # concentration of the mixture of recorded people that a shifted person walks like


@dataclass(frozen=True)
class Walk:
    """One person's way of walking on one day."""

    coeffs: Floats  # [k + 1, 11, 3]
    stride_s: float  # seconds of a stride on legs of average length


@lru_cache(maxsize=1)
def walk_basis() -> dict[str, Array]:
    """Return the fitted basis in float32, loaded once."""
    asset = resources.files("cstl_edge") / "assets" / "walk_basis.npz"
    with asset.open("rb") as file, np.load(file, allow_pickle=False) as stored:
        return {name: stored[name].astype(np.float32) for name in stored.files}


@dataclass(frozen=True)
class Age:
    """What age does to a body and a walk; zeros for most adults."""

    child: float  # 0 adult .. 1 a child of about eight years
    stoop: float  # 0 upright .. 1 a stooped old person


def age_of(person_seed: int) -> Age:
    """Draw a person's age: some are children, some old."""
    rng = random_stream(AGE, person_seed)
    kind, much = rng.random(), float(rng.uniform(0.3, 1.0))
    return Age(much if kind < CHILDREN else 0.0, much if kind > 1 - OLD else 0.0)


def make_walk(person_seed: int, day_seed: int, *, shifted: bool = False) -> Walk:
    """Draw how a person walks on one day.

    Args:
        person_seed: Seed of what stays the person's own.
        day_seed: Seed of the day's mood.
        shifted: Whether the person walks like the six recorded people that no training sees.
    """
    basis = walk_basis()
    own = random_stream(WALK, person_seed)
    style = np.clip(own.normal(size=len(basis["between_std"])), -LIMIT, LIMIT)
    residual = np.clip(own.normal(size=basis["mean"].shape), -LIMIT, LIMIT) * REST
    pace_log = float(np.clip(own.normal(), -LIMIT, LIMIT)) * 0.05
    mixture = own.dirichlet(np.full(len(basis["shifted"]), MIX))
    stoop = age_of(person_seed).stoop
    gains = np.exp(np.clip(own.normal(size=2), -LIMIT, LIMIT) * GAIN_STD)
    day = random_stream(WALK_DAY, person_seed, day_seed)
    mood = np.clip(day.normal(size=len(style)), -LIMIT, LIMIT) * basis["within_std"] * DAY
    residual += np.clip(day.normal(size=residual.shape), -LIMIT, LIMIT) * (1 - REST)
    if shifted:
        coeffs = np.tensordot(mixture, basis["shifted"], 1)
        log_s = float(mixture @ basis["shifted_stride_s_log"])
        weights = mood + 0.25 * style * basis["between_std"]
    else:
        coeffs, log_s = basis["mean"], float(basis["stride_s_log"][0])
        weights = mood + SPREAD * style * basis["between_std"]
    log_s += float(weights @ basis["stride_s_log"][1:]) + pace_log + SLOWER
    coeffs = coeffs + np.tensordot(weights, basis["components"], 1) + residual * basis["rest_std"]
    coeffs[INDEX["trunk"], 0, 2] += 0.35 * stoop
    coeffs[INDEX["head"], 0, 2] += 0.6 * stoop
    for name, forward in UPRIGHT.items():
        coeffs[INDEX[name], 1:] *= SWING * gains[0] * (1 - 0.3 * stoop)
        coeffs[INDEX[name], 0, 2] += forward
    for name in ("LeftArm", "RightArm", "LeftForeArm", "RightForeArm"):
        coeffs[INDEX[name], 1:] *= gains[1]
    return Walk(coeffs.astype(np.float32), float(np.exp(np.clip(log_s, -0.4, 0.45))))


def directions(coeffs: Floats, phase: Floats) -> tuple[Floats, Floats]:
    """Return unit directions [k, s, 3] of the segments and the pelvis' sway [s] in metres."""
    signal = np.einsum("sf,kfi->ksi", fourier(phase), coeffs)
    lines = signal[:SWAY]
    length = np.sqrt((lines * lines).sum(-1, keepdims=True))
    return np.asarray(lines / np.maximum(length, 1e-6), np.float32), signal[SWAY, :, 0]
