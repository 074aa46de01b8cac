"""Wardrobe: garments, shoes, hair and hats fitted to the body basis (`garments.npz`).

A suit or shoe is how far it lies outside each point of the skin, along the normal, and how that
changes with the body's first components; hair and hats are points of their own that the head
carries. Fitted by `train/fit_garments.py` to CC0 meshes. Letters: `v` points of the skin, `k`
points of hair or a hat.
"""

from __future__ import annotations

from functools import lru_cache
from importlib import resources

import numpy as np

from cstl_edge.arrays import Array, Floats
from cstl_edge.walkers.body import TRUNK, bone_share
from cstl_edge.walkers.clothed.outfit import Outfit
from cstl_edge.walkers.pose import basis

STEP_M = 0.0005  # of the stored thicknesses
WAVES = 10  # of the field of folds


@lru_cache(maxsize=1)
def _garments() -> dict[str, Array]:
    asset = resources.files("cstl_edge") / "assets" / "garments.npz"
    with asset.open("rb") as file, np.load(file, allow_pickle=False) as stored:
        return {name: stored[name] for name in stored.files}


def thickness(outfit: Outfit, shape: Floats) -> Floats:
    """Return how far an outfit pushes each skin point [v] along its normal, in metres.

    Args:
        outfit: What is worn.
        shape: [12] standard normals of the body basis.
    """
    upper, arms = bone_share(*TRUNK[3:]), bone_share("Arm", "ForeArm", "Shoulder")
    legs, hips = bone_share("UpLeg", "Leg"), bone_share(*TRUNK[:3])
    neck = bone_share("Neck", "Neck1")
    top, bottom = _field(outfit.top, shape), _field(outfit.bottom, shape)
    out = (upper + arms + neck) * top + (legs + hips) * bottom
    out += bone_share("Foot", "ToeBase") * _field(outfit.shoes, shape)
    out += (upper + hips + 0.7 * arms) * outfit.ease_m + legs * outfit.leg_ease_m
    if outfit.jacket is not None:
        out += (upper + 0.75 * arms + 0.6 * bone_share("Shoulder")) * outfit.jacket.bulk_m
    out += _folds(outfit) * (upper + arms + legs + hips)
    out += neck * outfit.scarf_m
    scalp = bone_share("Head")
    if outfit.hood == "up":
        out += (scalp * _scalp() + 0.8 * neck) * 0.035
    elif outfit.hat in ("beanie", "cap"):
        out += scalp * _scalp() * (0.016 if outfit.hat == "beanie" else 0.010)
    out *= 1 - 0.9 * bone_share("Hand")
    return np.asarray(out, np.float32)


def head_points(name: str, shape: Floats) -> Floats:
    """Return the points [k, 3] of a hair or hat relative to the head bone, none when unknown."""
    stored = _garments()
    if f"{name}.points" not in stored:
        return np.zeros((0, 3), np.float32)
    points = stored[f"{name}.points"].astype(np.float32)
    change = stored[f"{name}.change"].astype(np.float32)
    return np.asarray(points + np.tensordot(shape[: len(change)], change, 1), np.float32)


def _field(name: str, shape: Floats) -> Floats:
    stored = _garments()
    if f"{name}.thickness" not in stored:
        return np.zeros(len(_scalp()), np.float32)
    layers = stored[f"{name}.thickness"].astype(np.float32) * np.float32(STEP_M)
    return np.asarray(layers[0] + np.tensordot(shape[: len(layers) - 1], layers[1:], 1), np.float32)


@lru_cache(maxsize=1)
def _scalp() -> Floats:
    """Return 1 for skin points [v] of the head that hair grows on or a cap covers, else 0."""
    points = basis().body["points"]
    return np.asarray((points[:, 1] > 0.9) | (points[:, 2] < 0.03), np.float32)


def _folds(outfit: Outfit) -> Floats:
    """Return a smooth random field [v] of the outfit's folds, metres."""
    rng = np.random.default_rng(outfit.fold_seed)
    points = basis().body["points"]
    waves = rng.normal(size=(WAVES, 3)) * (18.0, 14.0, 18.0)
    phase = points @ waves.T.astype(np.float32) + rng.uniform(0, 2 * np.pi, WAVES)
    field = np.sin(phase).sum(1) * np.sqrt(2 / WAVES)
    return np.asarray(outfit.folds_m * field, np.float32)
