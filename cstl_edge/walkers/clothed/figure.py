"""Figure: a person dressed for a session, and all points of it at stride phases.

As in the first generator all points are posed by one matrix product, bones' transforms times a
matrix made once per session; what follows with a delay (hems, bags) is posed by a second one at
earlier phases. Letters: `s` frames, `b` bones with `accessories.EXTRA`, `v` points, of which the
first `on_body` are drawn one by one and the others only as outlines.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, fields, replace

import numpy as np

from cstl_edge.arrays import Floats, Indices
from cstl_edge.walkers.body import build_thickness, rest_shape, skin_weights
from cstl_edge.walkers.clothed.accessories import EXTRA, make_accessories
from cstl_edge.walkers.clothed.activity import act
from cstl_edge.walkers.clothed.session import WalkSession
from cstl_edge.walkers.clothed.shell import make_rings
from cstl_edge.walkers.clothed.skeleton import bone_moves, sole_pitch
from cstl_edge.walkers.clothed.walk import INDEX, Age, Walk, age_of, directions, make_walk
from cstl_edge.walkers.clothed.wardrobe import head_points, thickness
from cstl_edge.walkers.person import Body, Person
from cstl_edge.walkers.pose import ONE_STRIDE, SIDES, basis
from cstl_edge.walkers.recording import make_recording

STANCE = 0.6  # share of the stride during which a walking foot stands
SWING_BY_PACE, CADENCE_BY_PACE = 0.45, 0.55  # exponents of the pace
TRUNK_SPREAD, LEG_SPREAD = 1.25, 0.9  # of build and leg length over the first generator's
LEGS = ("LeftUpLeg", "RightUpLeg", "LeftLeg", "RightLeg")


@dataclass(frozen=True)
class Figure:
    """A person dressed for a session, ready to be posed."""

    session: WalkSession
    walk: Walk
    stride_s: float
    heads: Floats  # [b, 3] of the body's bones at rest
    tails: Floats  # [b, 3]
    sole_rad: Floats  # [2]
    skins: tuple[tuple[float, Floats], ...]  # delay in strides, matrix [4 b, v]
    on_body: int
    hulls: tuple[Indices, ...]
    cloth_bands: int  # hulls of cloth; those after them are bags, hoods and brims


_last: dict[Hashable, Figure] = {}  # the figure dressed last: other cameras see the same one


def dress(person: Person, session: WalkSession) -> Figure:
    """Return all of a session's figure that does not change from frame to frame."""
    parts = (getattr(session, part.name) for part in fields(session) if part.name != "camera")
    key = (person.seed, person.body_seed, *parts)
    if key not in _last:
        figure = _dressed(person, session)
        _last.clear()
        _last[key] = figure
    return replace(_last[key], session=session)


def _dressed(person: Person, session: WalkSession) -> Figure:
    body = varied(person.body, age_of(person.seed))
    points, heads, tails = rest_shape(body)
    plain = make_recording(0, fit=0.0)  # build alone: no clothes of the first generator
    thick = build_thickness(body, plain) + thickness(session.outfit, body.shape)
    points += basis().body["normals"] * thick[:, None]
    bones = len(basis().bones) + len(EXTRA)
    skin = np.zeros((bones, len(points)), np.float32)
    body_weights = skin_weights()[: len(basis().bones)]
    skin[: len(body_weights)] = body_weights
    on_head = [head_points(n, person.body.shape) for n in (session.outfit.hair, session.outfit.hat)]
    top = np.concatenate([p.reshape(-1, 3) for p in on_head])
    head = basis().bones.index("Head")
    cover = np.zeros((bones, len(top)), np.float32)
    cover[head] = 1.0
    rest = np.concatenate([points, top + heads[head]])
    layers = [(0.0, rest, np.concatenate([skin, cover], 1))]
    extras, hulls, bands = _hung(session, points, heads, len(rest), bones)
    layers += extras
    skins = tuple((lag, _matrix(p, w)) for lag, p, w in layers)
    walk = _paced(make_walk(person.seed, session.day, shifted=session.shifted), session.pace)
    leg = float(np.exp(0.105 * body.shape[0]) * (1 + body.leg))
    stride_s = walk.stride_s * np.sqrt(leg) / session.pace**CADENCE_BY_PACE
    phases = ONE_STRIDE.astype(np.float32)
    sole = sole_pitch(directions(walk.coeffs, phases)[0], phases, heads, tails)
    return Figure(
        session, walk, float(stride_s), heads, tails, sole, skins, len(rest), hulls, bands
    )


def varied(body: Body, age: Age) -> Body:
    """Return a body with builds that differ more and limbs that differ less, as real people's."""
    shape = body.shape.copy()
    shape[0] -= 1.6 * age.child  # stature: the basis includes adolescents
    return replace(
        body,
        shape=shape,
        head=body.head + 0.18 * age.child,
        torso=TRUNK_SPREAD * body.torso + 0.004,
        belly=TRUNK_SPREAD * body.belly,
        hips=TRUNK_SPREAD * body.hips,
        leg=LEG_SPREAD * body.leg - 0.06 * age.child,
    )


