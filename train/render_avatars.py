"""Render clothed avatars that somebody else made as training silhouettes, in shards.

    python train/render_avatars.py AVATARS.npz runs/avatars --people 400

AVATARS.npz: `names` [a] "CHARACTER_OUTFIT", `points` [a, v, 3] of the skin and clothes in T pose
(metres, y up, facing z), `joint` and `weight` [a, v, 4] (weights of 255), `joint_names` [j] and
`joints` [a, j, 3]. A person is a character with a build, limbs and a way of walking of their own,
in several of the character's outfits; several people share a character and its clothes, so that
these name nobody. Strides, bags, cameras and a segmenter's faults are those of the second generator
of Walkers. The avatars are read, never copied into the package. Letters: `b` bones of Walkers,
`v` points, `j` joints of the avatar.
"""

from __future__ import annotations

import argparse
import logging
import zipfile
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from pathlib import Path

import numpy as np

from cstl_edge.arrays import Array, Floats
from cstl_edge.data.process_pool import lower_priority, run_jobs
from cstl_edge.data.shards import ShardWriter
from cstl_edge.errors import DataError
from cstl_edge.silhouette import SMALL
from cstl_edge.walkers.body import rest_shape
from cstl_edge.walkers.clothed import footage
from cstl_edge.walkers.clothed.accessories import EXTRA, make_accessories
from cstl_edge.walkers.clothed.collection import person_walks
from cstl_edge.walkers.clothed.figure import CADENCE_BY_PACE, LEGS, SWING_BY_PACE, Figure
from cstl_edge.walkers.clothed.session import WalkSession
from cstl_edge.walkers.clothed.skeleton import sole_pitch
from cstl_edge.walkers.clothed.walk import INDEX, Walk, directions, make_walk
from cstl_edge.walkers.person import Person, random_stream
from cstl_edge.walkers.pose import ONE_STRIDE, SIDES, basis
from cstl_edge.walkers.render import MARKS

logger = logging.getLogger(__name__)

AVATAR, AVATAR_OUTFIT = 31, 32  # purposes of random numbers, see `walkers.person.random_stream`
GIRTH_STD = {"trunk": 0.07, "legs": 0.06, "arms": 0.08, "head": 0.03}  # logarithm, across the bone
LENGTH_STD = {"trunk": 0.03, "legs": 0.03, "arms": 0.03, "head": 0.04}  # logarithm, along it
DEPTH_STD = 0.06  # logarithm of the trunk's depth over its width
NEIGHBOURS = 3  # points are set half-way to so many neighbours, so that outlines close
PEOPLE_PER_SHARD = 10
VIEWS = 4  # of each walk
KEPT = 10  # every tenth character is for a test
FIRST_PERSON = 200_000  # ids: above those of Walkers
RECORDINGS = {"nm": 2, "bg": 1, "cl": 2}
BONES = {  # bone of Walkers: joint of the avatar; other bones sit where their parent does
    "Hips": "Hips", "LowerBack": "Spine", "Spine": "Spine1", "Spine1": "Spine2", "Neck": "Neck",
    "Head": "Head",
    **{side + name: side + name for side in SIDES
       for name in ("Shoulder", "Arm", "ForeArm", "Hand", "UpLeg", "Leg", "Foot", "ToeBase")},
}  # fmt: skip


MARKED = (*(side + mark for side in SIDES for mark in MARKS), "Hips")


@dataclass(frozen=True)
class Avatars:
    """Avatars of a file, grouped by character."""

    characters: tuple[tuple[int, ...], ...]  # rows of each character's outfits
    points: Floats  # [a, v, 3]
    joint: Array  # [a, v, 4]
    weight: Floats  # [a, v, 4] summing to 1
    joint_names: tuple[str, ...]
    joints: Floats  # [a, j, 3]


@lru_cache(maxsize=1)
def read_avatars(path: Path) -> Avatars:
    """Read a file of avatars; DataError where it lacks an array or a joint."""
    try:
        with np.load(path, allow_pickle=False) as stored:
            arrays = {key: stored[key] for key in stored.files}
        names = [str(name).rsplit("_", 1)[0] for name in arrays["names"]]
        rows = {c: tuple(i for i, n in enumerate(names) if n == c) for c in sorted(set(names))}
        avatars = Avatars(
            characters=tuple(outfits for outfits in rows.values() if len(outfits) > 1),
            points=arrays["points"].astype(np.float32), joint=arrays["joint"],
            weight=arrays["weight"].astype(np.float32) / 255,
            joint_names=tuple(arrays["joint_names"].tolist()),
            joints=arrays["joints"].astype(np.float32),
        )  # fmt: skip
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise DataError(f"{path}: not a file of avatars: {error}") from error
    if missing := set(BONES.values()) - set(avatars.joint_names):
        raise DataError(f"{path}: expected the joints {sorted(missing)}, which are not there")
    if len(avatars.characters) < KEPT:
        found = len(avatars.characters)
        raise DataError(f"{path}: expected {KEPT} characters in two outfits or more, got {found}")
    return avatars


