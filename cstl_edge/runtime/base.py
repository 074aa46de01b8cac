"""What every backend promises: the `Encoder` protocol, what it tells of itself, and `load`.

Letters: n sequences, s frames, m frames of any sequences, h w pixels, p parts, c channels, d
embedding dimensions. The network is cut where it stops being per frame: `frames` turns silhouettes
into part features, `head` turns a window of them into an embedding, `encode` is their composition.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from cstl_edge.errors import ConfigError, DataError, ModelError, one_line
from cstl_edge.runtime.manifest import PRECISIONS

log = logging.getLogger(__name__)

BACKENDS = ("auto", "onnxruntime", "openvino", "pytorch", "tensorrt")
MAX_THREADS = 4  # by default; the graphs are small, more threads spend their time waiting
FRAMES_PER_RUN = 30  # a trunk run needs about 1.5 MB per frame, so a long video must be cut

Silhouettes: TypeAlias = npt.NDArray[np.uint8]
Floats: TypeAlias = npt.NDArray[np.float32]
Ints: TypeAlias = npt.NDArray[np.int32]


@dataclass(frozen=True)
class EncoderInfo:
    """What an encoder is, as its runtime says it, never as it was asked for."""

    backend: str
    """`onnxruntime`, `openvino`, `tensorrt` or `pytorch`."""
    provider: str
    """Who computes: ONNX Runtime's execution provider, the GPU's name, or another's device."""
    precision: str
    """Type of what is computed, e.g. `float32`."""
    threads: int
    """Threads that one run may use."""
    model_name: str
    weights_sha256: str
    """sha256 of the trained weights; templates of two encoders mix only where it is equal."""
    size: tuple[int, int]
    """Height and width of a silhouette [pixels]."""
    parts: int
    channels: int
    embedding: int
    """Dimensions of one part's embedding."""
    impostors: Mapping[str, Any] | None = None
    """Distances of strangers by gallery size and false-positive rate, as in the manifest."""
    slides: bool = False
    """Whether it is a `windows.SlidingEncoder` as well."""


class Embedded(NamedTuple):
    """What `head` gives for n windows."""

    embedding: Floats
    """[n, p, d]"""
    salient_frames: Ints
    """[n, p]: which frame of the window gave each part (Eq. 9); -1 in a network without SSFL."""

    @property
    def finite(self) -> npt.NDArray[np.bool_]:
        """[n]: False where an embedding has a NaN or an infinity, and must match nobody."""
        finite: npt.NDArray[np.bool_] = np.all(np.isfinite(self.embedding), axis=(1, 2))
        return finite


class Encoder(Protocol):
    """A network that is ready to run. Not thread-safe: one encoder per thread."""

    @property
    def info(self) -> EncoderInfo:
        """Return what this encoder is."""

    def frames(self, silhouettes: Silhouettes) -> Floats:
        """Return the part features [m, p, c] of silhouettes [m, h, w] of any walkers."""

    def head(self, features: Floats, lengths: Ints) -> Embedded:
        """Return the embeddings of windows [n, s, p, c], of which `lengths` [n] frames count."""

    def encode(self, silhouettes: Silhouettes, lengths: Ints | None = None) -> Embedded:
        """Return the embeddings of sequences [n, s, h, w]; all frames count without `lengths`."""

    def close(self) -> None:
        """Give back what the runtime holds. Further calls are errors."""


def load(
    path: str | Path | None = None,
    backend: str = "auto",
    threads: int | None = None,
    precision: str | None = None,
) -> Encoder:
    """Return an encoder for an exported folder, a `.safetensors` checkpoint or the shipped model.

    `backend` is "onnxruntime" (folders), "openvino" (folders, where it is installed), "tensorrt"
    (folders with engines for this machine), "pytorch" (checkpoints) or "auto", which alone may
    choose: engines where they fit, never OpenVINO. `threads` is what one run may use on a CPU; by
    default the cores we may use, up to 4 (PyTorch keeps its own count).

    Raises ModelError for a model that is refused, BackendUnavailable for a runtime not here.
    """
    if backend not in BACKENDS:
        expected = ", ".join(BACKENDS)
        raise ConfigError(f"expected a backend of {expected}; got {one_line(backend)!r}")
    if threads is not None and threads < 1:
        raise ConfigError(f"expected at least 1 thread; got {threads}")
    if precision is not None:
        backend = _check_precision(precision, _backend_for(path) if backend == "auto" else backend)
    folder = _shipped() if path is None else Path(path)
    if backend == "tensorrt":
        from cstl_edge.runtime.trt import load_engines

        return load_engines(folder)
    chosen = _backend_for(path) if backend == "auto" else backend
    cores = usable_cores() if threads is None else threads
    if chosen == "openvino":
        from cstl_edge.runtime import openvino

        return openvino.load_folder(folder, cores, precision)
    if chosen == "onnxruntime":
        from cstl_edge.runtime import ort

        engines = _engines_that_fit(folder) if backend == "auto" else None
        return engines or ort.load_folder(folder, cores, precision)
    from cstl_edge.runtime.pytorch import load_weights

    weights = _shipped().with_suffix(".safetensors") if path is None else Path(path)
    return load_weights(weights, threads)


