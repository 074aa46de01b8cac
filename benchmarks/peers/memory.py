"""The most memory that a network of the comparison needs, in a process of its own."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import multiprocessing
import tempfile
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import torch

from peers.networks import FRAMES
from peers.running import WHOLE, Eager, Onnx, Runner, coarse, drawn, exported

STATUS, RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")
RUNS = 3


def peak_memory_mb(name: str, widths: str, backend: str, threads: int) -> float | None:
    """Return what whole windows need at most over the loaded libraries [MB], weights included.

    None where the system does not tell the peak of a process.
    """
    spawn = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as folder:
        graph = Path(folder) / "full.onnx"
        if backend == "onnxruntime":
            graph.write_bytes(exported(drawn(name, widths), only=(WHOLE,))[WHOLE])
        with ProcessPoolExecutor(1, mp_context=spawn) as child:
            return child.submit(_peak, name, widths, backend, graph, threads).result()


def _peak(name: str, widths: str, backend: str, graph: Path, threads: int) -> float | None:
    """Load a network and run it a few times in this process; see `peak_memory_mb`."""
    torch.set_num_threads(threads)
    silhouettes = coarse(FRAMES)

    def use(times: int) -> None:
        runner: Runner
        if backend == "onnxruntime":
            runner = Onnx({WHOLE: graph.read_bytes()}, threads)
        else:
            runner = Eager(drawn(name, widths))
        for _ in range(times):
            runner.whole(silhouettes)

    use(1)  # what libraries load at their first call is theirs
    return peak_of(lambda: use(RUNS))


def peak_of(use: Callable[[], None]) -> float | None:
    """Return by how much a call raises this process's memory at most [MB]; None where unknown."""
    _give_back()
    before = _status_mb("VmRSS")
    try:
        RESET.write_text("5")  # forgets the peak so far
    except OSError:
        return None
    use()
    peak = _status_mb("VmHWM")
    return None if before is None or peak is None else round(peak - before, 1)


def _give_back() -> None:
    """Return what is free to the system, so that using it again counts."""
    gc.collect()
    with contextlib.suppress(OSError, AttributeError, TypeError):  # not glibc
        ctypes.CDLL(None).malloc_trim(0)


def _status_mb(key: str) -> float | None:
    try:
        lines = STATUS.read_text(encoding="utf-8").splitlines()
    except OSError:
        return None
    found = [line.split()[1] for line in lines if line.startswith(f"{key}:")]
    return int(found[0]) / 1024 if found else None
