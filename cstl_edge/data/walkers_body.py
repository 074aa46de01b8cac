"""Rest shape of a walker's body: points of the skin, bones, and what hangs on which bone.

Letters: `b` bones, `v` points of the skin.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from cstl_edge.data.walkers_person import Body, FloatArray
from cstl_edge.data.walkers_pose import basis

TRUNK = ("Hips", "LHipJoint", "RHipJoint", "LowerBack", "Spine", "Spine1")


def rest(body: Body) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return rest points [v, 3], bone heads and tails [b, 3] of a body."""
    stored = basis().body

    def mix(mean: str, components: str) -> FloatArray:
        return np.asarray(
            stored[mean] + np.tensordot(body.shape, stored[components], 1), np.float32
        )

    points = mix("points", "point_components")
    heads, tails = (
        mix("bone_heads", "bone_head_components"),
        mix("bone_tails", "bone_tail_components"),
    )
    hip = heads[basis().bones.index("LeftUpLeg"), 1]
    neck = heads[basis().bones.index("Head"), 1]
    arm = share("Arm", "ForeArm", "Hand")
    points[:, 0] += body.shoulder * arm * np.sign(points[:, 0])
    for ends in (heads, tails):
        ends[:, 0] += body.shoulder * np.array(
            [(1 if b[0] == "L" else -1) * _is_arm(b) for b in basis().bones], np.float32
        )
    for ends in (points, heads, tails):
        below, above = ends[:, 1] < hip, ends[:, 1] > neck
        ends[below, 1] = hip + (ends[below, 1] - hip) * (1 + body.leg)
        ends[above, 1] = neck + (ends[above, 1] - neck) * (1 + body.head)
    return points, heads, tails


def rest_height_m(body: Body) -> float:
    """Return the height of a body at rest, without hair and shoes."""
    points = rest(body)[0]
    return float(points[:, 1].max() - points[:, 1].min())


def _is_arm(bone: str) -> bool:
    return any(part in bone for part in ("Arm", "Hand", "Thumb", "Finger"))


def normals() -> FloatArray:
    """Return the unit normals [v, 3] of the average body, pointing outwards."""
    return np.asarray(basis().body["normals"], dtype=np.float32)


@lru_cache(maxsize=1)
def skin_weights() -> FloatArray:
    """Return dense skin weights [b + 2, v]; the two plumb lines carry no skin."""
    stored = basis().body
    index = stored["skin_bones"].astype(np.int64)
    weights = np.zeros((len(basis().bones) + 2, len(index)), np.float32)
    np.add.at(weights, (index, np.arange(len(index))[:, None]), stored["skin_weights"])
    return weights


@lru_cache(maxsize=32)
def share(*names: str) -> FloatArray:
    """Return how much of each point [v] hangs on bones of these names, on either side."""
    bones = enumerate(basis().bones)
    wanted = [
        i for i, b in bones if {b, b.removeprefix("Left"), b.removeprefix("Right")} & {*names}
    ]
    return np.asarray(skin_weights()[wanted].sum(0), dtype=np.float32)
