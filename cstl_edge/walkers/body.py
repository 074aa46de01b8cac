"""Body of a walker: rest shape, skin, clothes and bags, posed by linear blend skinning.

All points of a recording (skin and bags) are posed by one matrix product: with A [4b, v] made once
per recording from rest points and skin weights, and the bones' transforms M [3s, 4b], the posed
points are M A. Cloth pushes the skin outwards along its normals; the hem of a coat and every bag
are convex, so only their outlines are kept. Letters: `s` frames, `j` joints of the stride basis,
`b` bones (those of the body and two plumb lines at the hands that keep hand bags upright), `v`
points of the skin, `k` points of a bag.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from cstl_edge.arrays import Floats, Indices
from cstl_edge.walkers.person import Body, Person
from cstl_edge.walkers.pose import ONE_STRIDE, SIDES, basis, coefficients, fourier
from cstl_edge.walkers.recording import Recording

BAG_M = {  # half width, half height, half depth
    "backpack": (0.145, 0.22, 0.085),
    "side": (0.05, 0.14, 0.16),
    "hand": (0.055, 0.15, 0.18),
}
HAND_DROP_M = 0.12  # from the hand to the upper edge of a hand bag
STANCE = 0.6  # share of the stride during which a walking foot stands
TRUNK = ("Hips", "LHipJoint", "RHipJoint", "LowerBack", "Spine", "Spine1")
FIXED = ("Hips", "LHipJoint", "RHipJoint")  # bones that turn without being aligned


@dataclass(frozen=True)
class DressedBody:
    """A person dressed for a recording, ready to be posed."""

    coeffs: Floats  # [j, 11, 3] Fourier coefficients of the joints
    heads: Floats  # [b, 3] of the bones at rest
    align: Floats  # [b, 3, 3] from the body's rest directions to those of the stride basis
    skin: Floats  # [4 b, v] the matrix A
    on_body: int  # number of skin points; the points after them belong to bags
    hulls: tuple[Indices, ...]  # points whose outline is filled: hems and bags


def dress(person: Person, recording: Recording) -> DressedBody:
    """Return all of a recording's body that does not change from frame to frame."""
    points, heads, tails = rest_shape(person.body)
    points += basis().body["normals"] * build_thickness(person.body, recording)[:, None]
    weights = skin_weights()  # [b, v]
    bag, bone = _bag_points(recording, points, heads)
    hulls = [_hem_points(recording, points, heads)] if recording.coat_bulk > 0 else []
    if len(bag):
        hulls += _bag_hulls(recording, len(points), len(bag))
    extra = np.zeros((len(weights), len(bag)), np.float32)
    extra[bone] = 1.0
    rest = np.concatenate([points, bag])
    homogeneous = np.concatenate([rest.T, np.ones((1, len(rest)), np.float32)])  # [4, v]
    skin = np.concatenate([weights, extra], 1)[:, None] * homogeneous[None]  # [b, 4, v]
    coeffs, align = coefficients(person, recording), _alignment(heads, tails)
    return DressedBody(coeffs, heads, align, skin.reshape(-1, len(rest)), len(points), tuple(hulls))


def pose_points(walker: DressedBody, phase: Floats) -> Floats:
    """Return all points at stride phases [s], as planes of x, y and z: [3, s, v]."""
    turn, place = bone_transforms(walker, phase)
    shift = place - np.einsum("bsij,bj->bsi", turn, walker.heads)
    frames = len(phase)
    upright = np.broadcast_to(np.eye(3, dtype=np.float32), (2, frames, 3, 3))
    hands = place[[basis().bones.index(side + "Hand") for side in SIDES]]  # of the plumb lines
    turn = np.concatenate([turn, upright])
    shift = np.concatenate([shift, hands])
    moves = np.concatenate([turn, shift[..., None]], -1)  # [b, s, 3, 4]
    matrix = np.ascontiguousarray(moves.transpose(2, 1, 0, 3)).reshape(3 * frames, -1)
    out: Floats = (matrix @ walker.skin).reshape(3, frames, -1)
    return out


