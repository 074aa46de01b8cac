"""Synthetic person: a body and a gait, drawn from two bases fitted to many people.

A body is twelve principal components of a parametric human (stature, build) and a few proportions
that the basis varies too little; a gait is twelve principal components of a stride's Fourier
coefficients and visible traits: cadence, arm swing, step width, lean, limp, timing of the joints.
Both have seeds of their own, so that many gaits can share one body.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np
import numpy.typing as npt

from cstl_edge.arrays import Floats

COMPONENTS = 12
HARMONICS = 5
BODY, GAIT = 1, 2  # purposes: seeds of different purposes never share numbers
BODY_LIMIT = 2.0  # standard deviations; beyond it the linear body basis is not human
STYLE_SCALE = 1.1  # spread of gaits, in the stride basis' standard deviations
TIMING_STD = 0.22  # relative, complex: amplitude and phase of each joint's harmonics
DWELL_STD = (0.12, 0.22)  # relative, complex: pace within a stride, once and twice per stride
DWELL_LIMIT = 0.35  # time never stands still: 1 - 2 * 0.35 of the pace is left
TIMED_JOINTS = 8  # thigh, knee, ankle and arm of either side


def normal_trait(mean: float, std: float, least: float = -math.inf) -> Any:
    """Return the field of a trait that is drawn from a normal distribution.

    Args:
        mean: Mean of the distribution, in the unit of the trait.
        std: Standard deviation.
        least: Lower bound of what is drawn.
    """
    return field(metadata={"mean": mean, "std": std, "least": least})


@dataclass(frozen=True)
class Body:
    """Rest shape of a person; lengths in metres, stretches relative."""

    shape: Floats  # [12] standard normals of the body basis
    torso: float = normal_trait(0.0, 0.013)  # added under the skin of the trunk
    belly: float = normal_trait(0.005, 0.022)  # added at the front of the waist
    hips: float = normal_trait(0.0, 0.012)  # added around pelvis and thighs
    limbs: float = normal_trait(0.0, 0.005)  # added around arms and shanks
    hair: float = normal_trait(0.014, 0.015, least=0.0)  # thickness over the scalp
    shoulder: float = normal_trait(0.0, 0.016)  # half width added
    leg: float = normal_trait(0.0, 0.042)  # stretch of the legs
    head: float = normal_trait(0.0, 0.045)  # stretch of the head


@dataclass(frozen=True)
class Gait:
    """Way of walking: angles in radians, gains relative to the average walker."""

    style: Floats  # [12] standard normals of the stride basis
    timing: npt.NDArray[np.complex64]  # [8, 5] factors on the joints' harmonics
    dwell: npt.NDArray[np.complex64]  # [2] waves of the pace within a stride: hurried, lingering
    cadence: float = normal_trait(-0.05, 0.10)  # log of the relative stride time
    hip_swing: float = normal_trait(0.90, 0.16)
    knee_swing: float = normal_trait(1.0, 0.21)
    stance_knee: float = normal_trait(0.0, 0.09)  # give of the loaded knee, twice a stride
    limp: float = normal_trait(0.0, 0.11)  # left legs swing (1 + limp), right ones (1 - limp)
    step_width: float = normal_trait(0.02, 0.04)
    toe_out: float = normal_trait(0.08, 0.15)
    lean: float = normal_trait(0.02, 0.04)
    hunch: float = normal_trait(0.03, 0.065)
    head_drop: float = normal_trait(0.04, 0.065)
    sway: float = normal_trait(1.0, 0.5, least=0.0)  # gain of the pelvis' rolling and turning
    twist: float = normal_trait(1.0, 0.45, least=0.0)  # gain of the trunk's counter-rotation
    arm_swing: float = normal_trait(0.85, 0.38, least=0.0)
    arm_uneven: float = normal_trait(0.0, 0.32)
    arm_out: float = normal_trait(0.05, 0.08)
    arm_late: float = normal_trait(0.0, 0.55)  # lag of the arms behind the legs
    elbow: float = normal_trait(0.38, 0.22)
    elbow_swing: float = normal_trait(0.7, 0.45, least=0.0)


@dataclass(frozen=True)
class Person:
    """A synthetic person: seeds, body and gait."""

    seed: int
    body_seed: int
    body: Body
    gait: Gait


def random_stream(purpose: int, *seed: int) -> np.random.Generator:
    """Return the random generator of one purpose under a seed.

    Streams of different purposes never share numbers, so that a new draw in one leaves the others.
    """
    for value in seed:
        if value < 0:
            raise ValueError(f"expected a seed of at least 0, got {value}")
    return np.random.default_rng(np.random.SeedSequence([purpose, *seed]))


def make_person(seed: int, *, body_seed: int | None = None) -> Person:
    """Draw a person; people of the same `body_seed` share a body and differ in gait."""
    of_body = seed if body_seed is None else body_seed
    body, gait = _body(random_stream(BODY, of_body)), _gait(random_stream(GAIT, seed))
    return Person(seed, of_body, body, gait)


def _body(rng: np.random.Generator) -> Body:
    shape = np.clip(rng.normal(size=COMPONENTS), -BODY_LIMIT, BODY_LIMIT).astype(np.float32)
    shape[0] *= 0.5  # 9 cm between adults: the basis includes adolescents
    return Body(shape, **_traits(rng, Body))


def _gait(rng: np.random.Generator) -> Gait:
    style = np.clip(rng.normal(size=COMPONENTS) * STYLE_SCALE, -2.2, 2.2).astype(np.float32)
    noise = rng.normal(size=(2, TIMED_JOINTS, HARMONICS)) * TIMING_STD
    timing = (1 + noise[0] + 1j * noise[1]).astype(np.complex64)
    traits = _traits(rng, Gait)
    dwell = (rng.normal(size=2) + 1j * rng.normal(size=2)) * DWELL_STD
    dwell *= np.minimum(1, DWELL_LIMIT / np.abs(dwell))
    return Gait(style, timing, dwell.astype(np.complex64), **traits)


def _traits(rng: np.random.Generator, kind: type[Body | Gait]) -> dict[str, float]:
    """Draw the traits of a body or a gait in the order of their fields."""
    drawn = {}
    for trait in fields(kind):
        if spread := trait.metadata:
            value = spread["mean"] + spread["std"] * float(np.clip(rng.normal(), -2.2, 2.2))
            drawn[trait.name] = max(value, spread["least"])
    return drawn
