"""Shells: cloth that hangs from the body, as rings of points from the chest or waist to a hem.

A jacket or coat hangs straight from chest, belly and seat (drape), widens towards its hem (flare)
and follows the legs with a delay. Each band between two rings is filled as a convex outline,
together with the skin of the legs in it. Letters: `k` points of the rings, `v` points of the skin.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cstl_edge.arrays import Floats, Indices
from cstl_edge.walkers.body import TRUNK, bone_share
from cstl_edge.walkers.clothed.outfit import Shell
from cstl_edge.walkers.pose import basis

AROUND = 12  # points of a ring
BAND_M = 0.10  # between rings
SQUARE = 0.75  # exponent of the rings' superellipse: 1 is an ellipse, 0 a rectangle
LEG_POINTS = 14  # skin points of each leg that are covered in a band


@dataclass(frozen=True)
class Rings:
    """Points of a shell at rest, how bones carry them, and the outlines to fill."""

    points: Floats  # [k, 3]
    weights: Floats  # [k, b]
    bands: tuple[tuple[Indices, Indices], ...]  # ring points, skin points of each band


def make_rings(shell: Shell, points: Floats, heads: Floats, *, from_waist: bool) -> Rings:
    """Return the rings of a shell on a dressed body.

    Args:
        shell: Its cut.
        points: [v, 3] skin at rest, with the clothes below.
        heads: [b, 3] bone heads at rest.
        from_waist: Whether it begins at the waist (a skirt) and not below the arms (a jacket).
    """
    names = basis().bones
    hip, knee, foot = (heads[names.index(f"Left{n}"), 1] for n in ("UpLeg", "Leg", "Foot"))
    waist, chest = heads[names.index("LowerBack"), 1], heads[names.index("Spine1"), 1]
    hem = waist + (foot - waist) * shell.hem
    top = waist if from_waist else chest
    count = max(3, round((top - hem) / BAND_M) + 1)
    levels = np.linspace(top, hem, count)
    widths, fronts, backs = _profile(levels, points, hip, shell)
    below = np.clip((hip - levels) / (hip - foot), 0, 1)
    grow = shell.bulk_m + shell.flare_m * below
    angle = np.arange(AROUND) / AROUND * 2 * np.pi
    cos, sin = (np.sign(w) * np.abs(w) ** SQUARE for w in (np.cos(angle), np.sin(angle)))
    half, centre = (fronts - backs) / 2, (fronts + backs) / 2
    rings = np.stack(
        [
            (widths + grow)[:, None] * cos,
            np.repeat(levels[:, None], AROUND, 1),
            centre[:, None] + (half + grow)[:, None] * sin,
        ],
        -1,
    ).astype(np.float32)  # [rings, around, 3]
    weights = _weights(levels, cos, heads, hip, knee)
    index = np.arange(count * AROUND).reshape(count, AROUND)
    legs = [_leg_points(points, levels[i + 1], levels[i], hip) for i in range(count - 1)]
    bands = [(index[i : i + 2].ravel(), legs[i]) for i in range(count - 1)]
    return Rings(rings.reshape(-1, 3), weights.reshape(count * AROUND, -1), tuple(bands))


def _profile(
    levels: Floats, points: Floats, hip: float, shell: Shell
) -> tuple[Floats, Floats, Floats]:
    """Return half widths, front and back of what the shell covers at each level, draped."""
    trunk = bone_share(*TRUNK, "UpLeg", "Leg") > 0.8
    widths, fronts, backs = (np.empty(len(levels), np.float32) for _ in range(3))
    for row, level in enumerate(np.maximum(levels, hip - 0.08)):
        near = points[trunk & (np.abs(points[:, 1] - level) < 0.05)]
        widths[row] = np.abs(near[:, 0]).max(initial=0.1)
        fronts[row] = near[:, 2].max(initial=0.08)
        backs[row] = near[:, 2].min(initial=-0.08)
    for values, sign in ((widths, 1), (fronts, 1), (backs, -1)):
        hanging = np.maximum.accumulate(sign * values)
        values[:] = sign * (shell.drape * hanging + (1 - shell.drape) * sign * values)
    return widths, fronts, backs


def _weights(levels: Floats, across: Floats, heads: Floats, hip: float, knee: float) -> Floats:
    """Return how bones carry ring points [rings, around, b]: spine above, hips and thighs below."""
    names = basis().bones
    spine = [names.index(n) for n in ("Hips", "LowerBack", "Spine", "Spine1")]
    out = np.zeros((len(levels), len(across), len(names)), np.float32)
    nodes = np.array([hip, *(heads[b, 1] for b in spine[1:])])
    for row, level in enumerate(levels):
        place = np.interp(level, nodes, np.arange(4))
        low = min(int(place), 2)
        out[row, :, spine[low]] = 1 - (place - low)
        out[row, :, spine[low + 1]] = place - low
        leg = 0.75 * np.clip((hip + 0.04 - level) / (hip - knee), 0, 1)
        left = 0.5 + 0.5 * np.clip(across * 1.5, -1, 1)
        out[row] *= 1 - leg
        out[row, :, names.index("LeftUpLeg")] += leg * left
        out[row, :, names.index("RightUpLeg")] += leg * (1 - left)
    return out


def _leg_points(points: Floats, low: float, high: float, hip: float) -> Indices:
    """Return a few points of both legs between two levels; none above the hips."""
    if high > hip + 0.03:
        return np.zeros(0, np.int64)
    legs = bone_share("UpLeg", "Leg") > 0.8
    inside = np.flatnonzero(legs & (points[:, 1] >= low) & (points[:, 1] < high))
    return inside[:: max(1, len(inside) // (2 * LEG_POINTS))]
