"""Import of the `tensorrt` module, its logger and its plugin, shared by build and runtime."""

from __future__ import annotations

import hashlib
import importlib
import logging
from pathlib import Path
from typing import Any

from cstl_edge.errors import BackendUnavailable, ModelError, one_line
from cstl_edge.runtime.graph_format import DOMAIN, OPERATOR

log = logging.getLogger(__name__)

OLDEST = (10, 3)  # JetPack 6; strong typing, IPluginV3 and execute_async_v3 are all there
PLUGIN_VERSION = "1"
JETSON = Path("/etc/nv_tegra_release")
_loaded: dict[str, Any] = {}
"""sha256 of the plugin libraries that we registered in this process, with their handles."""


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


def register_plugin(registry: Any, library: Path) -> str:
    """Make our creator known to a registry, once per process; return the library's sha256.

    Raises ModelError for a library that does not register it, and for a creator of the same name
    that came from elsewhere.
    """
    sha256 = plugin_sha256(library)
    wanted = f"{DOMAIN}::{OPERATOR} version {PLUGIN_VERSION}"
    known = registry.get_creator(OPERATOR, PLUGIN_VERSION, DOMAIN) is not None
    if known and sha256 in _loaded:
        return sha256
    if known:
        raise ModelError(
            f"{wanted} is already registered in this process, by another library than "
            f"{one_line(library)}. Start a process that does not load the other one"
        )
    handle = registry.load_library(str(library))
    if handle is None or registry.get_creator(OPERATOR, PLUGIN_VERSION, DOMAIN) is None:
        raise ModelError(
            f"{one_line(library)} registers no {wanted}: it is no plugin library, or of another "
            "TensorRT or processor. Build it here: cstl-edge plugin build"
        )
    _loaded[sha256] = handle
    return sha256


def plugin_sha256(library: Path) -> str:
    """Return the sha256 of a plugin library (ModelError when it cannot be read)."""
    try:
        return hashlib.sha256(library.read_bytes()).hexdigest()
    except OSError as err:
        raise ModelError(
            f"plugin library {one_line(library)} cannot be read: {one_line(err.strerror)}. "
            "Build it: cstl-edge plugin build"
        ) from err


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
