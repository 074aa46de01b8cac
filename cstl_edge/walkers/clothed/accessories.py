"""Accessories: bags, boxes, trolleys, hoods and brims as convex bodies that a bone carries.

Letters: `b` bones of the body, then `EXTRA`: a plumb line at each hand (it keeps what hangs there
upright) and the root that only travels. `k` points of one accessory.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cstl_edge.arrays import Floats, Indices
from cstl_edge.walkers.body import TRUNK, bone_share, rounded_box
from cstl_edge.walkers.clothed.outfit import Bag, Outfit
from cstl_edge.walkers.pose import basis

EXTRA = ("LeftPlumb", "RightPlumb", "Root")
HALVES_M = {  # half width, half height, half depth
    "backpack": (0.15, 0.23, 0.09),
    "shoulder": (0.05, 0.14, 0.17),
    "hand": (0.055, 0.15, 0.18),
    "shopping": (0.07, 0.18, 0.15),
    "trolley": (0.17, 0.27, 0.11),
    "box": (0.19, 0.14, 0.14),
    "pushchair": (0.22, 0.30, 0.30),
    "waist": (0.12, 0.07, 0.05),
    "tote": (0.05, 0.18, 0.19),
    "duffel": (0.13, 0.13, 0.27),
    "sling": (0.12, 0.17, 0.06),
}


@dataclass(frozen=True)
class Attachment:
    """A convex body at rest, carried by one bone; `lag` in strides."""

    points: Floats  # [k, 3]
    bone: int
    lag: float
    outlines: tuple[Indices, ...]  # of its points


def make_accessories(outfit: Outfit, points: Floats, heads: Floats) -> list[Attachment]:
    """Return what an outfit adds to a dressed body as convex bodies.

    Args:
        outfit: What is worn and carried.
        points: [v, 3] skin at rest with clothes.
        heads: [b, 3] bone heads at rest.
    """
    out = [part for bag in outfit.bags for part in _bag(bag, points, heads)]
    names = basis().bones
    neck = heads[names.index("Neck")]
    if outfit.hood == "down":
        lump = rounded_box(np.array([0.09, 0.06, 0.055], np.float32))
        lump += (neck + np.array([0, -0.015, -0.085], np.float32)).astype(np.float32)
        out.append(_whole(lump, names.index("Spine1")))
    head = bone_share("Head") > 0.9
    crown, front = points[head, 1].max(), points[head, 2].max()
    back, wide = points[head, 2].min(), np.abs(points[head, 0]).max()
    if outfit.hat == "cap":
        brim = rounded_box(np.array([0.07, 0.008, 0.05], np.float32))
        brim += np.array([0, crown - 0.10, front + 0.015], np.float32)
        out.append(_whole(brim, names.index("Head")))
    if outfit.hat == "brim":
        half = np.array([wide + 0.07, 0.012, (front - back) / 2 + 0.07], np.float32)
        place = np.array([0, crown - 0.085, (front + back) / 2], np.float32)
        top = rounded_box(np.array([wide, 0.06, (front - back) / 2 - 0.01], np.float32))
        for part, up in ((rounded_box(half), 0.0), (top, 0.06)):
            out.append(_whole(part + place + np.array([0, up, 0], np.float32), names.index("Head")))
    return out


def _bag(bag: Bag, points: Floats, heads: Floats) -> list[Attachment]:
    names = basis().bones
    half = (np.array(HALVES_M[bag.kind]) * bag.size).astype(np.float32)
    box, sign = rounded_box(half), 1.0 if bag.side == "Left" else -1.0
    trunk = bone_share(*TRUNK) > 0.9
    hip = heads[names.index("LeftUpLeg"), 1]
    shoulders, waist = heads[names.index("LeftArm"), 1], heads[names.index("LowerBack"), 1]

    def reach(level: float, axis: int, way: float) -> float:
        near = points[trunk & (np.abs(points[:, 1] - level) < 0.1), axis] * way
        return float(near.max(initial=0.1)) * way

    def at(x: float, y: float, z: float, bone: str, lag: float) -> list[Attachment]:
        return [_whole(box + np.array([x, y, z], np.float32), names.index(bone), lag)]

    if bag.kind == "backpack":
        level = shoulders - half[1] * 0.95
        return at(0, level, reach(level, 2, -1) - half[2] * 0.7, "Spine1", 0.02)
    if bag.kind in ("shoulder", "tote", "duffel"):
        level = hip + (0.16 if bag.kind == "tote" else 0.03)
        back = -0.05 if bag.kind == "tote" else -0.08
        return at(reach(level, 0, sign) + sign * half[0] * 0.7, level, back, "Hips", 0.05)
    if bag.kind == "sling":
        level, way = (waist + shoulders) / 2, sign
        return at(0.04 * sign, level, reach(level, 2, way) + way * half[2] * 0.6, "Spine1", 0.02)
    if bag.kind == "waist":
        return at(0, hip + 0.08, reach(hip + 0.08, 2, sign) + sign * half[2] * 0.6, "Hips", 0.02)
    if bag.kind == "box":
        level = waist + 0.05
        return at(0, level, reach(level, 2, 1) + half[2] + 0.02, "Spine", 0.0)
    if bag.kind == "pushchair":
        place = np.array([0, points[:, 1].min() + half[1] + 0.12, 0.72], np.float32)
        bar = np.array([[0.2, hip + 0.12, 0.42], [-0.2, hip + 0.12, 0.42],
                        [0, place[1] + half[1] * 0.5, 0.60]], np.float32)  # fmt: skip
        root = len(names) + EXTRA.index("Root")
        return [_whole(box + place, root), _whole(bar, root)]
    if bag.kind == "trolley":
        foot = points[:, 1].min()
        place = np.array([0.16 * sign, foot + half[1] + 0.03, -0.62], np.float32)
        stick = np.array([[0.16 * sign, hip - 0.02, -0.22], [0.16 * sign, hip - 0.05, -0.22],
                          [0.16 * sign, place[1] + half[1], -0.60]], np.float32)  # fmt: skip
        root = len(names) + EXTRA.index("Root")
        return [_whole(box + place, root), _whole(stick, root)]
    return [
        _hanging(box, half, len(names) + EXTRA.index(f"{side}Plumb"))
        for side in (("Left", "Right") if bag.kind == "shopping" else (bag.side,))
    ]


def _hanging(box: Floats, half: Floats, bone: int) -> Attachment:
    """Return a bag that hangs from a hand, and two lines of its handle."""
    drop = np.float32(0.12)
    points = np.concatenate([box - np.array([0, drop + half[1], 0], np.float32),
                             np.zeros((1, 3), np.float32)])  # fmt: skip
    body, handle = np.arange(len(box)), len(box)
    top = body[-12:]  # the uppermost ring of the box
    lines = [np.array([handle, top[i], top[i + 3]]) for i in (1, 7)]
    return Attachment(points, bone, 0.03, (body, *lines))


def _whole(points: Floats, bone: int, lag: float = 0.0) -> Attachment:
    return Attachment(np.asarray(points, np.float32), bone, lag, (np.arange(len(points)),))
