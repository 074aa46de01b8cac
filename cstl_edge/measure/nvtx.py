"""NVTX ranges, by which Nsight Systems shows our stages beside the GPU's work; off by default.

`CSTL_EDGE_NVTX=1` switches them on where the package `nvtx` is installed. The ranges are those of
live (`capture`, `segment`, `track`, `silhouette`, `encode`, `match`) and of an encoder (`frames`,
`head`).
"""

from __future__ import annotations

import contextlib
import importlib
import os
from contextlib import AbstractContextManager
from functools import lru_cache
from typing import Any

from cstl_edge.errors import ConfigError

VARIABLE = "CSTL_EDGE_NVTX"
DOMAIN = "cstl_edge"
NAMES = {"identify": "match"}
"""Names of stages that Nsight's users know better by another one."""


def nvtx_range(stage: str) -> AbstractContextManager[Any]:
    """Return a context that marks a stage, or does nothing; ConfigError where nvtx is missing."""
    annotate = _annotate()
    if annotate is None:
        return _NOTHING
    marked: AbstractContextManager[Any] = annotate(NAMES.get(stage, stage), domain=DOMAIN)
    return marked


_NOTHING = contextlib.nullcontext()


@lru_cache(maxsize=1)
def _annotate() -> Any:
    if os.environ.get(VARIABLE, "0") in ("", "0"):
        return None
    try:
        return importlib.import_module("nvtx").annotate
    except ImportError as err:
        raise ConfigError(
            f"{VARIABLE} is set, and nvtx is not installed: pip install nvtx"
        ) from err
