"""The `Encoder` protocol of every backend, the record of what an encoder is, checks of inputs.

Letters: n sequences, s frames, m frames of any sequences, h w pixels, p parts, c channels, d
embedding dimensions. The network is cut where it stops being per frame: `frames` turns silhouettes
into part features, `head` turns a window of them into an embedding, `encode` is their composition.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np

from cstl_edge.arrays import Bools, Floats, Ints, Silhouettes
from cstl_edge.distance import EUCLIDEAN, Distance
from cstl_edge.errors import ConfigError, DataError, ModelError, one_line

MAX_THREADS = 4  # by default; the graphs are small, more threads spend their time waiting
FRAMES_PER_RUN = 30  # a trunk run needs about 1.5 MB per frame, so a long video must be cut


@dataclass(frozen=True)
class EncoderInfo:
    """What an encoder is, as its runtime reports it, never as it was requested."""

    backend: str  # name in `load.BACKENDS`
    provider: str  # what computes: ONNX Runtime's execution provider, the GPU's name, or a device
    precision: str  # type of what is computed, e.g. `float32`
    threads: int  # that one run may use
    model_name: str
    weights_sha256: str  # of the trained weights; templates mix only where it is equal
    size: tuple[int, int]  # height and width of a silhouette [pixels]
    parts: int
    channels: int
    embedding: int  # dimensions of one part's embedding
    impostors: Mapping[str, Any] | None = None
    """Distances of strangers by gallery size and false-positive rate, as in the manifest."""
    distance: Distance = EUCLIDEAN  # by which its embeddings are compared
    confidence: Mapping[str, Any] | None = None  # curve of `gallery.confidence`, as in the manifest
    slides: bool = False  # whether it is a `streaming.rings.SlidingEncoder` as well
    steps: bool = False  # whether it is a `streaming.steps.SteppingEncoder` as well
    engines: str | None = None  # exported model whose engines compute; None without
    keeps_windows: bool = False  # whether it is a `streaming.windows.KeepingEncoder` as well


class Embedded(NamedTuple):
    """Output of `head` for n windows."""

    embedding: Floats  # [n, p, d]
    salient_frames: Ints
    """[n, p]: which frame of the window gave each part (Eq. 9); -1 in a network without SSFL."""

    @property
    def finite(self) -> Bools:
        """[n]: False where an embedding has a NaN or an infinity, and must match nobody."""
        finite: Bools = np.all(np.isfinite(self.embedding), axis=(1, 2))
        return finite


class Encoder(Protocol):
    """A network that is ready to run. Not thread-safe: one encoder per thread."""

    info: EncoderInfo

    def frames(self, silhouettes: Silhouettes) -> Floats:
        """Return the part features [m, p, c] of silhouettes [m, h, w] of any walkers."""

    def head(self, features: Floats, lengths: Ints) -> Embedded:
        """Return the embeddings of windows [n, s, p, c], of which `lengths` [n] frames count."""

    def encode(self, silhouettes: Silhouettes, lengths: Ints | None = None) -> Embedded:
        """Return the embeddings of sequences [n, s, h, w]; all frames count without `lengths`."""

    def warm_up(self, walkers: int) -> None:
        """Make ready for so many live walkers, so that none of them waits; many have nothing to.

        Raises ModelError where the device fails.
        """

    def close(self) -> None:
        """Give back what the runtime holds. Further calls are errors."""


def model_folder(path: Path | None) -> Path:
    """Return the folder of an exported model, of the shipped one without a path (ModelError)."""
    if path is not None:
        return path
    shipped = Path(__file__).parents[1] / "assets" / "cstl-walkers"
    if not shipped.is_dir():
        raise ModelError("no model is shipped with this copy of cstl_edge: give a path to one")
    return shipped


def is_shipped(folder: Path) -> bool:
    """Tell whether a model lies in the package, which an upgrade replaces."""
    return folder.resolve().is_relative_to(Path(__file__).parents[1].resolve())


def refuse_precision(precision: str | None, backend: str, but: str | None = None) -> None:
    """Refuse a precision in a backend whose models have one already (ConfigError).

    Args:
        precision: Requested precision, if any.
        backend: Name of the backend, for the message.
        but: Precision of the backend's models, which may be requested.
    """
    if precision not in (None, but):
        raise ConfigError(
            f"precision {precision} cannot be chosen for backend {backend!r}: engines have the one "
            "they were built in, checkpoints are float32. Leave it out, or load an exported folder "
            "in onnxruntime or openvino"
        )


def usable_cores() -> int:
    """Return the number of cores this process may use, at most `MAX_THREADS`."""
    affinity = getattr(os, "sched_getaffinity", None)  # absent outside Linux
    cores = len(affinity(0)) if affinity else os.cpu_count() or 1
    return max(1, min(MAX_THREADS, cores))


def encode_in_parts(
    encoder: Encoder, silhouettes: Silhouettes, lengths: Ints | None = None
) -> Embedded:
    """Run `frames`, then `head`: exactly the full network; padding never reaches the trunk.

    Args:
        encoder: Owner of the graphs `frames` and `head`.
        silhouettes: uint8 [n, s, h, w]; DataError for another type, shape or range.
        lengths: int32 [n], valid frames of each sequence; by default all.
    """
    check_array("silhouettes", silhouettes, np.uint8, ("n", "s", *encoder.info.size))
    n, s = silhouettes.shape[:2]
    counted = np.full(n, s, np.int32) if lengths is None else lengths
    check_lengths(counted, n, s)
    valid = np.arange(s) < counted[:, None]  # [n, s]
    frames = silhouettes[valid]  # [m, h, w]
    features = np.zeros((n, s, encoder.info.parts, encoder.info.channels), np.float32)
    features[valid] = np.concatenate(
        [
            encoder.frames(frames[start : start + FRAMES_PER_RUN])
            for start in range(0, len(frames), FRAMES_PER_RUN)
        ]
    )
    return encoder.head(features, counted)


def check_array(name: str, array: Any, dtype: type, axes: tuple[int | str, ...]) -> None:
    """Refuse an array whose type, rank or sizes differ (DataError).

    Args:
        name: Name of the array, for the message.
        array: Array to check.
        dtype: Expected type.
        axes: Expected sizes; a letter stands for any size above 0.
    """
    is_array = isinstance(array, np.ndarray)
    if is_array and array.dtype == dtype and array.ndim == len(axes):
        sizes = zip(axes, array.shape, strict=True)
        if all(size > 0 if isinstance(axis, str) else size == axis for axis, size in sizes):
            return
    # the message is written only here: every frame of a walker passes this check
    expected = f"{np.dtype(dtype)} [{', '.join(map(str, axes))}]"
    got = f"{array.dtype} {list(array.shape)}" if is_array else type(array).__name__
    raise DataError(f"expected {name} as {expected}; got {got}")


def check_lengths(lengths: Any, n: int, s: int) -> None:
    """Refuse what is not an int32 array [n] of numbers in 1..s (DataError).

    Args:
        lengths: int32 [n], valid frames of each sequence.
        n: Number of sequences.
        s: Number of frames of the longest sequence.
    """
    check_array("lengths", lengths, np.int32, (n,))
    if lengths.min() < 1 or lengths.max() > s:
        raise DataError(
            f"expected lengths in 1..{s}, the frames given; got {one_line(lengths.tolist())}"
        )
