"""TODO."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable

from cstl_edge.errors import BackendUnavailable, ConfigError, one_line
from cstl_edge.runtime.cuda.base import Buffers, CudaError

log = logging.getLogger(__name__)

VARIABLE = "CSTL_EDGE_CUDA_BACKEND"


NO_LIBRARY = (
    'no library for CUDA is on this machine: pip install "cuda-bindings<13" for CUDA 12 (JetPack '
    "6), cuda-bindings for CUDA 13, or pycuda"
)


def open_buffers(choice: str | None = None) -> Buffers:
    """Return buffers of the library that is asked for, or of the first that is installed.

    choice: `cuda.bindings` or `pycuda`; without it the environment's `CSTL_EDGE_CUDA_BACKEND`

    Raises BackendUnavailable when there is no such library or no GPU that answers.
    """
    wanted = choice or os.environ.get(VARIABLE) or None
    if wanted is not None and wanted not in BACKENDS:
        expected = ", ".join(BACKENDS)
        raise ConfigError(f"expected {VARIABLE} to be one of {expected}; got {one_line(wanted)!r}")
    missing: list[str] = []
    for name in [wanted] if wanted else BACKENDS:
        try:
            buffers = BACKENDS[name]()
        except ImportError as err:
            missing.append(f"{name}: {one_line(err)}")
            continue
        except CudaError as err:
            raise BackendUnavailable(
                f"no NVIDIA GPU answers: {err}. `nvidia-smi` (on a Jetson `tegrastats`) tells more"
            ) from err
        log.info("CUDA through %s", buffers.name)
        return buffers
    raise BackendUnavailable(f"{NO_LIBRARY} ({'; '.join(missing)})")


def _bindings() -> Buffers:
    from cstl_edge.runtime.cuda.bindings import BindingsBuffers

    return BindingsBuffers()


def _pycuda() -> Buffers:
    from cstl_edge.runtime.cuda.pycuda import PycudaBuffers

    return PycudaBuffers()


BACKENDS: dict[str, Callable[[], Buffers]] = {"cuda.bindings": _bindings, "pycuda": _pycuda}
"""By name, in the order in which they are tried."""
