"""Templates: made from walks by one model, compared only with those of the same model.

A template is the embedding of one window of a walk, float16 [p, d]. Letters: k windows of one walk,
n templates in all, s frames, p parts, d embedding dimensions.
"""

from __future__ import annotations

import sqlite3
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from cstl_edge.errors import DataError, GalleryError, one_line

WINDOW = 30  # frames of one template, as in training and in the live path
MIN_FRAMES = 15  # half a window: about one step at 25 frames per second

_BATCH = 8  # windows encoded at once
_CHUNK = 256  # templates turned into [p, d, n] at once: 4 MiB of 32x256 float16


class InfoLike(Protocol):
    """What the gallery asks about a model."""

    @property
    def weights_sha256(self) -> str: ...

    @property
    def impostors(self) -> Mapping[str, Any] | None: ...


class EmbeddedLike(Protocol):
    """What the gallery takes from an encoding: float32 [n, p, d]."""

    @property
    def embedding(self) -> NDArray[np.float32]: ...


class EncoderLike(Protocol):
    """What the gallery needs of an encoder; `cstl_edge.load()` returns one."""

    @property
    def info(self) -> InfoLike: ...

    def encode(
        self, silhouettes: NDArray[np.uint8], lengths: NDArray[np.int32] | None = None
    ) -> EmbeddedLike: ...


class Maker(NamedTuple):
    """What made a template; one gallery holds templates of one maker."""

    weights_sha256: str
    parts: int
    dimensions: int


def refuse_other(wanted: Maker, held: Maker | None, path: Path) -> None:
    """Raise GalleryError unless templates of these two makers may be compared."""
    if held is None or wanted == held:
        return
    where = f"gallery '{one_line(path)}' holds templates of"
    if wanted.weights_sha256 != held.weights_sha256:
        theirs, ours = held.weights_sha256[:12], wanted.weights_sha256[:12]
        raise GalleryError(
            f"{where} model {theirs}, this is model {ours}: re-enrol, or use model {theirs}"
        )
    raise GalleryError(
        f"{where} {held.parts} x {held.dimensions} (parts x dimensions), these embeddings are"
        f" {wanted.parts} x {wanted.dimensions}: re-enrol, or use the same model"
    )


def embeddings_of(what: NDArray[Any], model: EncoderLike | None) -> NDArray[np.float32]:
    """Return `what` as embeddings [k, p, d]; silhouettes uint8 [s, h, w] are encoded in windows.

    Raises DataError for other forms and for too few usable frames, GalleryError without a model.
    """
    what = np.asarray(what)
    if what.dtype == np.uint8 and what.ndim == 3:
        return _encode(what, model)
    if what.dtype.kind != "f" or what.ndim not in (2, 3) or 0 in what.shape:
        raise DataError(
            "expected embeddings float [k, p, d] or [p, d], or silhouettes uint8 [s, h, w], got"
            f" {what.dtype} {list(what.shape)}"
        )
    with np.errstate(over="ignore"):  # what is too large becomes infinite, and is refused so
        return np.asarray(what.reshape(-1, *what.shape[-2:]), np.float32)


def as_stored(embeddings: NDArray[np.float32]) -> NDArray[np.float16] | None:
    """Return embeddings in the form of the store, None when one is not finite in it."""
    with np.errstate(over="ignore"):
        stored = embeddings.astype(np.float16)
    return stored if np.isfinite(stored).all() else None


def cut_windows(silhouettes: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Cut a walk [s, h, w] into windows [k, min(s, 30), h, w] that cover it, evenly spaced."""
    frames = len(silhouettes)
    length = min(frames, WINDOW)
    starts = np.linspace(0, frames - length, -(-frames // WINDOW)).astype(np.intp)
    return np.stack([silhouettes[start : start + length] for start in starts])


def read_vectors(
    rows: sqlite3.Cursor, count: int, maker: Maker | None
) -> NDArray[np.float32]:  # [p, d, n]
    """Read `count` rows (name, crc32, vector) into one contiguous array; raises GalleryError."""
    parts, dimensions = (maker.parts, maker.dimensions) if maker else (0, 0)
    vectors = np.empty((parts, dimensions, count), np.float32)
    for start in range(0, count, _CHUNK):
        blobs = [
            _checked(name, crc32, blob, 2 * parts * dimensions)
            for name, crc32, blob in rows.fetchmany(_CHUNK)
        ]
        chunk = np.frombuffer(b"".join(blobs), "<f2").reshape(-1, parts, dimensions)
        vectors[:, :, start : start + len(blobs)] = chunk.transpose(1, 2, 0)  # [p, d, n]
    return vectors


def _encode(silhouettes: NDArray[np.uint8], model: EncoderLike | None) -> NDArray[np.float32]:
    if model is None:
        raise GalleryError("silhouettes need a model: open the gallery with model=")
    usable = silhouettes[silhouettes.any(axis=(1, 2))]  # [s, h, w]
    if len(usable) < MIN_FRAMES:
        raise DataError(
            f"{len(usable)} usable frames of {len(silhouettes)}, need {MIN_FRAMES}"
            f" ({WINDOW} or more are better): take a longer walk"
        )
    windows = cut_windows(usable)
    batches = [windows[start : start + _BATCH] for start in range(0, len(windows), _BATCH)]
    return np.concatenate([model.encode(batch).embedding for batch in batches])


def _checked(name: str, crc32: int, blob: bytes, size: int) -> bytes:
    if len(blob) != size or zlib.crc32(blob) != crc32:
        raise GalleryError(
            f"a template of '{one_line(name)}' is damaged on the disk: remove that person and"
            " enrol again"
        )
    return blob
