"""Silhouette sequences on disk as memory-mapped shards, so that training data outgrows memory.

A shard is two files of one stem: `NAME.npy`, uint8 [m, s, h, w], mapped and never read whole, and
`NAME.json`, what is known of each sequence. The JSON is written last and both through a temporary
name, so a shard whose JSON exists is whole. Letters: `m` sequences, `s` frames, `h w` pixels.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from cstl_edge.errors import DataError, one_line

Silhouettes = npt.NDArray[np.uint8]
Indices = npt.NDArray[np.int64]

LABELS = ("people", "lengths", "views_deg", "sequences")  # one list of m entries each


class ShardedSequences:
    """The sequences of several shards behind one numbering; what a Sampler draws from."""

    def __init__(self, shards: Sequence[str | Path]) -> None:
        """Map shards, given by the paths of their .json; DataError when one is not usable."""
        if not shards:
            raise DataError("expected at least one shard of silhouettes, got none")
        opened = [_open(Path(shard)) for shard in shards]
        self._blocks = [block for block, _ in opened]
        self._starts = np.cumsum([0, *(len(block) for block in self._blocks)])
        labels = {key: np.concatenate([label[key] for _, label in opened]) for key in LABELS}
        self.people: Indices = labels["people"].astype(np.int64)  # [m]
        self.lengths: Indices = labels["lengths"].astype(np.int64)  # [m] frames
        self.views_deg: Indices = labels["views_deg"].astype(np.int64)  # [m]
        self.sequences: npt.NDArray[np.str_] = labels["sequences"].astype(np.str_)  # [m] "nm-01"

    def read(self, sequence: int) -> Silhouettes:
        """Return one whole sequence, uint8 [s, h, w]: a view of the file until it is indexed."""
        shard = int(np.searchsorted(self._starts, sequence, side="right")) - 1
        frames: Silhouettes = self._blocks[shard][sequence - self._starts[shard]]
        return frames[: self.lengths[sequence]]


def write_shard(
    stem: str | Path,
    silhouettes: Silhouettes,
    *,
    people: Sequence[int] | Indices,
    sequences: Sequence[str] | npt.NDArray[np.str_],
    views_deg: Sequence[int] | Indices,
    lengths: Sequence[int] | Indices | None = None,
) -> Path:
    """Write one shard and return the path of its .json.

    stem: path without a suffix
    silhouettes: uint8 [m, s, h, w], shorter sequences padded at the end
    sequences: names in the manner of CASIA-B, `nm-01`
    lengths: frames of each sequence; None means all are full
    """
    target, m = Path(stem), len(silhouettes)
    target.parent.mkdir(parents=True, exist_ok=True)
    labels: dict[str, list[Any]] = {
        "people": [int(person) for person in people],
        "lengths": [int(n) for n in ([silhouettes.shape[1]] * m if lengths is None else lengths)],
        "views_deg": [int(view) for view in views_deg],
        "sequences": [str(name) for name in sequences],
    }
    for key, values in labels.items():
        if len(values) != m:
            raise ValueError(f"expected {m} entries of {key}, got {len(values)}")
    block = target.with_suffix(".npy.part")
    with block.open("wb") as file:
        np.save(file, silhouettes)
    os.replace(block, target.with_suffix(".npy"))
    index = target.with_suffix(".json.part")
    index.write_text(json.dumps({"shape": list(silhouettes.shape), **labels}), encoding="utf-8")
    os.replace(index, target.with_suffix(".json"))
    return target.with_suffix(".json")


def _open(path: Path) -> tuple[Silhouettes, dict[str, npt.NDArray[Any]]]:
    name = one_line(path)
    try:
        index = json.loads(path.read_text(encoding="utf-8"))
        block = np.load(path.with_suffix(".npy"), mmap_mode="r", allow_pickle=False)
        labels = {key: np.array(index[key]) for key in LABELS}
    except (OSError, ValueError, KeyError, TypeError) as err:
        raise DataError(f"cannot open shard {name}: {one_line(err)}. Make it again") from err
    if block.dtype != np.uint8 or list(block.shape) != index.get("shape") or block.ndim != 4:
        raise DataError(
            f"shard {name}: expected uint8 {index.get('shape')}, got {block.dtype} {block.shape}"
        )
    if any(label.shape != (len(block),) for label in labels.values()):
        raise DataError(f"shard {name}: expected {len(block)} labels of each kind. Make it again")
    if len(block) and not 1 <= labels["lengths"].min() <= labels["lengths"].max() <= block.shape[1]:
        raise DataError(f"shard {name}: expected lengths in 1..{block.shape[1]}. Make it again")
    return block, labels
