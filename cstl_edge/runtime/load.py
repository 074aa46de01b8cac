"""TODO."""

from __future__ import annotations

import logging
from pathlib import Path

from cstl_edge.errors import ConfigError, ModelError, one_line
from cstl_edge.runtime.base import Encoder, usable_cores
from cstl_edge.runtime.manifest import PRECISIONS

log = logging.getLogger(__name__)

BACKENDS = ("auto", "onnxruntime", "openvino", "pytorch", "tensorrt")


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
        from cstl_edge.runtime.tensorrt.encoder import load_engines

        return load_engines(folder)
    chosen = _backend_for(path) if backend == "auto" else backend
    cores = usable_cores() if threads is None else threads
    if chosen == "openvino":
        from cstl_edge.runtime.backends import openvino

        return openvino.load_folder(folder, cores, precision)
    if chosen == "onnxruntime":
        from cstl_edge.runtime.backends import onnxruntime

        engines = _engines_that_fit(folder) if backend == "auto" else None
        return engines or onnxruntime.load_folder(folder, cores, precision)
    from cstl_edge.runtime.backends.pytorch import load_weights

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
    from cstl_edge.runtime.tensorrt.record import ENGINES, TENSORRT

    if not (folder / ENGINES / TENSORRT).exists():
        log.info("backend auto: onnxruntime, no engines were built in %s", one_line(folder))
        return None
    from cstl_edge.runtime.tensorrt.encoder import load_engines

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
