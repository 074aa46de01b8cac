"""Skeleton: directions of body segments → rotations and places of all bones.

Bones turn by the smallest rotation that lays them along their segment, starting from their parent's
turn; hips and trunk have full frames of two lines each. Letters: `s` frames, `b` bones, `k`
segments.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from cstl_edge.arrays import Floats
from cstl_edge.walkers.clothed.walk import INDEX, walk_basis
from cstl_edge.walkers.pose import SIDES, Basis, basis

FLAT_PHASES = {"Left": (0.10, 0.30), "Right": (0.60, 0.80)}  # of the stride: a sole on the floor
TOE_SHARE = 0.6  # of the foot's downward pitch that the toes do not follow


def bone_moves(
    lines: Floats, sway_m: Floats, heads: Floats, tails: Floats, sole_rad: Floats
) -> tuple[Floats, Floats]:
    """Return rotations [b, s, 3, 3] and head positions [b, s, 3] of the bones.

    Args:
        lines: [k, s, 3] unit directions of the segments.
        sway_m: [s] sideways place of the pelvis.
        heads: [b, 3] bone heads at rest, metres.
        tails: [b, 3] bone tails at rest, metres.
        sole_rad: [2] pitch added to each foot's direction, left first (`sole_pitch`).
    """
    frames, assets = lines.shape[1], basis()
    names = assets.bones
    turn = np.empty((len(names), frames, 3, 3), np.float32)
    pelvis = _frame(lines[INDEX["hips"]], np.broadcast_to(UP, lines[0].shape))
    trunk = _frame(lines[INDEX["shoulders"]], lines[INDEX["trunk"]]) @ _mean_trunk().T
    nod = _between(np.broadcast_to(_mean_line("head"), lines[0].shape), lines[INDEX["head"]])
    fixed = {"Hips": pelvis, "LowerBack": _orthonormal(pelvis + trunk), "Spine": trunk,
             "Spine1": trunk, "Head": nod, "Neck1": nod,
             "Neck": _orthonormal(nod + trunk)}  # fmt: skip
    rest = tails - heads
    for bone in assets.order:
        name, parent = names[bone], assets.parents[bone]
        if name in fixed:
            turn[bone] = fixed[name]
        elif name in INDEX and name not in ("LeftFoot", "RightFoot"):
            turn[bone] = _lay(turn[parent], rest[bone], lines[INDEX[name]])
        elif name in ("LeftFoot", "RightFoot"):
            pitch = float(sole_rad[SIDES.index(name[: -len("Foot")])])
            turn[bone] = _lay(turn[parent], rest[bone], pitched(lines[INDEX[name]], pitch))
        elif name.endswith("ToeBase"):
            foot = turn[parent] @ (rest[parent] / np.linalg.norm(rest[parent])).astype(np.float32)
            drop = np.maximum(_pitch(rest[parent][None])[0] - _pitch(foot), 0) * TOE_SHARE
            turn[bone] = _pitching(-drop) @ turn[parent]
        else:
            turn[bone] = turn[parent]
    return turn, _places(turn, heads, sway_m, assets)


UP = np.array([0.0, 1.0, 0.0], np.float32)


def sole_pitch(lines: Floats, phase: Floats, heads: Floats, tails: Floats) -> Floats:
    """Return the pitch [2] that lays the soles flat while the feet stand, left first.

    Args:
        lines: [k, s, 3] directions over a whole stride.
        phase: [s] phases of that stride.
        heads: [b, 3] bone heads at rest.
        tails: [b, 3] bone tails at rest.
    """
    out = []
    for side in SIDES:
        bone = basis().bones.index(f"{side}Foot")
        low, high = FLAT_PHASES[side]
        flat = (phase >= low) & (phase < high)
        usual = _pitch(lines[INDEX[f"{side}Foot"], flat]).mean()
        out.append(float(_pitch((tails - heads)[bone][None])[0] - usual))
    return np.array(out, np.float32)


def pitched(lines: Floats, pitch_rad: float) -> Floats:
    """Return directions [s, 3] pitched up by an angle, around the walker's left-right axis."""
    return np.asarray(lines @ _pitching(np.array([-pitch_rad], np.float32))[0].T, np.float32)


