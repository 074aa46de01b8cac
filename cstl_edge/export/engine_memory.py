"""Whether a build will fit: builders are killed for their memory on small devices, without a word.

The need is an estimate: it was not measured on a device yet.
"""

from __future__ import annotations

from pathlib import Path

from cstl_edge.errors import ExportError
from cstl_edge.runtime.cuda import Gpu

GIB = 2**30
MIB = 2**20
BUILDER_BYTES = 3 * GIB // 2  # libraries, their kernels and a CUDA context, before any graph
COPIES = 6  # of the weights: the file, the network, both precisions, tactics under test, the plan
MEMINFO = Path("/proc/meminfo")


def workspace(gpu: Gpu, wanted: int | None) -> int:
    """Return the scratch memory [bytes] for kernels: what is asked for, or a quarter of the free.

    Left to itself TensorRT takes all of it, which on a Jetson is the memory of everyone.
    """
    return wanted if wanted is not None else min(GIB, gpu.free_bytes // 4)


def check_memory(gpu: Gpu, graph_bytes: int, workspace_bytes: int) -> None:
    """Raise ExportError with advice when a build would not fit."""
    need = BUILDER_BYTES + COPIES * graph_bytes + workspace_bytes
    free, swap = _free_bytes(), _swap_bytes()
    if free is not None and free + swap < need:
        raise ExportError(
            f"expected about {need // MIB} MiB for the build; free are {free // MIB} MiB and "
            f"{swap // MIB} MiB of swap. {_advice(gpu)}"
        )
    if gpu.free_bytes < COPIES * graph_bytes + workspace_bytes:
        raise ExportError(
            f"expected about {(COPIES * graph_bytes + workspace_bytes) // MIB} MiB of GPU memory "
            f"for the build; {gpu.name} has {gpu.free_bytes // MIB} MiB free. {_advice(gpu)}"
        )


def _advice(gpu: Gpu) -> str:
    steps = ["Close what else runs", "or ask for less: --workspace 256, --level 2"]
    if gpu.integrated:
        steps.insert(1, "stop the desktop (sudo systemctl isolate multi-user.target)")
        steps.append("or add swap: sudo fallocate -l 4G /swap && sudo chmod 600 /swap && ")
        steps[-1] += "sudo mkswap /swap && sudo swapon /swap"
    return "; ".join(steps)


def _free_bytes() -> int | None:
    return _meminfo("MemAvailable")


def _swap_bytes() -> int:
    return _meminfo("SwapFree") or 0


def _meminfo(key: str) -> int | None:
    """Return an entry of /proc/meminfo [bytes], None where there is no such file."""
    try:
        lines = MEMINFO.read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    for line in lines:
        name, _, value = line.partition(":")
        if name == key:
            return int(value.split()[0]) * 1024
    return None
