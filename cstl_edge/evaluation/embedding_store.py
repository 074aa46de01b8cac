"""Folder of embeddings: one memory-mapped float16 file, and JSON with labels and key.

`embeddings.npy` [m, p, d] is written row by row; `progress.json` counts the batches that are safely
on disk, so that a killed run resumes; `labels.json` is written last and makes the folder complete.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import numpy as np

from cstl_edge.arrays import Floats, Vectors
from cstl_edge.errors import DataError, one_line
from cstl_edge.foreign import load_json, parsing, read_bytes, read_npy
from cstl_edge.output import storing, write_file

MAX_JSON_BYTES = 2**28  # a million sequences take 50 MB
NPY: Any = np.lib.format  # numpy does not type it
ARRAY, LABELS, PROGRESS = "embeddings.npy", "labels.json", "progress.json"


class EmbeddingStore:
    """Writer of a folder of embeddings; `finish` completes it."""

    def __init__(self, folder: Path, key: str, shape: tuple[int, int, int]) -> None:
        """Open or begin a folder.

        Args:
            folder: Folder of the embeddings; created when it is missing.
            key: Digest (sha256) of everything that determines the embeddings.
            shape: Numbers of sequences, parts and dimensions: m, p, d.

        Raises:
            DataError: The folder holds other embeddings.
            StorageError: The disk refuses.
        """
        self.folder, self.key, self.shape = folder, key, shape
        self.batches_done, self.failed = 0, list[int]()
        with self._one_error(f" ({2 * math.prod(shape) / 1e9:.1f} GB)"):
            folder.mkdir(parents=True, exist_ok=True)
            self._offset = _mapped(folder, [*shape]).offset if self._resume() else self._create()
            self._file = os.open(folder / ARRAY, os.O_WRONLY)

    def __enter__(self) -> EmbeddingStore:
        return self

    def __exit__(self, *err: object) -> None:
        os.close(self._file)

    def write(self, row: int, embedding: Floats) -> None:
        """Write one embedding [p, d] into its row; one that float16 cannot hold is a failure."""
        with np.errstate(over="ignore", invalid="ignore"):
            half = embedding.astype(np.float16)
        if not np.isfinite(half).all():
            self.failed.append(row)
            half = np.full_like(half, np.nan)
        self._put(row, half)

    def fail(self, row: int) -> None:
        """Mark a row that was never embedded."""
        self._put(row, np.full(self.shape[1:], np.nan, np.float16))

    def save(self, batches_done: int) -> None:
        """Sync the rows to disk and record how many batches are there."""
        record = {"key": self.key, "batches": batches_done, "failed": self.failed}
        with self._one_error():
            os.fsync(self._file)
            _write_json(self.folder / PROGRESS, record)

    def finish(self, labels: Mapping[str, Any]) -> None:
        """Complete the folder."""
        record = {"key": self.key, "shape": [*self.shape], **labels, "not_finite": self.failed}
        with self._one_error():
            os.fsync(self._file)
            _write_json(self.folder / LABELS, record)
            (self.folder / PROGRESS).unlink(missing_ok=True)

    def _put(self, row: int, half: Vectors) -> None:
        data = half.tobytes()
        with self._one_error():  # not through a map: a full disk would end the process with SIGBUS
            os.pwrite(self._file, data, self._offset + row * len(data))

    def _resume(self) -> bool:
        """Load the progress of an earlier run; return whether there is any."""
        record = read_json(self.folder / PROGRESS)
        if record is None or not (self.folder / ARRAY).exists():
            return False
        _check_key(self.folder, record, self.key)
        self.batches_done = int(record.get("batches", 0))
        self.failed = list(record.get("failed", []))
        return True

    def _create(self) -> int:
        """Create the file at full length, reserve the disk space; return the rows' offset."""
        with (self.folder / ARRAY).open("wb") as file:
            header = {"descr": "<f2", "fortran_order": False, "shape": self.shape}
            NPY.write_array_header_1_0(file, header)
            offset = file.tell()
            size = offset + 2 * math.prod(self.shape)
            file.truncate(size)
            if hasattr(os, "posix_fallocate"):
                file.flush()
                os.posix_fallocate(file.fileno(), 0, size)
        return offset

    @contextmanager
    def _one_error(self, size: str = "") -> Iterator[None]:
        with storing(f"embeddings{size} to {self.folder}", "What is there is kept"):
            yield


def read_store(folder: Path, key: str | None = None) -> tuple[Vectors, dict[str, Any]] | None:
    """Return the embeddings [m, p, d] and labels of a complete folder, None where there is none.

    Raises DataError when it is damaged, or not of `key`.
    """
    labels = read_json(folder / LABELS)
    if labels is None:
        return None
    if key is not None:
        _check_key(folder, labels, key)
    return _mapped(folder, labels.get("shape")), labels


def read_json(path: Path, remedy: str = "delete its folder") -> dict[str, Any] | None:
    """Return a JSON object, None where there is no file (DataError when it is something else)."""
    if not path.exists():
        return None
    with parsing(path, "a JSON object", remedy=remedy):
        record = load_json(read_bytes(path, MAX_JSON_BYTES, "a JSON object"))
        if not isinstance(record, dict):
            raise ValueError(f"a {type(record).__name__}")
        return record


def _check_key(folder: Path, record: Mapping[str, Any], key: str) -> None:
    if record.get("key") != key:
        raise DataError(
            f"{one_line(folder)} holds embeddings of another model or other data. Delete it, or "
            "give another folder"
        )


def _mapped(folder: Path, shape: Any) -> np.memmap[Any, Any]:
    """Map the file of a folder (DataError when it is not float16 of this shape)."""
    name = one_line(folder / ARRAY)
    array = read_npy(folder / ARRAY, "embeddings", "delete its folder")
    if array.dtype != np.float16 or list(array.shape) != shape or array.ndim != 3:
        raise DataError(
            f"{name}: expected float16 {shape}, got {array.dtype} {list(array.shape)}. Delete its "
            "folder"
        )
    return cast("np.memmap[Any, Any]", array)


def _write_json(path: Path, record: Mapping[str, Any]) -> None:
    write_file(path, json.dumps(record))
