"""Table of backends, and `load`: an exported folder, a checkpoint or the shipped model in one."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING

from cstl_edge.errors import ConfigError, ModelError, one_line
from cstl_edge.registry import Entry, Registry

if TYPE_CHECKING:  # the command line reads this table before anything heavy is imported
    from cstl_edge.runtime.base import Encoder

log = logging.getLogger(__name__)

BACKENDS = Registry(
    "backend",
    {
        "auto": Entry("cstl_edge.runtime.load:load_auto", "chooses by the path"),
        "onnxruntime": Entry(
            "cstl_edge.runtime.backends.onnxruntime:load_folder", "exported folders, on the CPU"
        ),
        "onnxruntime-cuda": Entry(
            "cstl_edge.runtime.backends.onnxruntime_gpu:load_cuda",
            "exported folders, on an NVIDIA GPU",
        ),
        "onnxruntime-rtx": Entry(
            "cstl_edge.runtime.backends.onnxruntime_gpu:load_rtx", "exported folders, on RTX cards"
        ),
        "openvino": Entry(
            "cstl_edge.runtime.backends.openvino:load_folder", "exported folders, on the CPU"
        ),
        "pytorch": Entry("cstl_edge.runtime.backends.pytorch:load_weights", "checkpoints"),
        "tensorrt": Entry(
            "cstl_edge.runtime.tensorrt.encoder:load_engines", "engines built on this machine"
        ),
        "triton": Entry(
            "cstl_edge.runtime.backends.triton:load_server", "a server: triton://HOST:PORT/MODEL"
        ),
    },
)
"""Functions of a path or None (the shipped model), threads or None, and a precision or None, that
return an `Encoder`. Each raises ModelError for a model that it refuses, BackendUnavailable where
its runtime is not on this machine, ConfigError for a precision that cannot be chosen."""


def load(
    path: str | Path | None = None,
    backend: str = "auto",
    threads: int | None = None,
    precision: str | None = None,
) -> Encoder:
    """Return an encoder for an exported folder, a `.safetensors` checkpoint or the shipped model.

    Args:
        path: Folder or file; None for the shipped model.
        backend: Name of `BACKENDS`: "onnxruntime" (folders), "openvino", "onnxruntime-cuda" and
            "onnxruntime-rtx" (folders, where they are installed), "tensorrt" (folders with engines
            for this machine), "pytorch" (checkpoints) or "auto", which alone chooses: engines
            where they fit, else "onnxruntime" or "pytorch".
        threads: Number of threads of one run on a CPU; by default the cores that this process may
            use, up to 4 (PyTorch keeps its own count).
        precision: One of `manifest.PRECISIONS`; by default the one that the folder names.

    Raises:
        ConfigError: For an unknown backend or precision, or a number of threads below 1.
        ModelError: Where the model is refused.
        BackendUnavailable: Where the runtime is not on this machine.
    """
    from cstl_edge.runtime.manifest import PRECISIONS

    opener = BACKENDS.load(backend)
    if threads is not None and threads < 1:
        raise ConfigError(f"expected at least 1 thread; got {threads}")
    if precision is not None and precision not in PRECISIONS:
        expected = ", ".join(PRECISIONS)
        raise ConfigError(f"expected a precision of {expected}; got {one_line(precision)!r}")
    encoder: Encoder = opener(None if path is None else Path(path), threads, precision)
    return encoder


def load_auto(path: Path | None, threads: int | None, precision: str | None) -> Encoder:
    """Open a checkpoint in PyTorch, a folder in TensorRT where engines fit, else in ONNX Runtime.

    Args:
        path: Folder or checkpoint; None for the shipped model. Errors as in `load`.
        threads: Number of threads of one run, as in `load`.
        precision: Precision as in `load`; engines fit none, so None is needed for them.
    """
    from cstl_edge.runtime.base import model_folder

    backend = "onnxruntime"
    if path is not None and path.parts[0] == "triton:":
        log.info("backend auto: triton, for its address")
        backend = "triton"
    elif path is not None and path.suffix == ".safetensors":
        log.info("backend auto: pytorch, for a checkpoint")
        backend = "pytorch"
    elif precision is None and (engines := _engines_that_fit(model_folder(path))):
        return engines
    encoder: Encoder = BACKENDS.load(backend)(path, threads, precision)
    return encoder


def _engines_that_fit(folder: Path) -> Encoder | None:
    """Return the engines of a folder that fit this machine; warn of those that do not fit."""
    from cstl_edge.runtime.tensorrt.record import ENGINES, TENSORRT

    if not (folder / ENGINES / TENSORRT).exists():
        log.info("backend auto: onnxruntime, no engines were built in %s", one_line(folder))
        return None
    try:
        encoder: Encoder = BACKENDS.load("tensorrt")(folder, None, None)
    except ModelError as err:
        log.warning("backend auto: onnxruntime, because %s", err)
        return None
    log.info("backend auto: tensorrt, on %s", encoder.info.provider)
    return encoder
