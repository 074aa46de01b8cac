"""Which precision a CPU takes when nobody says: the folder names one, the processor has a word."""

from __future__ import annotations

import logging
from pathlib import Path

from cstl_edge.errors import one_line
from cstl_edge.measure import processor
from cstl_edge.runtime.manifest import Manifest

log = logging.getLogger(__name__)

FAST_INT8 = ("amx_int8", "avx512_vnni", "avx_vnni", "i8mm", "asimddp")
"""Instructions that add four int8 products at once (x86, then aarch64). Without them ONNX Runtime
was 1.7 times as fast in int8 as in float32 at best, and slower on two busy cores of AVX2."""


def cpu_precision(manifest: Manifest, folder: Path) -> str:
    """Return the precision that the folder names for a CPU, or float32 where that is no faster."""
    named = manifest.cpu_default
    if named != "int8":
        return named
    _, flags = processor()
    fast = next((name for name in FAST_INT8 if name in flags), None)
    if fast is None:
        log.info(
            "precision: float32, though %s names int8 for a CPU: this one has none of %s",
            one_line(folder),
            ", ".join(FAST_INT8),
        )
        return "float32"
    log.info("precision: int8, which %s names for a CPU; this one has %s", one_line(folder), fast)
    return named
