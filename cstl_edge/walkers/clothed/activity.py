"""Activity: what hands and head do besides walking, as changes to the segments' directions.

Letters: `k` segments, `s` frames.
"""

from __future__ import annotations

import numpy as np

from cstl_edge.arrays import Floats
from cstl_edge.walkers.clothed.session import WalkSession
from cstl_edge.walkers.clothed.walk import INDEX
from cstl_edge.walkers.pose import SIDES

HOLDS = {  # activity: direction of upper arm and forearm (left; x outwards), share of swing left
    "phone": ((0.25, -0.75, 0.55), (-0.35, 0.85, 0.25), 0.15),
    "texting": ((0.12, -0.95, 0.25), (-0.35, 0.15, 0.92), 0.15),
    "pockets": ((0.30, -0.90, -0.22), (-0.12, -0.90, 0.40), 0.25),
    "pocket": ((0.30, -0.90, -0.22), (-0.12, -0.90, 0.40), 0.25),
    "strap": ((0.18, -0.92, 0.30), (-0.45, 0.80, 0.35), 0.2),
    "folded": ((0.15, -0.92, 0.25), (-0.90, 0.05, 0.40), 0.1),
    "box": ((0.10, -0.97, 0.15), (0.00, 0.05, 1.00), 0.1),
    "pushchair": ((0.10, -0.85, 0.45), (0.00, -0.45, 0.90), 0.15),
    "trolley": ((0.15, -0.92, -0.35), (0.05, -0.85, -0.50), 0.2),
}
BOTH = ("pockets", "folded", "box", "pushchair")
LOADED_SWING = 0.35  # of an arm that carries a bag
CHIN_RAD = {"texting": 0.45, "phone": 0.1}


def act(lines: Floats, session: WalkSession) -> Floats:
    """Return directions [k, s, 3] as the session's activity and load change them."""
    out = lines.copy()
    if session.activity in HOLDS:
        _hold(out, session.activity, session.activity_side)
    for bag in session.outfit.bags:
        if bag.kind in HOLDS:
            _hold(out, bag.kind, bag.side)
        elif bag.kind in ("hand", "shopping", "shoulder", "tote"):
            sides = SIDES if bag.kind == "shopping" else (bag.side,)
            for side in sides:
                _calm(out, side, LOADED_SWING, 0.12 if bag.kind in ("shoulder", "tote") else 0.05)
    bulk = session.outfit.jacket.bulk_m if session.outfit.jacket else 0.0
    for side in SIDES:
        swing = session.arm_swing * (1.0 - 3.0 * bulk)
        _calm(out, side, swing, 1.5 * bulk + session.outfit.ease_m + session.arm_out)
    head = out[INDEX["head"]]
    head[:, 2] += CHIN_RAD.get(session.activity, 0.0)
    head /= np.sqrt((head**2).sum(-1, keepdims=True))
    return out


def _hold(lines: Floats, name: str, side: str) -> None:
    upper, lower, swing = HOLDS[name]
    for each in SIDES if name in BOTH else (side,):
        sign = 1.0 if each == "Left" else -1.0
        for segment, held in (("Arm", upper), ("ForeArm", lower)):
            row = lines[INDEX[each + segment]]
            target = np.array([sign * held[0], held[1], held[2]], np.float32)
            row[:] = target / np.linalg.norm(target) + swing * (row - row.mean(0))
            row /= np.sqrt((row**2).sum(-1, keepdims=True))


def _calm(lines: Floats, side: str, swing: float, outwards: float) -> None:
    """Scale the swing of an arm and hold it away from the body, in place."""
    sign = 1.0 if side == "Left" else -1.0
    for segment in ("Arm", "ForeArm"):
        row = lines[INDEX[side + segment]]
        mean = row.mean(0)
        row[:] = mean + swing * (row - mean)
        row[:, 0] += sign * outwards
        row /= np.sqrt((row**2).sum(-1, keepdims=True))
