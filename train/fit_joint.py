"""Train the joint projection of a network, one more row for matching, on Walkers' embeddings.

    python train/fit_joint.py runs/mine.safetensors runs/mixed -o runs/mine.joint.safetensors
    cstl-edge export runs/mine.safetensors --joint runs/mine.joint.safetensors -o runs/mine

The network is a checkpoint or an exported folder; the data are those that it learnt from
(`mix_walkers.py`). One window of each of some walks of everybody is embedded, which takes minutes
and is kept in `--run`; the training itself takes minutes more. Nothing of the network changes.
"""

from __future__ import annotations

import argparse
import logging
import sys
from pathlib import Path

import numpy as np

from cstl_edge.arrays import Floats, Indices, Silhouettes
from cstl_edge.data.shards import ShardedSequences
from cstl_edge.errors import CstlEdgeError, DataError
from cstl_edge.export.joint import JointProjection, write_joint
from cstl_edge.runtime import load
from cstl_edge.runtime.base import Encoder
from cstl_edge.training.joint import JointSettings, fit_joint

WINDOW = 30  # frames
AVATARS = "avatars"  # shards of these begin so; they are a group of their own


def embed_people(
    encoder: Encoder, folder: Path, walks: int, seed: int
) -> tuple[Floats, Indices, Indices]:
    """Embed a window of some walks of everybody: embeddings [n, p, d], people and groups [n].

    Args:
        encoder: The network.
        folder: Shards.
        walks: Number of walks of each person, fewer where there are fewer.
        seed: Of the choice of walks and windows.
    """
    rng = np.random.default_rng(seed)
    embeddings, people, groups = [], list[int](), list[int]()
    for group, files in enumerate(_groups(folder)):
        data = ShardedSequences(files)
        if data.size != encoder.info.size:
            raise DataError(f"expected silhouettes of {encoder.info.size}; got {data.size}")
        for person in np.unique(data.people):
            rows = np.flatnonzero(data.people == person)
            for row in rng.permutation(rows)[:walks]:
                silhouettes = _mirrored(data.read(int(row)), float(data.views_deg[row]))
                first = rng.integers(0, max(0, len(silhouettes) - WINDOW) + 1)
                window = silhouettes[first : first + WINDOW]
                length = np.array([len(window)], np.int32)
                embeddings.append(encoder.head(encoder.frames(window)[None], length).embedding[0])
                people.append(int(person))
                groups.append(group)
        logging.info("%d walks of %d people", len(people), len(set(people)))
    return np.stack(embeddings), np.array(people), np.array(groups)


def _groups(folder: Path) -> list[list[Path]]:
    """Return the shards of a folder, avatars apart from Walkers (DataError)."""
    files = sorted(folder.glob("*.json"))
    if not files:
        raise DataError(f"no shards in {folder}: make some with train/mix_walkers.py")
    avatars = [file for file in files if file.name.startswith(AVATARS)]
    return [group for group in (avatars, [f for f in files if f not in avatars]) if group]


def _mirrored(silhouettes: Silhouettes, view_deg: float) -> Silhouettes:
    """Return a walk as the live path gives it: whoever walks to the left is mirrored."""
    turned = silhouettes[:, :, ::-1] if 180 < view_deg % 360 < 360 else silhouettes
    return np.ascontiguousarray(turned)


def make(args: argparse.Namespace) -> None:
    """Embed, train, write."""
    encoder = load(args.model)
    kept = args.run / f"embeddings-{encoder.info.weights_sha256[:12]}-{args.walks}.npz"
    if not kept.exists():
        embeddings, people, groups = embed_people(encoder, args.data, args.walks, args.seed)
        args.run.mkdir(parents=True, exist_ok=True)
        np.savez(kept, embeddings=embeddings.astype(np.float16), people=people, groups=groups)
    with np.load(kept) as stored:
        embeddings, people, groups = (stored[x] for x in ("embeddings", "people", "groups"))
    settings = JointSettings(steps=args.steps, seed=args.seed)
    matrix = fit_joint(embeddings, people, groups, settings, logging.info)
    data = {"people": len(np.unique(people)), "walks": len(people), "steps": args.steps}
    write_joint(args.out, JointProjection(matrix, encoder.info.weights_sha256, data))
    logging.info("wrote %s", args.out)


def main() -> int:
    """Read the command line; return the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", help="checkpoint or exported folder")
    parser.add_argument("data", type=Path, help="folder of shards")
    parser.add_argument("-o", "--out", type=Path, required=True, help="file to write")
    parser.add_argument(
        "--run", type=Path, default=Path("runs/joint"), help="folder for embeddings"
    )
    parser.add_argument("--walks", type=int, default=20, help="of each person")
    parser.add_argument("--steps", type=int, default=JointSettings.steps)
    parser.add_argument("--seed", type=int, default=0)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        make(parser.parse_args())
    except CstlEdgeError as err:
        print(f"error: {err}", file=sys.stderr)
        return err.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