def _places(turn: Floats, heads: Floats, sway_m: Floats, assets: Basis) -> Floats:
    place = np.zeros((*turn.shape[:2], 3), np.float32)
    for bone in assets.order:
        parent = assets.parents[bone]
        if parent < 0:
            place[bone] = heads[bone]
            place[bone, :, 0] += sway_m
        else:
            place[bone] = place[parent] + turn[parent] @ (heads[bone] - heads[parent])
    return place


def _pitch(lines: Floats) -> Floats:
    """Return the angle [s] of directions above the level, radians."""
    return np.asarray(np.arctan2(lines[..., 1], np.hypot(lines[..., 0], lines[..., 2])), np.float32)


def _pitching(angle: Floats) -> Floats:
    """Return rotations [s, 3, 3] around x that lower (or for negative angles raise) the front."""
    out = np.zeros((len(angle), 3, 3), np.float32)
    out[:, 0, 0] = 1
    out[:, 1, 1] = out[:, 2, 2] = np.cos(angle)
    out[:, 1, 2], out[:, 2, 1] = -np.sin(angle), np.sin(angle)
    return out


def _lay(start: Floats, rest: Floats, line: Floats) -> Floats:
    """Return `start` [s, 3, 3] turned on so that the bone `rest` [3] lies along `line` [s, 3]."""
    length = float(np.sqrt((rest * rest).sum()))
    along = np.asarray(start @ (rest / max(length, 1e-6)).astype(np.float32))
    return np.asarray(_between(along, line) @ start, np.float32)


def _between(start: Floats, end: Floats) -> Floats:
    """Return the smallest rotations [s, 3, 3] from unit vectors [s, 3] to others."""
    axis = _cross(start, end)
    cos = (start * end).sum(-1)
    cross = np.zeros((len(axis), 3, 3), np.float32)
    cross[:, 0, 1], cross[:, 0, 2] = -axis[:, 2], axis[:, 1]
    cross[:, 1, 0], cross[:, 1, 2] = axis[:, 2], -axis[:, 0]
    cross[:, 2, 0], cross[:, 2, 1] = -axis[:, 1], axis[:, 0]
    scale = 1 / np.maximum(1 + cos, 0.02)
    out = np.eye(3, dtype=np.float32) + cross + cross @ cross * scale[:, None, None]
    return np.asarray(out, np.float32)


def _cross(a: Floats, b: Floats) -> Floats:
    """Return cross products [s, 3]; for so few vectors `np.cross` takes four times as long."""
    x, y, z = a.T
    u, v, w = b.T
    return np.asarray(np.stack([y * w - z * v, z * u - x * w, x * v - y * u], -1), np.float32)


def _frame(left: Floats, up: Floats) -> Floats:
    """Return rotations [s, 3, 3] whose columns are left, up and forward; `up` is kept exactly."""
    forward = _cross(left, up)
    forward /= np.maximum(np.sqrt((forward**2).sum(-1, keepdims=True)), 1e-6)
    return np.asarray(np.stack([_cross(up, forward), up, forward], -1), np.float32)


def _orthonormal(mixed: Floats) -> Floats:
    """Return the rotations [s, 3, 3] near sums of two rotations."""
    up = mixed[..., 1] / np.sqrt((mixed[..., 1] ** 2).sum(-1, keepdims=True))
    return _frame(mixed[..., 0], np.asarray(up, np.float32))


def _mean_line(name: str) -> Floats:
    line = walk_basis()["mean"][INDEX[name], 0]
    return np.asarray(line / np.linalg.norm(line), np.float32)


@lru_cache(maxsize=1)
def _mean_trunk() -> Floats:
    """Return the frame [3, 3] of the average trunk: the body stands upright in it."""
    frame = _frame(_mean_line("shoulders")[None], _mean_line("trunk")[None])
    return np.asarray(frame[0], np.float32)