def _hung(
    session: WalkSession, points: Floats, heads: Floats, first: int, bones: int
) -> tuple[list[tuple[float, Floats, Floats]], tuple[Indices, ...], int]:
    """Return delayed points (delay, places, weights), outlines, and how many are of cloth."""
    layers: list[tuple[float, Floats, Floats]] = []
    hulls: list[Indices] = []
    outfit = session.outfit
    for shell, from_waist in ((outfit.jacket, False), (outfit.skirt, True)):
        if shell is not None:
            rings = make_rings(shell, points, heads, from_waist=from_waist)
            weights = np.zeros((bones, len(rings.points)), np.float32)
            weights[: rings.weights.shape[1]] = rings.weights.T
            layers.append((shell.lag, rings.points, weights))
            hulls += [np.concatenate([ring + first, legs]) for ring, legs in rings.bands]
            first += len(rings.points)
    bands = len(hulls)
    for part in make_accessories(outfit, points, heads):
        weights = np.zeros((bones, len(part.points)), np.float32)
        weights[part.bone] = 1.0
        layers.append((part.lag, part.points, weights))
        hulls += [outline + first for outline in part.outlines]
        first += len(part.points)
    return layers, tuple(hulls), bands


def pose_points(figure: Figure, phase: Floats, heading_rad: Floats) -> Floats:
    """Return all points as planes of x, y and z: [3, s, v].

    Args:
        figure: The dressed person.
        phase: [s] stride phases.
        heading_rad: [s] direction walked, to the left of the first one.
    """
    posed: dict[float, Floats] = {}
    out = []
    for lag, skin in figure.skins:
        if lag not in posed:
            posed[lag] = _moves(figure, (phase - np.float32(lag)) % 1.0)
        out.append((posed[lag] @ skin).reshape(3, len(phase), -1))
    points = np.concatenate(out, 2)
    cos, sin = np.cos(heading_rad)[:, None], np.sin(heading_rad)[:, None]
    x, z = points[0].copy(), points[2]
    points[0], points[2] = cos * x + sin * z, cos * z - sin * x
    return np.asarray(points, np.float32)


def bone_places(figure: Figure, phase: Floats) -> tuple[Floats, Floats]:
    """Return rotations [b, s, 3, 3] and places [b, s, 3] of the body's bones."""
    lines, sway = directions(figure.walk.coeffs, phase)
    lines = act(lines, figure.session)
    turn, place = bone_moves(lines, sway, figure.heads, figure.tails, figure.sole_rad)
    yaw = float(np.deg2rad(figure.session.look_deg))
    aside = np.array([[np.cos(yaw), 0, np.sin(yaw)], [0, 1, 0], [-np.sin(yaw), 0, np.cos(yaw)]])
    head = basis().bones.index("Head")
    turn[head] = aside.astype(np.float32) @ turn[head]
    return turn, place


def ground_speed_mps(figure: Figure) -> float:
    """Return the speed in metres per second at which the standing feet hardly slide."""
    _, place = bone_places(figure, ONE_STRIDE.astype(np.float32))
    feet = place[[basis().bones.index(side + "ToeBase") for side in SIDES]]  # [2, s, 3]
    return float(np.ptp(feet[..., 2], axis=1).mean() / (STANCE * figure.stride_s))


def _moves(figure: Figure, phase: Floats) -> Floats:
    """Return the transforms of all bones as a matrix [3 s, 4 b]."""
    turn, place = bone_places(figure, phase)
    shift = place - np.einsum("bsij,bj->bsi", turn, figure.heads)
    frames = len(phase)
    upright = np.broadcast_to(np.eye(3, dtype=np.float32), (len(EXTRA), frames, 3, 3))
    hands = place[[basis().bones.index(side + "Hand") for side in SIDES]]
    root = np.zeros((1, frames, 3), np.float32)
    turn = np.concatenate([turn, upright])
    shift = np.concatenate([shift, hands, root])
    moves = np.concatenate([turn, shift[..., None]], -1)  # [b, s, 3, 4]
    return np.ascontiguousarray(moves.transpose(2, 1, 0, 3)).reshape(3 * frames, -1)


def _paced(walk: Walk, pace: float) -> Walk:
    """Return the walk with legs that swing as the pace wants, by about its root."""
    coeffs = walk.coeffs.copy()
    for name in LEGS:
        coeffs[INDEX[name], 1:] *= np.float32(pace**SWING_BY_PACE)
    return Walk(coeffs, walk.stride_s)


def _matrix(points: Floats, weights: Floats) -> Floats:
    """Return the matrix [4 b, v] of points [v, 3] carried by bones [b, v]."""
    homogeneous = np.concatenate([points.T, np.ones((1, len(points)), np.float32)])  # [4, v]
    out: Floats = (weights[:, None] * homogeneous[None]).reshape(-1, len(points))
    return out