def bone_transforms(walker: DressedBody, phase: Floats) -> tuple[Floats, Floats]:
    """Return rotations [b, s, 3, 3] and head positions [b, s, 3] of bones at stride phases [s]."""
    assets = basis()
    local = rotations(np.einsum("sk,jkc->jsc", fourier(phase), walker.coeffs))  # [j, s, 3, 3]
    world: list[Floats] = []
    for joint, parent in enumerate(assets.joint_parents):
        world.append(local[joint] if parent < 0 else np.matmul(world[parent], local[joint]))
    count, frames = len(assets.bones), len(phase)
    turn = np.empty((count, frames, 3, 3), np.float32)
    place = np.zeros((count, frames, 3), np.float32)
    for bone in assets.order:
        parent, joint = assets.parents[bone], assets.joints.get(assets.bones[bone], -1)
        turn[bone] = world[joint] @ walker.align[bone] if joint >= 0 else turn[parent]
        if assets.bones[bone].endswith("Hand"):
            turn[bone] = turn[parent]
        place[bone] = walker.heads[bone]
        if parent >= 0:
            shift = turn[parent] @ (walker.heads[bone] - walker.heads[parent])
            place[bone] = place[parent] + shift
    return turn, place


def ground_speed_mps(walker: DressedBody, stride_s: float) -> float:
    """Return the speed in metres per second at which the standing feet hardly slide.

    A foot stands for STANCE of the stride; in that time it passes under the body from its foremost
    to its rearmost position.
    """
    _, place = bone_transforms(walker, ONE_STRIDE.astype(np.float32))
    feet = place[[basis().bones.index(side + "ToeBase") for side in SIDES]]  # [2, s, 3]
    return float(np.ptp(feet[..., 2], axis=1).mean() / (STANCE * stride_s))


def rotations(rotvec: Floats) -> Floats:
    """Return matrices [..., 3, 3] of rotation vectors [..., 3] (Rodrigues)."""
    angle = np.sqrt((rotvec * rotvec).sum(-1))
    unit = rotvec / np.maximum(angle, 1e-9)[..., None]
    sin, versine = np.sin(angle), 1 - np.cos(angle)
    x, y, z = unit[..., 0], unit[..., 1], unit[..., 2]
    out: Floats = versine[..., None, None] * unit[..., :, None] * unit[..., None, :]
    cos = 1 - versine
    for i in range(3):
        out[..., i, i] += cos
    for i, j, part in ((0, 1, -z), (0, 2, y), (1, 2, -x)):
        out[..., i, j] += sin * part
        out[..., j, i] -= sin * part
    return out


def _alignment(heads: Floats, tails: Floats) -> Floats:
    """Return the rotations [b, 3, 3] from the body's bone directions to the strides' rest ones."""
    assets = basis()
    moved = [b for b, name in enumerate(assets.bones) if name in assets.joints.keys() - FIXED]
    to = assets.stride["rest_direction"][[assets.joints[assets.bones[b]] for b in moved]]
    start, end = _unit(tails[moved] - heads[moved]), _unit(to)
    axis = np.cross(start, end)
    sine, cosine = np.sqrt((axis * axis).sum(1)), (start * end).sum(1)
    angle = np.where(to.any(1), np.arctan2(sine, cosine), 0.0)
    out = np.tile(np.eye(3, dtype=np.float32), (len(assets.bones), 1, 1))
    out[moved] = rotations(np.asarray(_unit(axis) * angle[:, None], dtype=np.float32))
    return out


def _unit(vectors: Floats) -> Floats:
    length = np.sqrt((vectors * vectors).sum(1, keepdims=True))
    return np.asarray(vectors / np.maximum(length, 1e-9), dtype=np.float32)


def rest_shape(body: Body) -> tuple[Floats, Floats, Floats]:
    """Return rest points [v, 3], bone heads and tails [b, 3] of a body."""
    stored = basis().body

    def mix(name: str) -> Floats:
        change = np.tensordot(body.shape, stored[f"{name}_components"], 1)
        return np.asarray(stored[f"{name}s"] + change, np.float32)

    points, heads, tails = mix("point"), mix("bone_head"), mix("bone_tail")
    names = basis().bones
    hip, neck = heads[names.index("LeftUpLeg"), 1], heads[names.index("Head"), 1]
    arm = bone_share("Arm", "ForeArm", "Hand")
    points[:, 0] += body.shoulder * arm * np.sign(points[:, 0])
    is_arm = [any(part in b for part in ("Arm", "Hand", "Thumb", "Finger")) for b in names]
    side = np.array([1 if b[0] == "L" else -1 for b in names], np.float32)
    for ends in (heads, tails):
        ends[:, 0] += body.shoulder * (side * is_arm)
    for ends in (points, heads, tails):
        below, above = ends[:, 1] < hip, ends[:, 1] > neck
        ends[below, 1] = hip + (ends[below, 1] - hip) * (1 + body.leg)
        ends[above, 1] = neck + (ends[above, 1] - neck) * (1 + body.head)
    return points, heads, tails


def body_height_m(person: Person) -> float:
    """Return the height of the standing body in metres, without hair and shoes."""
    points = rest_shape(person.body)[0]
    return float(np.ptp(points[:, 1]))


