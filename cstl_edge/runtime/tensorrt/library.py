"""Import of the `tensorrt` module, its logger and its plugin, shared by build and runtime."""

from __future__ import annotations

import hashlib
import importlib
import logging
from contextlib import closing
from pathlib import Path
from typing import Any

from cstl_edge.errors import BackendUnavailable, ModelError, one_line
from cstl_edge.measure import jetson
from cstl_edge.measure.linux import SysfsTree
from cstl_edge.runtime.cuda.open import open_buffers
from cstl_edge.runtime.graph_format import DOMAIN, OPERATOR, PLUGIN_VERSION

log = logging.getLogger(__name__)

OLDEST = (10, 3)  # JetPack 6; strong typing, IPluginV3 and execute_async_v3 are all there
JETSON = Path("/etc/nv_tegra_release")


def import_tensorrt() -> Any:
    """Return the `tensorrt` module (BackendUnavailable with the command that installs it)."""
    try:
        trt = importlib.import_module("tensorrt")
    except (ImportError, OSError, RuntimeError) as err:
        raise BackendUnavailable(
            f"TensorRT is not on this machine ({one_line(err)}). {_how_to_get_it()}"
        ) from err
    if version_of(trt) < OLDEST:
        raise BackendUnavailable(
            f"expected TensorRT {OLDEST[0]}.{OLDEST[1]} or newer; got {one_line(trt.__version__)}. "
            f"{_how_to_get_it()}"
        )
    return trt


def version_of(trt: Any) -> tuple[int, int]:
    """Return major and minor version.

    >>> import types
    >>> version_of(types.SimpleNamespace(__version__="10.16.1.11"))
    (10, 16)
    """
    major, minor = str(trt.__version__).split(".")[:2]
    return int(major), int(minor)


def make_logger(trt: Any) -> Any:
    """Return a TensorRT logger that writes to ours: its errors as warnings, the rest for --debug.

    Its errors are often a mere "no" to a question; real failures raise in our code.
    """
    severity = trt.ILogger.Severity
    levels = {
        severity.INTERNAL_ERROR: logging.WARNING,
        severity.ERROR: logging.WARNING,
        severity.WARNING: logging.INFO,
    }

    class Logger(trt.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.last_error = ""

        def log(self, level: Any, message: str) -> None:
            if level in (severity.INTERNAL_ERROR, severity.ERROR):
                self.last_error = one_line(message, 400)
            log.log(levels.get(level, logging.DEBUG), "TensorRT: %s", one_line(message, 1000))

    return Logger()


def make_builder(trt: Any, logger: Any) -> Any:
    """Return TensorRT's `Builder` (BackendUnavailable where CUDA does not start)."""
    return _started(trt, trt.Builder(logger), logger)


def make_runtime(trt: Any, logger: Any) -> Any:
    """Return TensorRT's `Runtime` (BackendUnavailable where CUDA does not start)."""
    return _started(trt, trt.Runtime(logger), logger)


def _started(trt: Any, owner: Any, logger: Any) -> Any:
    """Return a new builder or runtime, unless its making was an error.

    Where CUDA cannot be started TensorRT logs an error (35 for a driver that is too old, 100 where
    there is no GPU) and may return an object all the same, whose next call ends the process.
    """
    if owner is not None and not logger.last_error:
        return owner
    reason = logger.last_error or "it gave no reason"
    raise BackendUnavailable(
        f"TensorRT {one_line(trt.__version__)} cannot use the GPU: {reason}. {_driver()}. Install "
        "a driver that serves the CUDA of this TensorRT, or a TensorRT for this driver; backend "
        "'onnxruntime' serves without either"
    )


def _driver() -> str:
    """Return the CUDA that the driver serves and the GPU, in words."""
    try:
        with closing(open_buffers()) as buffers:
            gpu = buffers.gpu()
    except (BackendUnavailable, ModelError) as err:
        return f"The driver says: {one_line(err)}"
    return f"The driver serves CUDA {gpu.cuda} on {gpu.name} (sm_{gpu.sm})"


def plugin_library(trt: Any) -> Path | None:
    """Return the plugin library on this machine for this TensorRT's major version, if there is.

    Raises ModelError for a library that is not the one that was built.
    """
    from cstl_edge.runtime.tensorrt.plugin import find

    try:
        return Path(find(version_of(trt)[0]).path)
    except BackendUnavailable as err:
        log.info("no plugin: %s", err)
        return None


def register_plugin(owner: Any, library: Path) -> str:
    """Make our creator known to a new builder or runtime; return the library's sha256.

    Every builder and every runtime has a registry of its own, below the process's: what one knows,
    the next one does not. Creators are looked for in their list, since asking for one that is not
    there is an error in TensorRT's log.

    Args:
        owner: TensorRT's `Builder` or `Runtime`.
        library: Plugin library. ModelError for one that does not register our creator, and where a
            creator of the same name came from elsewhere.
    """
    registry, sha256 = owner.get_plugin_registry(), plugin_sha256(library)
    wanted = f"{DOMAIN}::{OPERATOR} version {PLUGIN_VERSION}"
    if _has_creator(registry):
        raise ModelError(
            f"{wanted} is already registered in this process, by another library than "
            f"{one_line(library)}. Start a process that does not load the other one"
        )
    if registry.load_library(str(library)) is None or not _has_creator(registry):
        raise ModelError(
            f"{one_line(library)} registers no {wanted}: it is no plugin library, or of another "
            "TensorRT or processor, or the process has another one of this name. Build it here: "
            "cstl-edge plugin build"
        )
    return sha256


def _has_creator(registry: Any) -> bool:
    """Tell whether a registry lists the creator of our plugin."""
    ours = (OPERATOR, PLUGIN_VERSION, DOMAIN)
    return any(
        ours == tuple(getattr(creator, key, None) for key in _CREATOR_KEYS)
        for creator in registry.all_creators
    )


_CREATOR_KEYS = ("name", "plugin_version", "plugin_namespace")


def plugin_sha256(library: Path) -> str:
    """Return the sha256 of a plugin library (ModelError when it cannot be read)."""
    try:
        return hashlib.sha256(library.read_bytes()).hexdigest()
    except OSError as err:
        raise ModelError(
            f"plugin library {one_line(library)} cannot be read: {one_line(err.strerror)}. "
            "Build it: cstl-edge plugin build"
        ) from err


def board() -> str | None:
    """Return the board's model, where the system names one, as on a Jetson.

    AGX Orin, Orin NX and Orin Nano all call their GPU `Orin`, sm_87.
    """
    return jetson.board(SysfsTree(Path("/")))


def main() -> None:
    """Start TensorRT, for a parent that wants to know whether it would crash; print why not."""
    trt = import_tensorrt()
    try:
        make_runtime(trt, make_logger(trt))
    except BackendUnavailable as err:
        print(one_line(err, 600))
        raise SystemExit(1) from err


def _how_to_get_it() -> str:
    if JETSON.exists():
        return (
            "On a Jetson it comes with JetPack 6 or newer: apt install python3-libnvinfer, and "
            "make the environment with python3 -m venv --system-site-packages"
        )
    return (
        "With an NVIDIA GPU: pip install tensorrt-cu12 --extra-index-url https://pypi.nvidia.com. "
        "Without one, backend 'onnxruntime' serves"
    )