class Wardrobe:
    """Dresses people as avatars, in the place of `walkers.clothed.figure.dress`."""

    def __init__(self, avatars: Avatars, *, test: bool = False) -> None:
        """Dress from these avatars: from those of every tenth character alone for a test."""
        kept = avatars.characters[KEPT - 1 :: KEPT]
        drawn = kept if test else tuple(c for c in avatars.characters if c not in kept)
        self._characters = drawn
        self._built = lru_cache(maxsize=8)(partial(_built, avatars))

    def dress(self, person: Person, session: WalkSession) -> Figure:
        """Return a person's avatar in the outfit of the session's day, ready to be posed.

        Args:
            person: Whose seed draws character, build and way of walking.
            session: Walk, bags and camera; its clothes are replaced by the avatar's.
        """
        outfits = self._characters[person.seed % len(self._characters)]
        day = random_stream(AVATAR_OUTFIT, person.seed, session.day)
        points, weights, heads, tails = self._built(int(day.choice(outfits)), person.seed)
        outfit = replace(session.outfit, jacket=None, skirt=None, hat="", hood="", ease_m=0.0)
        skins, hulls, first = [(0.0, _matrix(points, weights))], [], len(points)
        for part in make_accessories(outfit, rest_shape(person.body)[0], heads):
            carried = np.zeros((len(weights), len(part.points)), np.float32)
            carried[part.bone] = 1.0
            skins.append((part.lag, _matrix(part.points, carried)))
            hulls += [outline + first for outline in part.outlines]
            first += len(part.points)
        walk = make_walk(person.seed, session.day)
        coeffs = walk.coeffs.copy()
        for name in LEGS:
            coeffs[INDEX[name], 1:] *= np.float32(session.pace**SWING_BY_PACE)
        stride_s = float(walk.stride_s / session.pace**CADENCE_BY_PACE)
        phases = ONE_STRIDE.astype(np.float32)
        sole = sole_pitch(directions(coeffs, phases)[0], phases, heads, tails)
        return Figure(
            replace(session, outfit=outfit), Walk(coeffs, walk.stride_s), stride_s,
            heads, tails, sole, tuple(skins), len(points), tuple(hulls), 0,
        )  # fmt: skip


def _built(avatars: Avatars, row: int, person_seed: int) -> tuple[Floats, Floats, Floats, Floats]:
    """Return points [v, 3], weights [b, v], heads and tails [b, 3] of a person's build.

    The first points are `MARKED` and the pelvis, inside the body: segmentation faults look there.
    """
    rng = random_stream(AVATAR, person_seed)
    girth = {k: np.exp(np.clip(rng.normal(), -2, 2) * std) for k, std in GIRTH_STD.items()}
    length = {k: np.exp(np.clip(rng.normal(), -2, 2) * std) for k, std in LENGTH_STD.items()}
    deep = float(np.exp(np.clip(rng.normal(), -2, 2) * DEPTH_STD))
    joints, names = avatars.joints[row], avatars.joint_names
    scale = np.ones((len(names), 3), np.float32)
    for j, name in enumerate(names):
        region = _region(name)
        across, along = girth[region], length[region]
        if region == "arms":
            scale[j] = along, across, across
        else:
            scale[j] = across, along, across * (deep if region == "trunk" else 1.0)
    moved = joints.copy()
    above = _parents(names)
    for j, parent in enumerate(above):
        if parent >= 0:
            moved[j] = moved[parent] + scale[parent] * (joints[j] - joints[parent])
    # each joint carries its points, scaled about it
    offset = (avatars.points[row][:, None] - joints[avatars.joint[row]]) * scale[avatars.joint[row]]
    placed = moved[avatars.joint[row]] + offset  # [v, 4, 3]
    rest: Floats = (avatars.weight[row][..., None] * placed).sum(1)
    weights = np.zeros((len(names), len(rest)), np.float32)
    for k in range(avatars.joint.shape[-1]):
        np.add.at(
            weights, (avatars.joint[row][:, k], np.arange(len(rest))), avatars.weight[row][:, k]
        )
    heads, tails = _bones(moved, names)
    shift = basis().body["bone_heads"][0] - heads[0]
    dense, shared = _denser(rest + shift, weights)
    bones = basis().bones
    marked = [bones.index(name) for name in MARKED]
    carried = np.zeros((len(heads) + len(EXTRA), len(marked) + len(dense)), np.float32)
    carried[marked, np.arange(len(marked))] = 1.0
    for j, name in enumerate(names):
        bone = next(bones.index(bone) for bone, joint in BONES.items() if joint == name)
        carried[bone, len(marked) :] = shared[j]
    heads, tails = heads + shift, tails + shift
    return np.concatenate([heads[marked], dense]), carried, heads, tails


def _region(joint: str) -> str:
    if joint in ("Neck", "Head"):
        return "head"
    if any(part in joint for part in ("Leg", "Foot", "Toe")):
        return "legs"
    return "arms" if any(part in joint for part in ("Arm", "Hand")) else "trunk"


