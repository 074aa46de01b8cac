"""Gait of a skeleton: Fourier coefficients of the joints' rotation vectors over one stride.

Axes: x to the walker's left, y up, z forward; metres, radians. Letters: `s` frames, `j` joints of
the stride basis, `b` bones of the body, `v` points of the skin.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from importlib import resources
from typing import Any

import numpy as np
import numpy.typing as npt

from cstl_edge.arrays import Array, Floats
from cstl_edge.walkers.person import HARMONICS, Gait, Person
from cstl_edge.walkers.recording import Recording

SIDES = ("Left", "Right")
STRAIGHTER = (0.75, 0.85)  # of knee and thigh: the fitted walkers crouch by some ten degrees
THIGH_SWING, ARM_SWING = 0.55, 0.62  # radians that the first harmonic hardly exceeds
HANGING_ARM = (-1.5, -1.18)  # radians from the T pose, the left arm's
STRAIGHT_ELBOW = 0.04  # radians; an elbow never bends backwards
FITTED_ELBOW = np.array([0.0, -0.866, 0.5], np.float32)  # axis of the left elbow in the basis
ELBOW = np.array([0.0, -0.98, -0.2], np.float32)  # axis that bends it forwards and inwards
ONE_STRIDE = np.arange(32) / 32  # phases
CARRYING_SWING = {"": 1.0, "backpack": 0.85, "side": 0.6, "hand": 0.3}  # gain of the carrying arm


@dataclass(frozen=True)
class Basis:
    """The two fitted bases (assets), in float32, with names turned to indices."""

    body: dict[str, Array]
    stride: dict[str, Array]
    bones: tuple[str, ...]
    parents: tuple[int, ...]
    joints: dict[str, int]
    joint_parents: tuple[int, ...]
    order: tuple[int, ...]  # bones, parents first


@lru_cache(maxsize=1)
def basis() -> Basis:
    """Return the fitted bases, loaded once."""
    body, stride = (_read(name) for name in ("walker_body.npz", "stride_basis.npz"))
    joints = {name: i for i, name in enumerate(stride["joints"].tolist())}
    parents = tuple(body["bone_parents"].tolist())
    depth = [0] * len(parents)
    for bone in range(len(parents)):
        above = bone
        while (above := parents[above]) >= 0:
            depth[bone] += 1
    joint_parents = tuple(joints.get(parent, -1) for parent in stride["parents"].tolist())
    order = tuple(np.argsort(depth, kind="stable").tolist())
    return Basis(body, stride, tuple(body["bones"].tolist()), parents, joints, joint_parents, order)


def _read(name: str) -> dict[str, Array]:
    asset = resources.files("cstl_edge") / "assets" / name
    with asset.open("rb") as file, np.load(file, allow_pickle=False) as stored:
        arrays = {key: stored[key] for key in stored.files}
    return {k: a.astype(np.float32) if a.dtype.kind == "f" else a for k, a in arrays.items()}


def stride_time_s(person: Person, recording: Recording) -> float:
    """Return the duration of one stride (two steps) in seconds."""
    usual = np.exp(float(basis().stride["stride_s_log_mean"]) + person.gait.cadence)
    # the pendulum law of cadence, by the leg's length relative to the average person
    leg = float(np.exp(0.105 * person.body.shape[0]) * (1 + person.body.leg))
    return float(usual * np.sqrt(leg) / recording.pace**0.55)


def coefficients(person: Person, recording: Recording) -> Floats:
    """Return the Fourier coefficients [j, 11, 3] of a person's joints in one recording."""
    stride, gait = basis().stride, person.gait
    weights = (gait.style + recording.mood) * stride["component_std"]
    coeffs: Floats = np.asarray(
        stride["mean"] + np.tensordot(weights, stride["components"], 1), dtype=np.float32
    )
    _legs(coeffs, gait, recording)
    _trunk(coeffs, gait, recording)
    _arms(coeffs, gait, recording)
    return coeffs


def _legs(coeffs: Floats, gait: Gait, recording: Recording) -> None:
    joints = basis().joints
    for side, sign, row in zip(SIDES, (1, -1), (0, 1), strict=True):
        thigh, knee, foot = (joints[side + name] for name in ("UpLeg", "Leg", "Foot"))
        swing = gait.hip_swing * (1 + sign * gait.limp) * recording.pace**0.45
        for column, joint in enumerate((thigh, knee, foot)):
            _retime(coeffs[joint], gait.timing[row * 4 + column])
        coeffs[thigh, 1:] *= swing
        coeffs[thigh, 1:] *= _restraint(coeffs[thigh], THIGH_SWING)
        coeffs[knee, 1:] *= gait.knee_swing * swing**0.5
        bend = coeffs[knee, 0]
        axis = bend / np.float32(max(float(np.linalg.norm(bend)), 1e-6))
        coeffs[knee, 3] += gait.stance_knee * np.float32(0.5) * axis
        coeffs[knee, 0] *= STRAIGHTER[0]
        coeffs[thigh, 0, 0] *= STRAIGHTER[1]
        coeffs[thigh, 0, 2] += sign * gait.step_width
        coeffs[foot, 0, 1] += sign * gait.toe_out


