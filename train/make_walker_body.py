"""Thin the full parametric body to evenly spread points of the skin: Walkers' `walker_body.npz`.

The full basis has 13,718 vertices, crowded on face and hands. A silhouette needs points spread
evenly, so random points are drawn on the triangles in proportion to their area and thinned by
farthest-point sampling; every quantity of the basis is linear, so a point's components are those of
its triangle's corners, mixed. Skin weights of fingers go to the hand. Outward normals are added for
clothes.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float32]
Arrays = dict[str, NDArray[Any]]
CANDIDATES_PER_POINT = 15


def corner_weights(
    vertices: FloatArray, faces: NDArray[np.int32], points: int, seed: int
) -> tuple[NDArray[np.int64], FloatArray]:
    """Choose `points` spread points on the mesh: triangles [k] and corner weights [k, 3]."""
    rng = np.random.default_rng(seed)
    a, b, c = (vertices[faces[:, i]] for i in range(3))
    area = np.linalg.norm(np.cross(b - a, c - a), axis=1)
    count = points * CANDIDATES_PER_POINT
    triangle = rng.choice(len(faces), count, p=area / area.sum())
    root, along = np.sqrt(rng.random(count)), rng.random(count)
    weights = np.stack([1 - root, root * (1 - along), root * along], 1).astype(np.float32)
    spot = np.einsum("kc,kci->ki", weights, vertices[faces[triangle]])
    chosen, nearest = [0], np.full(count, np.inf)
    for _ in range(points - 1):
        nearest = np.minimum(nearest, ((spot - spot[chosen[-1]]) ** 2).sum(1))
        chosen.append(int(nearest.argmax()))
    return np.asarray(triangle[chosen]), np.asarray(weights[chosen])


def vertex_normals(vertices: FloatArray, faces: NDArray[np.int32]) -> FloatArray:
    """Unit normals [v, 3] of a closed mesh, pointing out of the body."""
    a, b, c = (vertices[faces[:, i]] for i in range(3))
    face = np.cross(b - a, c - a)
    normals = np.zeros_like(vertices)
    for corner in range(3):
        np.add.at(normals, faces[:, corner], face)
    volume = np.einsum("fi,fi->", a, face)
    normals *= np.sign(volume)
    length = np.linalg.norm(normals, axis=1, keepdims=True)
    return np.asarray(normals / np.maximum(length, 1e-12))


def dense_skin(body: Arrays) -> FloatArray:
    """Skin weights [v, bones], those of finger and thumb bones moved to their hand."""
    bones = [str(b) for b in body["bones"]]
    index = body["skin_bones"].astype(np.int64)
    skin = np.zeros((len(index), len(bones)), np.float32)
    np.add.at(
        skin, (np.arange(len(index))[:, None], index), body["skin_weights"].astype(np.float32)
    )
    for b, bone in enumerate(bones):
        if "Thumb" in bone or "Finger" in bone:
            hand = bones.index("LeftHand" if bone.startswith("L") else "RightHand")
            skin[:, hand] += skin[:, b]
            skin[:, b] = 0
    return np.asarray(skin / skin.sum(1, keepdims=True))


def thin(body: Arrays, points: int, seed: int) -> Arrays:
    """Return the arrays of the thinned asset."""
    vertices = body["vertices"].astype(np.float32)
    faces = body["faces"].astype(np.int32)
    triangle, weights = corner_weights(vertices, faces, points, seed)
    corners = faces[triangle]  # [k, 3]

    def mix(values: FloatArray) -> FloatArray:
        mixed = np.einsum("kc,kc...->k...", weights, values[corners])
        return np.asarray(mixed, dtype=np.float32)

    skin = mix(dense_skin(body))
    strongest = np.argsort(-skin, axis=1)[:, :4]
    kept = np.take_along_axis(skin, strongest, 1)
    components = np.stack([mix(c.astype(np.float32)) for c in body["vertex_components"]])
    return {
        **{k: body[k] for k in ("bones", "bone_parents", "bone_heads", "bone_head_components")},
        **{k: body[k] for k in ("bone_tails", "bone_tail_components")},
        "points": mix(vertices).astype(np.float16),
        "point_components": components.astype(np.float16),
        "normals": mix(vertex_normals(vertices, faces)).astype(np.float16),
        "skin_bones": strongest.astype(np.uint8),
        "skin_weights": (kept / kept.sum(1, keepdims=True)).astype(np.float16),
    }


def main(argv: list[str] | None = None) -> int:
    """Read the full body, write the thinned one."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("body", type=Path, help="full basis (.npz) with vertices and faces")
    parser.add_argument("--out", type=Path, default=Path("cstl_edge/assets/walker_body.npz"))
    parser.add_argument("--points", type=int, default=4000)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args(argv)
    with np.load(args.body, allow_pickle=False) as stored:
        body = {key: stored[key] for key in stored.files}
    arrays: dict[str, Any] = thin(body, args.points, args.seed)
    np.savez_compressed(args.out, **arrays)
    print(
        f"{args.out}: {args.points} points, {args.out.stat().st_size / 1024:.0f} KiB",
        file=sys.stderr,
    )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