def _parents(names: tuple[str, ...]) -> list[int]:
    """Return each joint's parent, -1 for the root; the file lists parents first."""
    out = []
    for name in names:
        for above in _chain(name):
            if above in names:
                out.append(names.index(above))
                break
        else:
            out.append(-1)
    return out


def _chain(joint: str) -> tuple[str, ...]:
    trunk = ("Hips", "Spine", "Spine1", "Spine2", "Neck", "Head")
    if joint in trunk:
        return tuple(reversed(trunk[: trunk.index(joint)]))
    side = "Left" if joint.startswith("Left") else "Right"
    for limb, root in (
        (("Shoulder", "Arm", "ForeArm", "Hand"), "Spine2"),
        (("UpLeg", "Leg", "Foot", "ToeBase"), "Hips"),
    ):
        named = [side + part for part in limb]
        if joint in named:
            return (*reversed(named[: named.index(joint)]), root)
    return ()


def _bones(joints: Floats, names: tuple[str, ...]) -> tuple[Floats, Floats]:
    """Return heads and tails [b, 3] of the bones of Walkers that an avatar's joints [j, 3] make."""
    assets = basis()
    heads = np.zeros((len(assets.bones), 3), np.float32)
    for bone in assets.order:
        joint = BONES.get(assets.bones[bone])
        heads[bone] = joints[names.index(joint)] if joint else heads[assets.parents[bone]]
    tails = heads + np.array([0, 0.1, 0], np.float32)
    for bone, parent in enumerate(assets.parents):
        if parent >= 0 and assets.bones[bone] in BONES:
            tails[parent] = heads[bone]
    for side in SIDES:
        toe, hand = (assets.bones.index(side + name) for name in ("ToeBase", "Hand"))
        tails[toe] = heads[toe] + np.array([0, 0, 0.06], np.float32)
        tails[hand] = heads[hand] + 0.4 * (heads[hand] - heads[assets.parents[hand]])
    return heads, tails


def _denser(points: Floats, weights: Floats) -> tuple[Floats, Floats]:
    """Return points [v', 3] and weights with the middles between neighbours added."""
    squares = (points**2).sum(1)
    far = squares[:, None] + squares[None] - 2 * points @ points.T
    near = np.argpartition(far, NEIGHBOURS, 1)[:, : NEIGHBOURS + 1]
    pairs = np.stack([np.repeat(np.arange(len(points)), NEIGHBOURS + 1), near.ravel()])
    start, end = pairs[:, pairs[0] < pairs[1]]
    middle = (points[start] + points[end]) / 2
    shared = (weights[:, start] + weights[:, end]) / 2
    return np.concatenate([points, middle]), np.concatenate([weights, shared], 1)


def _matrix(points: Floats, weights: Floats) -> Floats:
    """Return the matrix [4 b, v] of points [v, 3] carried by bones [b, v]."""
    homogeneous = np.concatenate([points.T, np.ones((1, len(points)), np.float32)])
    out: Floats = (weights[:, None] * homogeneous[None]).reshape(-1, len(points))
    return out


def render_shard(shard: tuple[Path, range], avatars: Path, seed: int, test: bool) -> None:
    """Write one shard: a few people, their walks and views.

    Args:
        shard: Path of its .json, and the ids of its people.
        avatars: File of avatars.
        seed: Seed of the walks.
        test: Whether to draw from the characters that no training sees.
    """
    path, people = shard
    # what renders Walkers of the second generator looks both up there
    vars(footage)["dress"] = Wardrobe(read_avatars(avatars), test=test).dress
    vars(footage)["landmarks"] = lambda: (list(range(len(MARKED) - 1)), [len(MARKED) - 1])
    with ShardWriter(path.with_suffix(""), SMALL) as writer:
        for person in people:
            walks = person_walks(person, recordings=RECORDINGS, views=VIEWS, frames=24, seed=seed)
            for name, view, silhouettes in walks:
                writer.add(silhouettes, person=person, sequence=name, view_deg=view)


def main(argv: list[str] | None = None) -> None:
    """Read the command line and render the shards that the folder lacks."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("avatars", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--people", type=int, default=400)
    parser.add_argument("--first", type=int, default=FIRST_PERSON, help="id of the first person")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--test", action="store_true", help="characters kept from training")
    args = parser.parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    read_avatars(args.avatars)
    args.folder.mkdir(parents=True, exist_ok=True)
    ids = range(args.first, args.first + args.people)
    groups = [ids[i : i + PEOPLE_PER_SHARD] for i in range(0, len(ids), PEOPLE_PER_SHARD)]
    shards = [(args.folder / f"avatars-{g[0]:06d}-{len(g):03d}.json", g) for g in groups]
    missing = [shard for shard in shards if not shard[0].exists()]
    render = partial(render_shard, avatars=args.avatars, seed=args.seed, test=args.test)
    for done, _ in enumerate(run_jobs(render, missing, args.workers, lower_priority), start=1):
        logger.info("%d of %d shards of avatars", done, len(missing))


if __name__ == "__main__":
    main()
