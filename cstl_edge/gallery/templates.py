"""Templates of walks: made by one model and compared only with those of the same model.

A template is the embedding of one window of a walk, float16 [p, d]. Letters: k windows of one walk,
n templates in all, s frames, p parts, d embedding dimensions.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from cstl_edge.arrays import Array, Floats, Ints, Silhouettes
from cstl_edge.distance import Distance
from cstl_edge.errors import DataError, GalleryError, one_line

WINDOW = 30  # frames of one template, as in training and in the live path
MIN_FRAMES = 15  # half a window: about one step at 25 frames per second

_BATCH = 8  # windows encoded at once


class InfoLike(Protocol):
    """Facts about a model that the gallery needs."""

    @property
    def weights_sha256(self) -> str:
        """Hex digits that name the weights."""

    @property
    def impostors(self) -> Mapping[str, Any] | None:
        """The model's impostor table as its manifest holds it, see `thresholds.ImpostorTable`."""

    @property
    def distance(self) -> Distance:
        """The distance by which the model's embeddings are compared."""

    @property
    def confidence(self) -> Mapping[str, Any] | None:
        """The model's confidence curve as its manifest holds it, see `confidence`."""


class EmbeddedLike(Protocol):
    """The result of an encoder, as far as the gallery needs it."""

    @property
    def embedding(self) -> Floats:
        """Embeddings of windows, [n, p, d]."""


class EncoderLike(Protocol):
    """An encoder, as far as the gallery needs it; `cstl_edge.load()` returns one."""

    @property
    def info(self) -> InfoLike:
        """Facts about the model."""

    def encode(self, silhouettes: Silhouettes, lengths: Ints | None = None) -> EmbeddedLike:
        """Embed silhouettes [n, s, h, w]; lengths: valid frames of each, None for all."""


class ModelId(NamedTuple):
    """Identity of the model that made a template; one gallery holds templates of one model."""

    weights_sha256: str
    parts: int
    dimensions: int


def check_same_model(query: ModelId, stored: ModelId | None, path: Path | str) -> None:
    """Raise GalleryError unless a gallery's model is that of new embeddings.

    Args:
        query: Model of the new embeddings.
        stored: Model of the gallery, None when it is empty.
        path: File of the gallery, for the message.
    """
    if stored is None or query == stored:
        return
    where = f"gallery '{one_line(path)}' holds templates of"
    if query.weights_sha256 != stored.weights_sha256:
        theirs, ours = (f"model {model.weights_sha256[:12]}" for model in (stored, query))
        raise GalleryError(f"{where} {theirs}, this is {ours}: re-enroll, or use {theirs}")
    raise GalleryError(
        f"{where} {stored.parts} x {stored.dimensions} (parts x dimensions), these embeddings are"
        f" {query.parts} x {query.dimensions}: re-enroll, or use the same model"
    )


def embeddings_of(walk: Array, model: EncoderLike | None) -> Floats:
    """Return a walk as embeddings [k, p, d]; silhouettes uint8 [s, h, w] are encoded in windows.

    Raises DataError for other forms and for too few usable frames, GalleryError without a model.
    """
    walk = np.asarray(walk)
    if walk.dtype == np.uint8 and walk.ndim == 3:
        return _encode(walk, model)
    if walk.dtype.kind != "f" or walk.ndim not in (2, 3) or 0 in walk.shape:
        raise DataError(
            "expected embeddings float [k, p, d] or [p, d], or silhouettes uint8 [s, h, w], got"
            f" {walk.dtype} {list(walk.shape)}"
        )
    with np.errstate(over="ignore"):  # a too large number becomes infinite: `as_stored` refuses it
        return np.asarray(walk.reshape(-1, *walk.shape[-2:]), np.float32)


def as_stored(embeddings: Floats) -> npt.NDArray[np.float16] | None:
    """Return embeddings as float16, the type of the store; None when one is not finite in it."""
    with np.errstate(over="ignore"):
        stored = embeddings.astype(np.float16)
    return stored if np.isfinite(stored).all() else None


def cut_windows(silhouettes: Silhouettes) -> Silhouettes:
    """Cut a walk [s, h, w] into windows [k, min(s, 30), h, w] that cover it, evenly spaced."""
    frames = len(silhouettes)
    length = min(frames, WINDOW)
    starts = np.linspace(0, frames - length, -(-frames // WINDOW)).astype(np.intp)
    return np.stack([silhouettes[start : start + length] for start in starts])


def _encode(silhouettes: Silhouettes, model: EncoderLike | None) -> Floats:
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