def _trunk(coeffs: Floats, gait: Gait, recording: Recording) -> None:
    joints = basis().joints
    balance = 0.05 if recording.bag == "backpack" else 0.0  # leaning balances a load
    lean = gait.lean + recording.posture[0] + balance
    for name, share in (("LowerBack", 0.6), ("Spine", 0.4)):
        coeffs[joints[name], 0, 0] += share * lean
    coeffs[joints["Spine1"], 0, 0] += gait.hunch
    coeffs[joints["Neck"], 0, 0] += gait.head_drop + recording.posture[1] - 0.5 * gait.hunch
    coeffs[joints["Hips"], 1:] *= gait.sway
    for name in ("LowerBack", "Spine", "Spine1"):
        coeffs[joints[name], 1:] *= gait.twist


def _arms(coeffs: Floats, gait: Gait, recording: Recording) -> None:
    joints = basis().joints
    day = float(np.exp(recording.posture[2])) * recording.pace**0.6
    for side, sign, row in zip(SIDES, (1, -1), (0, 1), strict=True):
        arm, fore, hand = (joints[side + name] for name in ("Arm", "ForeArm", "Hand"))
        carrying = recording.bag == "backpack" or side == recording.bag_side
        load = CARRYING_SWING[recording.bag] if carrying else 1.0
        swing = gait.arm_swing * max(0.1, 1 + sign * gait.arm_uneven) * day * load
        late = np.exp(1j * gait.arm_late * np.arange(1, HARMONICS + 1))
        _retime(coeffs[arm], gait.timing[row * 4 + 3] * late)
        _retime(coeffs[fore], gait.timing[row * 4 + 3] * late)
        coeffs[arm, 1:] *= swing
        coeffs[arm, 1:] *= _restraint(coeffs[arm], ARM_SWING)
        beside = 0.08 if carrying and recording.bag == "side" else 0.0
        hanging = sign * coeffs[arm, 0, 2] + gait.arm_out + beside
        coeffs[arm, 0, 2] = sign * min(max(hanging, HANGING_ARM[0]), HANGING_ARM[1])
        # the fitted elbows over-bend and turn outwards: keep their rhythm, set posture and axis
        rhythm = gait.elbow_swing * min(swing, 1.2) * (coeffs[fore, 1:] @ (sign * FITTED_ELBOW))
        bend = max((gait.elbow + float(recording.posture[3])) * (0.4 if load < 0.5 else 1.0), 0.08)
        reach = -float((fourier(ONE_STRIDE)[:, 1:] @ rhythm).min())
        room = (bend - STRAIGHT_ELBOW) / max(reach, 1e-6)
        coeffs[fore, 0] = bend * sign * ELBOW
        coeffs[fore, 1:] = (min(room, 1.0) * rhythm)[:, None] * (sign * ELBOW)
        coeffs[hand] = 0.0  # its fitted rest direction is across the forearm


def fourier(phase: npt.NDArray[np.floating[Any]]) -> Floats:
    """Return the basis functions [s, 11] at stride phases [s], 1 being one stride."""
    angle = 2 * np.pi * np.outer(phase, np.arange(1, HARMONICS + 1))
    waves = np.stack([np.cos(angle), np.sin(angle)], 2).reshape(len(angle), -1)
    return np.insert(waves, 0, 1.0, axis=1).astype(np.float32)


def _retime(coeffs: Floats, factors: npt.NDArray[np.complexfloating[Any, Any]]) -> None:
    """Multiply each harmonic of one joint [11, 3] by a complex factor, in place."""
    wave = (coeffs[1::2] - 1j * coeffs[2::2]) * factors[:, None]  # a cos + b sin = Re (a-ib) e^i
    coeffs[1::2], coeffs[2::2] = wave.real, -wave.imag


def _restraint(coeffs: Floats, limit: float) -> float:
    """Return the factor that keeps a joint's first harmonic below about `limit` radians."""
    amplitude = float(np.sqrt((coeffs[1:3] ** 2).sum()))
    return float((1 + (amplitude / limit) ** 6) ** (-1 / 6))
