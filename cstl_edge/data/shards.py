"""Shards: silhouette sequences in memory-mapped files, for data that is larger than memory.

A shard is two files of one stem: `NAME.npy`, uint8 [f, h, w], the frames of its sequences in a row,
mapped and never read whole, and `NAME.json`, the labels of each sequence. The JSON is written last
and both through a temporary name, so a shard whose JSON exists is whole. Shards of before
2026-11-24 are uint8 [m, s, h, w], padded, and are read as well. Letters: `m` sequences, `s` frames
of a sequence, `f` frames of a shard, `h w` pixels.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt

from cstl_edge.arrays import Array, Indices, Silhouettes
from cstl_edge.errors import DataError, one_line
from cstl_edge.foreign import load_json, parsing, read_bytes, read_npy
from cstl_edge.output import whole_file, write_file

Labels = dict[str, Array]

LABELS: Mapping[str, type] = {
    "people": np.int64,
    "lengths": np.int64,
    "views_deg": np.int64,
    "sequences": np.str_,
}
"""Labels of a sequence and their types; a shard has a list of m entries for each."""
MAX_LABEL_BYTES = 2**28  # of a shard's .json; a million sequences take 50 MB
HEADER_BYTES = 128  # of a .npy file: room for any shape, since it is written before the shape is
NPY_MAGIC = b"\x93NUMPY\x01\x00"


class ShardedSequences:
    """The sequences of several shards, numbered through; a Sampler draws from them."""

    def __init__(self, shards: Sequence[str | Path]) -> None:
        """Map shards, given by the paths of their .json; DataError when one is not valid."""
        if not shards:
            raise DataError("expected at least one shard of silhouettes, got none")
        opened = [_open(Path(shard)) for shard in shards]
        sizes = sorted({(block.shape[1], block.shape[2]) for block, _, _ in opened})
        if len(sizes) > 1:
            shown = " and ".join(f"{h}x{w}" for h, w in sizes)
            raise DataError(f"expected shards of one size, got {shown}; open them apart")
        self.size: tuple[int, int] = sizes[0]  # h, w
        self._blocks = [block for block, _, _ in opened]
        self._first = np.concatenate([first for _, first, _ in opened])  # [m] frame of its block
        self._starts = np.cumsum([0, *(len(first) for _, first, _ in opened)])
        labels = {key: np.concatenate([label[key] for _, _, label in opened]) for key in LABELS}
        self.people: Indices = labels["people"]  # [m]
        self.lengths: Indices = labels["lengths"]  # [m] frames
        self.views_deg: Indices = labels["views_deg"]  # [m]
        self.sequences: npt.NDArray[np.str_] = labels["sequences"]  # [m] "nm-01"

    def read(self, sequence: int) -> Silhouettes:
        """Return one whole sequence, uint8 [s, h, w]: a view of the file until it is indexed."""
        shard = int(np.searchsorted(self._starts, sequence, side="right")) - 1
        first = self._first[sequence]
        frames: Silhouettes = self._blocks[shard][first : first + self.lengths[sequence]]
        return frames


class ShardWriter:
    """Write a shard sequence by sequence, so that it need not fit in memory.

    A context manager: the shard exists when the block ends, and not at all when it fails or has no
    sequences.
    """

    def __init__(self, stem: str | Path, size: tuple[int, int]) -> None:
        """Write to the path `stem` with the suffixes .npy and .json; size: h, w in pixels."""
        self.path = Path(f"{stem}.json")
        self._size, self._block = size, Path(f"{stem}.npy")
        self._rows: list[tuple[Any, ...]] = []  # LABELS of each sequence

    def __enter__(self) -> ShardWriter:
        self._whole = whole_file(self._block)
        self._file = self._whole.__enter__()
        self._file.write(bytes(HEADER_BYTES))
        return self

    def add(self, silhouettes: Silhouettes, *, person: int, sequence: str, view_deg: int) -> None:
        """Append one sequence.

        Args:
            silhouettes: uint8 [s, h, w] with s > 0.
            person: Id of the person.
            sequence: Name in the manner of CASIA-B, `nm-01`.
            view_deg: Direction of the camera, -1 when unknown.
        """
        if silhouettes.shape[1:] != self._size or not len(silhouettes):
            raise ValueError(f"expected [s, {self._size}] with s > 0, got {silhouettes.shape}")
        self._file.write(np.ascontiguousarray(silhouettes, np.uint8).data)
        self._rows.append((int(person), len(silhouettes), int(view_deg), str(sequence)))

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is None and not self._rows:
            kind, error = ValueError, ValueError("no sequences")  # the file must not appear
        labels = {key: [row[i] for row in self._rows] for i, key in enumerate(LABELS)}
        shape = (sum(labels["lengths"]), *self._size)
        if kind is None:
            self._file.seek(0)
            self._file.write(_npy_header(shape))
        self._whole.__exit__(kind, error, trace)
        if kind is None:
            write_file(self.path, json.dumps({"shape": shape, **labels}))


def _npy_header(shape: tuple[int, ...]) -> bytes:
    """Return the header of a .npy file (format 1.0), always HEADER_BYTES long."""
    header = {"descr": "|u1", "fortran_order": False, "shape": shape}
    room = HEADER_BYTES - len(NPY_MAGIC) - 2
    text = repr(header).ljust(room - 1) + "\n"
    return NPY_MAGIC + room.to_bytes(2, "little") + text.encode("latin1")


def _open(path: Path) -> tuple[Silhouettes, Indices, Labels]:
    """Return frames [f, h, w], each sequence's first frame [m], and the labels of a shard."""
    name = one_line(path)
    block: Silhouettes = read_npy(path.with_suffix(".npy"), "the frames of a shard")
    with parsing(path, "the labels of a shard", remedy="make it again"):
        index = load_json(read_bytes(path, MAX_LABEL_BYTES, "the labels of a shard"))
        labels: Labels = {key: np.array(index[key], dtype) for key, dtype in LABELS.items()}
        shape = index.get("shape")
    if block.dtype != np.uint8 or list(block.shape) != shape or block.ndim not in (3, 4):
        got = f"got {block.dtype} {list(block.shape)}"
        raise DataError(f"shard {name}: expected uint8 {shape}, {got}")
    m = len(labels["people"])
    complete = all(label.shape == (m,) for label in labels.values())
    if not complete or (block.ndim == 4 and len(block) != m):
        raise DataError(f"shard {name}: expected labels of each sequence. Make it again")
    return *_flat(block, labels["lengths"], name), labels


def _flat(block: Silhouettes, lengths: Indices, name: str) -> tuple[Silhouettes, Indices]:
    """Return the frames of a shard in a row and where each sequence begins."""
    longest = block.shape[1] if block.ndim == 4 else len(block)
    if len(lengths) and not 1 <= lengths.min() <= lengths.max() <= longest:
        raise DataError(f"shard {name}: expected lengths in 1..{longest}. Make it again")
    if block.ndim == 4:
        m, s, h, w = block.shape
        return block.reshape(m * s, h, w), np.arange(m, dtype=np.int64) * s  # [f, h, w]
    if lengths.sum() != len(block):
        raise DataError(f"shard {name}: expected {lengths.sum()} frames, got {len(block)}")
    return block, np.cumsum(lengths) - lengths
