"""Table of the libraries that provide GPU memory, and the choice among them."""

from __future__ import annotations

import logging
import os
from typing import cast

from cstl_edge.errors import BackendUnavailable, ConfigError, one_line
from cstl_edge.registry import Entry, Registry
from cstl_edge.runtime.cuda.base import Buffers, CudaError

log = logging.getLogger(__name__)

VARIABLE = "CSTL_EDGE_CUDA_BACKEND"
LIBRARIES = Registry(
    "CUDA library",
    {
        "cuda.bindings": Entry("cstl_edge.runtime.cuda.bindings:BindingsBuffers", "NVIDIA's own"),
        "pycuda": Entry("cstl_edge.runtime.cuda.pycuda:PycudaBuffers"),
    },
)
"""Functions without arguments that return `Buffers`, in the order in which they are tried.

Each raises ImportError where its library is not installed, CudaError where no GPU answers."""
NO_LIBRARY = (
    'no library for CUDA is on this machine: pip install "cuda-bindings<13" for CUDA 12 (JetPack '
    "6), cuda-bindings for CUDA 13, or pycuda"
)


def open_buffers(choice: str | None = None) -> Buffers:
    """Return buffers of a library of `LIBRARIES`, or of the first that is installed.

    Without a choice the environment's `CSTL_EDGE_CUDA_BACKEND` decides. Raises BackendUnavailable
    when there is no such library or no GPU that answers.
    """
    wanted = choice or os.environ.get(VARIABLE) or None
    if wanted is not None and wanted not in LIBRARIES:
        expected = ", ".join(LIBRARIES)
        raise ConfigError(f"expected {VARIABLE} to be one of {expected}; got {one_line(wanted)!r}")
    missing: list[str] = []
    for name in [wanted] if wanted else LIBRARIES:
        try:
            buffers = cast(Buffers, LIBRARIES.load(name)())
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
