"""Skin of a walker, clothes and bags with it, posed by linear blend skinning.

All points of a recording (skin and bags) are posed by one matrix product: with A [4b, v] made once
per recording from rest points and skin weights, and the bones' transforms M [3s, 4b], the posed
points are M A. Letters: `s` frames, `b` bones (those of the body and two plumb lines at the hands
that keep hand bags upright), `v` points.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cstl_edge.data.walkers_body import normals, rest, skin_weights
from cstl_edge.data.walkers_clothes import (
    Indices,
    bag_hulls,
    bag_points,
    hem_points,
    thickness,
)
from cstl_edge.data.walkers_person import FloatArray, Person
from cstl_edge.data.walkers_pose import ONE_STRIDE, SIDES, basis, coefficients, fourier
from cstl_edge.data.walkers_recording import Recording

STANCE = 0.6  # share of the stride that a walking foot stands
FIXED = ("Hips", "LHipJoint", "RHipJoint")  # bones that turn without being aligned


@dataclass(frozen=True)
class Walker:
    """A person dressed for a recording, ready to be posed."""

    coeffs: FloatArray  # [j, 11, 3]
    heads: FloatArray  # [b, 3] rest
    align: FloatArray  # [b, 3, 3] from the body's rest directions to the strides'
    skin: FloatArray  # [4 b, v]
    on_body: int  # the first so many points are skin, the rest belong to bags
    hulls: tuple[Indices, ...]  # points whose outline is filled: hems and bags


def dress(person: Person, recording: Recording) -> Walker:
    """Build everything of a recording that does not change from frame to frame."""
    points, heads, tails = rest(person.body)
    points = points + normals() * thickness(person.body, recording)[:, None]
    weights = skin_weights()  # [b, v]
    bag, bone = bag_points(recording, points, heads)
    hulls = [hem_points(recording, points, heads)] if recording.coat_bulk > 0 else []
    if len(bag):
        hulls += bag_hulls(recording, len(points), len(bag))
    extra = np.zeros((len(weights), len(bag)), np.float32)
    extra[bone] = 1.0
    still = np.concatenate([points, bag])
    homogeneous = np.concatenate([still.T, np.ones((1, len(still)), np.float32)])  # [4, v]
    skin = np.concatenate([weights, extra], 1)[:, None] * homogeneous[None]  # [b, 4, v]
    return Walker(
        coefficients(person, recording),
        heads,
        _alignment(heads, tails),
        skin.reshape(-1, len(still)),
        len(points),
        tuple(hulls),
    )


def bones(walker: Walker, phase: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return rotations [b, s, 3, 3] and head positions [b, s, 3] of the bones at stride phases."""
    known = basis()
    local = rotations(np.einsum("sk,jkc->jsc", fourier(phase), walker.coeffs))  # [j, s, 3, 3]
    world: list[FloatArray] = []
    for joint, up in enumerate(known.joint_parents):
        world.append(local[joint] if up < 0 else np.matmul(world[up], local[joint]))
    count, frames = len(known.bones), len(phase)
    turn = np.empty((count, frames, 3, 3), np.float32)
    place = np.zeros((count, frames, 3), np.float32)
    for bone in known.order:
        up, joint = known.parents[bone], known.joints.get(known.bones[bone], -1)
        turn[bone] = world[joint] @ walker.align[bone] if joint >= 0 else turn[up]
        if known.bones[bone].endswith("Hand"):
            turn[bone] = turn[up]
        place[bone] = walker.heads[bone]
        if up >= 0:
            place[bone] = place[up] + turn[up] @ (walker.heads[bone] - walker.heads[up])
    return turn, place


def posed(walker: Walker, phase: FloatArray) -> FloatArray:
    """Return all points [3, s, v] at stride phases [s]: whole planes of x, y and z."""
    turn, place = bones(walker, phase)
    shift = place - np.einsum("bsij,bj->bsi", turn, walker.heads)
    frames = len(phase)
    upright = np.broadcast_to(np.eye(3, dtype=np.float32), (2, frames, 3, 3))
    hands = place[[basis().bones.index(side + "Hand") for side in SIDES]]
    turn = np.concatenate([turn, upright])
    shift = np.concatenate([shift, hands])
    moves = np.concatenate([turn, shift[..., None]], -1)  # [b, s, 3, 4]
    matrix = np.ascontiguousarray(moves.transpose(2, 1, 0, 3)).reshape(3 * frames, -1)
    out: FloatArray = (matrix @ walker.skin).reshape(3, frames, -1)
    return out


def ground_speed_mps(walker: Walker, stride_s: float) -> float:
    """Return the speed at which the standing feet hardly slide.

    A foot stands for STANCE of the stride, and meanwhile passes under the body from its foremost
    to its rearmost place.
    """
    _, place = bones(walker, ONE_STRIDE.astype(np.float32))
    feet = place[[basis().bones.index(side + "ToeBase") for side in SIDES]]  # [2, s, 3]
    return float(np.ptp(feet[..., 2], axis=1).mean() / (STANCE * stride_s))


def rotations(rotvec: FloatArray) -> FloatArray:
    """Return matrices [..., 3, 3] of rotation vectors [..., 3] (Rodrigues)."""
    angle = np.sqrt((rotvec * rotvec).sum(-1))
    unit = rotvec / np.maximum(angle, 1e-9)[..., None]
    sin, versine = np.sin(angle), 1 - np.cos(angle)
    x, y, z = unit[..., 0], unit[..., 1], unit[..., 2]
    out: FloatArray = versine[..., None, None] * unit[..., :, None] * unit[..., None, :]
    cos = 1 - versine
    for i in range(3):
        out[..., i, i] += cos
    for i, j, part in ((0, 1, -z), (0, 2, y), (1, 2, -x)):
        out[..., i, j] += sin * part
        out[..., j, i] -= sin * part
    return out


def _alignment(heads: FloatArray, tails: FloatArray) -> FloatArray:
    """Return the rotations [b, 3, 3] from the body's bone directions to the strides' rest ones."""
    known = basis()
    moved = [b for b, name in enumerate(known.bones) if name in known.joints and name not in FIXED]
    to = known.stride["rest_direction"][[known.joints[known.bones[b]] for b in moved]]
    start, end = _unit(tails[moved] - heads[moved]), _unit(to)
    axis = np.stack([_cross(start, end, i) for i in range(3)], 1)
    sine, cosine = np.sqrt((axis * axis).sum(1)), (start * end).sum(1)
    angle = np.where(to.any(1), np.arctan2(sine, cosine), 0.0)
    out = np.tile(np.eye(3, dtype=np.float32), (len(known.bones), 1, 1))
    out[moved] = rotations(np.asarray(_unit(axis) * angle[:, None], dtype=np.float32))
    return out


def _unit(vectors: FloatArray) -> FloatArray:
    length = np.sqrt((vectors * vectors).sum(1, keepdims=True))
    return np.asarray(vectors / np.maximum(length, 1e-9), dtype=np.float32)


def _cross(a: FloatArray, b: FloatArray, i: int) -> FloatArray:
    """Return component i of the cross products of rows [k, 3]."""
    j, k = (i + 1) % 3, (i + 2) % 3
    return np.asarray(a[:, j] * b[:, k] - a[:, k] * b[:, j])