def _check_precision(precision: str, backend: str) -> str:
    """Return the backend; refuse a precision that is none, or that it does not choose."""
    if precision not in PRECISIONS:
        expected = ", ".join(PRECISIONS)
        raise ConfigError(f"expected a precision of {expected}; got {one_line(precision)!r}")
    if backend == "tensorrt" or (backend == "pytorch" and precision != "float32"):
        raise ConfigError(
            f"precision {precision} cannot be chosen for backend {backend!r}: engines have the one "
            "they were built in, checkpoints are float32. Leave it out, or load an exported folder "
            "in onnxruntime or openvino"
        )
    return backend


def usable_cores() -> int:
    """Return the number of cores this process may use, at most `MAX_THREADS`."""
    affinity = getattr(os, "sched_getaffinity", None)  # absent outside Linux
    cores = len(affinity(0)) if affinity else os.cpu_count() or 1
    return max(1, min(MAX_THREADS, cores))


def encode_in_parts(
    encoder: Encoder, silhouettes: Silhouettes, lengths: Ints | None = None
) -> Embedded:
    """Run `frames`, then `head`: exactly the full network; padding never reaches the trunk."""
    check_silhouettes(silhouettes, encoder.info.size, ("n", "s"))
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


def check_silhouettes(silhouettes: Any, size: tuple[int, int], axes: tuple[str, ...]) -> None:
    """Refuse what is not a uint8 array [*axes, h, w] with at least one frame (DataError)."""
    _check_array("silhouettes", silhouettes, np.uint8, (*axes, *size))


def check_features(features: Any, info: EncoderInfo) -> None:
    """Refuse what is not a float32 array [n, s, p, c] with at least one frame (DataError)."""
    _check_array("features", features, np.float32, ("n", "s", info.parts, info.channels))


def check_lengths(lengths: Any, n: int, s: int) -> None:
    """Refuse what is not an int32 array [n] of numbers in 1..s (DataError)."""
    _check_array("lengths", lengths, np.int32, (n,))
    if lengths.min() < 1 or lengths.max() > s:
        raise DataError(
            f"expected lengths in 1..{s}, the frames given; got {one_line(lengths.tolist())}"
        )


def _check_array(name: str, array: Any, dtype: type, axes: tuple[int | str, ...]) -> None:
    """Refuse an array whose type, rank or sizes differ; a letter stands for any size above 0."""
    expected = f"{np.dtype(dtype)} [{', '.join(map(str, axes))}]"
    if not isinstance(array, np.ndarray):
        raise DataError(f"expected {name} as {expected}; got {type(array).__name__}")
    fits = array.ndim == len(axes) and all(
        size > 0 if isinstance(axis, str) else size == axis
        for axis, size in zip(axes, array.shape, strict=True)
    )
    if array.dtype != dtype or not fits:
        raise DataError(f"expected {name} as {expected}; got {array.dtype} {list(array.shape)}")


def _backend_for(path: str | Path | None) -> str:
    """Choose by what the path is: a checkpoint needs PyTorch, all else is an exported folder."""
    if str(path).endswith(".safetensors"):
        log.info("backend auto: pytorch, for a checkpoint")
        return "pytorch"
    return "onnxruntime"


def _engines_that_fit(folder: Path) -> Encoder | None:
    """Return the engines of an exported folder if they are for this machine, and say what serves.

    What was built and does not fit is worth a warning; what was never built is not.
    """
    from cstl_edge.runtime.provenance import ENGINES, TENSORRT

    if not (folder / ENGINES / TENSORRT).exists():
        log.info("backend auto: onnxruntime, no engines were built in %s", one_line(folder))
        return None
    from cstl_edge.runtime.trt import load_engines

    try:
        encoder = load_engines(folder)
    except ModelError as err:
        log.warning("backend auto: onnxruntime, because %s", err)
        return None
    log.info("backend auto: tensorrt, on %s", encoder.info.provider)
    return encoder


def _shipped() -> Path:
    """Return the folder of the model that comes with the package."""
    folder = Path(__file__).parents[1] / "assets" / "cstl-walkers"
    if not folder.is_dir():
        raise ModelError("no model is shipped with this copy of cstl_edge: give a path to one")
    return folder