@lru_cache(maxsize=1)
def skin_weights() -> Floats:
    """Return dense skin weights [b + 2, v]; the two plumb lines carry no skin."""
    stored = basis().body
    index = stored["skin_bones"].astype(np.int64)
    weights = np.zeros((len(basis().bones) + 2, len(index)), np.float32)
    np.add.at(weights, (index, np.arange(len(index))[:, None]), stored["skin_weights"])
    return weights


@lru_cache(maxsize=32)
def bone_share(*names: str) -> Floats:
    """Return each point's total weight [v] on bones of these names, left and right together."""
    rows = [
        row
        for row, bone in enumerate(basis().bones)
        if {bone, bone.removeprefix("Left"), bone.removeprefix("Right")} & {*names}
    ]
    return np.asarray(skin_weights()[rows].sum(0), dtype=np.float32)


def build_thickness(body: Body, recording: Recording) -> Floats:
    """Return how far build and clothes push each point [v] along its normal, in metres."""
    outward, points = basis().body["normals"], basis().body["points"]  # [v, 3]
    trunk, thighs = bone_share(*TRUNK), bone_share("UpLeg")
    arms, shanks, hands = bone_share("Arm", "ForeArm"), bone_share("Leg"), bone_share("Hand")
    front = np.maximum(outward[:, 2], 0) * np.exp(-(((points[:, 1] - 0.33) / 0.13) ** 2))
    pelvis = bone_share("Hips", "LHipJoint", "RHipJoint", "UpLeg")
    coat, cloth = recording.coat_bulk, recording.fit
    out = trunk * (body.torso + cloth + coat) + trunk * front * body.belly + pelvis * body.hips
    out += arms * (0.7 * cloth + 0.6 * coat) + thighs * (cloth + coat * recording.coat_hem)
    out += (arms + shanks) * body.limbs + shanks * cloth
    scalp = bone_share("Head") * ((points[:, 1] > 0.9) | (points[:, 2] < 0.03))
    return np.asarray(out * (1 - hands) + scalp * body.hair, dtype=np.float32)


def _hem_points(recording: Recording, points: Floats, heads: Floats) -> Indices:
    """Return the indices of the points of hips and thighs that a coat covers, down to its hem."""
    names = basis().bones
    hip, knee = (heads[names.index("Left" + bone), 1] for bone in ("UpLeg", "Leg"))
    hem = hip + (knee - hip) * (0.15 + 1.0 * recording.coat_hem)
    high = points[:, 1]
    covered = (bone_share(*TRUNK, "UpLeg", "Leg") > 0.9) & (high > hem) & (high < hip + 0.1)
    return np.flatnonzero(covered)


def _bag_points(recording: Recording, points: Floats, heads: Floats) -> tuple[Floats, int]:
    """Return a bag's points [k, 3] and the bone that carries it; all shapes are at rest."""
    names = basis().bones
    if not recording.bag:
        return np.zeros((0, 3), np.float32), 0
    box = rounded_box(np.array(BAG_M[recording.bag], np.float32) * np.float32(recording.bag_size))
    sign = 1.0 if recording.bag_side == "Left" else -1.0
    half = -box.min(0)
    if recording.bag == "hand":
        handle = np.zeros((1, 3), np.float32)
        box = box - np.array([0, HAND_DROP_M + half[1], 0], np.float32)
        return np.concatenate([box, handle]), len(names) + SIDES.index(recording.bag_side)
    trunk = bone_share(*TRUNK) > 0.9
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


def rounded_box(half: Floats) -> Floats:
    """Return points of a box with rounded edges."""
    turn = np.arange(12) / 12 * 2 * np.pi
    tilt = np.deg2rad([-65, -35, 0, 35, 65])[:, None]
    planes = (np.cos(tilt) * np.cos(turn), np.sin(tilt) + 0 * turn, np.cos(tilt) * np.sin(turn))
    ring = np.stack(planes, -1).reshape(-1, 3)
    rounded = np.sign(ring) * np.abs(ring) ** 0.45
    return np.asarray(rounded / np.abs(rounded).max(0) * half, dtype=np.float32)


def _bag_hulls(recording: Recording, first: int, count: int) -> list[Indices]:
    """Return the outlines to fill: the bag, and for a hand bag its handle up to the hand."""
    indices = np.arange(first, first + count)  # the bag's points
    if recording.bag != "hand":
        return [indices]
    bag, handle = indices[:-1], indices[-1]
    top = bag[-12:]  # the uppermost ring of the box
    return [bag, *(np.array([handle, top[i], top[i + 3]]) for i in (1, 7))]
