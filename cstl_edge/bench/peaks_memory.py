"""The bandwidth of memory and of the caches of this processor, by copies of arrays."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from cstl_edge.bench.peaks import Kernel
from cstl_edge.bench.record import Ran

CACHES = Path("sys/devices/system/cpu/cpu0/cache")
LEAST_MEMORY_BYTES = 2**28
FLOAT_BYTES = 4


def copies(threads: int, root: Path) -> Iterator[Kernel]:
    """Yield a copy in memory and in every cache that is known, large enough to leave the others."""
    sizes = caches(root)
    second, third = sizes.get(2, 0) * threads, sizes.get(3, 0)
    levels: dict[str, tuple[int, int | None]] = {
        "memory": (max(LEAST_MEMORY_BYTES, 4 * third), None)
    }
    if second:
        levels["l2"] = (second // 2, second)
    if third > 2 * second:
        levels["l3"] = (max(third // 2, 2 * second), third)
    ran = Ran(
        backend="numpy",
        provider="cpu",
        precision="float32",
        computed_in="float32",
        version=np.__version__,
        threads=threads,
    )
    for level, (total, capacity) in levels.items():
        repeats = max(1, LEAST_MEMORY_BYTES // 8 // total)
        details = {"level": level, "capacity_bytes": capacity, "bytes": total}
        prepare = partial(_copy, total, repeats, threads)
        work, name = total * repeats, f"numpy copy, {level}"
        yield Kernel("bandwidth", "cpu", name, "float32", work, ran, prepare, details)


def caches(root: Path = Path("/")) -> dict[int, int]:
    """Return the size of one cache of data by level [bytes], as Linux tells; empty elsewhere."""
    found = {}
    units = {"K": 2**10, "M": 2**20, "G": 2**30}
    for folder in sorted((root / CACHES).glob("index[0-9]*")):
        try:
            level, kind, size = (
                (folder / name).read_text(encoding="ascii").strip()
                for name in ("level", "type", "size")
            )
            if kind != "Instruction":
                found[int(level)] = int(size[:-1]) * units[size[-1]]
        except (OSError, ValueError, KeyError, IndexError):
            continue  # a machine that tells less
    return found


def _copy(total: int, repeats: int, threads: int) -> Callable[[], Any]:
    """Copy half of `total` bytes onto the other half: each byte read once or written once."""

    def work(source: Any, target: Any) -> None:
        for _ in range(repeats):
            np.copyto(target, source)

    each = total // 2 // FLOAT_BYTES // threads
    pairs = [(np.ones(each, np.float32), np.zeros(each, np.float32)) for _ in range(threads)]
    return partial(_together, ThreadPoolExecutor(threads), work, pairs)


def _together(pool: ThreadPoolExecutor, work: Callable[..., None], pieces: list[Any]) -> None:
    """Do the pieces at once, one thread each."""
    for done in [pool.submit(work, *piece) for piece in pieces]:
        done.result()
