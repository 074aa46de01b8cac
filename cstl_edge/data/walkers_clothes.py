"""Clothes and bags: what a recording's condition adds to a body in its rest shape.

Cloth pushes the skin outwards along its normals; the hem of a coat and every bag are convex, so
only their outlines are kept. Letters: `b` bones, `v` points of the skin, `k` points of a bag.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from cstl_edge.data.walkers_body import TRUNK, normals, share
from cstl_edge.data.walkers_person import Body, FloatArray
from cstl_edge.data.walkers_pose import SIDES, basis
from cstl_edge.data.walkers_recording import Recording

Indices = npt.NDArray[np.int64]
BAG_M = {  # half width, half height, half depth
    "backpack": (0.145, 0.22, 0.085),
    "side": (0.05, 0.14, 0.16),
    "hand": (0.055, 0.15, 0.18),
}
HAND_DROP_M = 0.12  # from the hand to the upper edge of a hand bag


def thickness(body: Body, recording: Recording) -> FloatArray:
    """Return how far build and clothes push each point [v] along its normal, in metres."""
    outward, points = normals(), np.asarray(basis().body["points"], dtype=np.float32)
    trunk, thighs = share(*TRUNK), share("UpLeg")
    arms, shanks, hands = share("Arm", "ForeArm"), share("Leg"), share("Hand")
    front = np.maximum(outward[:, 2], 0) * np.exp(-(((points[:, 1] - 0.33) / 0.13) ** 2))
    pelvis = share("Hips", "LHipJoint", "RHipJoint", "UpLeg")
    coat, cloth = recording.coat_bulk, recording.fit
    out = trunk * (body.torso + cloth + coat) + trunk * front * body.belly + pelvis * body.hips
    out += arms * (0.7 * cloth + 0.6 * coat) + thighs * (cloth + coat * recording.coat_hem)
    out += (arms + shanks) * body.limbs + shanks * cloth
    scalp = share("Head") * ((points[:, 1] > 0.9) | (points[:, 2] < 0.03))
    return np.asarray(out * (1 - hands) + scalp * body.hair, dtype=np.float32)


def hem_points(recording: Recording, points: FloatArray, heads: FloatArray) -> Indices:
    """Return the points of hips and thighs that a coat covers, down to its hem."""
    names = basis().bones
    hip, knee = (heads[names.index("Left" + b), 1] for b in ("UpLeg", "Leg"))
    hem = hip + (knee - hip) * (0.15 + 1.0 * recording.coat_hem)
    high = points[:, 1]
    covered = (share(*TRUNK, "UpLeg", "Leg") > 0.9) & (high > hem) & (high < hip + 0.1)
    return np.flatnonzero(covered)


def bag_points(
    recording: Recording, points: FloatArray, heads: FloatArray
) -> tuple[FloatArray, int]:
    """Return the bag's points [k, 3] in rest pose and the bone that carries them."""
    names = basis().bones
    if not recording.bag:
        return np.zeros((0, 3), np.float32), 0
    box = _box(np.array(BAG_M[recording.bag], np.float32) * np.float32(recording.bag_size))
    sign = 1.0 if recording.bag_side == "Left" else -1.0
    half = -box.min(0)
    if recording.bag == "hand":
        handle = np.zeros((1, 3), np.float32)
        box = box - np.array([0, HAND_DROP_M + half[1], 0], np.float32)
        return np.concatenate([box, handle]), len(names) + SIDES.index(recording.bag_side)
    trunk = share(*TRUNK) > 0.9
    if recording.bag == "side":
        level = heads[names.index("LeftUpLeg"), 1]
        near = trunk & (np.abs(points[:, 1] - level) < 0.12)
        out = np.abs(points[near, 0]).max()
        middle = [sign * (out + half[0] * 0.8), level, -0.03]
        return box + np.array(middle, np.float32), names.index("Hips")
    shoulders = heads[names.index("LeftArm"), 1]
    waist = heads[names.index("Spine"), 1]  # below it the seat would push the bag off the back
    near = trunk & (np.abs(points[:, 0]) < 0.1)
    near &= (points[:, 1] > waist) & (points[:, 1] < shoulders)
    back = points[near, 2].min()
    middle = [0.0, shoulders - half[1] * 0.95, back - half[2] * 0.6]
    return box + np.array(middle, np.float32), names.index("Spine1")


def _box(half: FloatArray) -> FloatArray:
    """Return points of a box with rounded edges."""
    turn = np.arange(12) / 12 * 2 * np.pi
    tilt = np.deg2rad([-65, -35, 0, 35, 65])
    ring = np.stack(
        np.broadcast_arrays(
            np.cos(tilt)[:, None] * np.cos(turn),
            np.sin(tilt)[:, None] + 0 * turn,
            np.cos(tilt)[:, None] * np.sin(turn),
        ),
        -1,
    ).reshape(-1, 3)
    rounded = np.sign(ring) * np.abs(ring) ** 0.45
    return np.asarray(rounded / np.abs(rounded).max(0) * half, dtype=np.float32)


def bag_hulls(recording: Recording, first: int, count: int) -> list[Indices]:
    """Return the outlines to fill: the bag, and the handle from the hand to its upper edge."""
    whole = np.arange(first, first + count)
    if recording.bag != "hand":
        return [whole]
    bag, handle = whole[:-1], whole[-1]
    top = bag[-12:]  # the uppermost ring of the box
    return [bag, *(np.array([handle, top[i], top[i + 3]]) for i in (1, 7))]
