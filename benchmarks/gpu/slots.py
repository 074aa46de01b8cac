"""Try the runtime's parts on a real GPU without TensorRT: both CUDA libraries, slots, threads.

python benchmarks/gpu/slots.py     exits with 4 where there is no GPU

An engine that copies its input stands for TensorRT's: buffers, scratch memory that moves, CUDA
graphs, times, running out of memory, two threads, and torch in the same process are real.
"""

from __future__ import annotations

import importlib
import sys
import threading
import time
from typing import Any

import numpy as np

from cstl_edge.errors import BackendUnavailable
from cstl_edge.runtime.cuda.base import CudaError
from cstl_edge.runtime.cuda.open import LIBRARIES, open_buffers
from cstl_edge.runtime.tensorrt.slot import ExecutionSlot, Scratch

COUNT = 1024
SHAPES = {"in": (COUNT,)}
CALLS = 2000


class Record:
    """What a slot asks of an engine's record."""

    graph = "check"


class CopyContext:
    """What a slot asks of TensorRT's context; it copies its input to its output."""

    def __init__(self) -> None:
        self.addresses: dict[str, int] = {}
        self.cuda: Any = importlib.import_module("cuda.bindings.runtime")

    def set_tensor_address(self, name: str, pointer: int) -> bool:
        """Take an address."""
        self.addresses[name] = pointer
        return True

    def set_device_memory(self, pointer: int, nbytes: int) -> None:
        """Take scratch memory, which a copy does not need."""

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        """Return the shape of the output."""
        return (COUNT,)

    def execute_async_v3(self, stream: int) -> bool:
        """Put the copy into the stream."""
        kind = self.cuda.cudaMemcpyKind.cudaMemcpyDeviceToDevice
        source, target = self.addresses["in"], self.addresses["out"]
        (error,) = self.cuda.cudaMemcpyAsync(target, source, 4 * COUNT, kind, stream)
        return int(error) == 0


class CopyEngine:
    """What a slot asks of an engine."""

    inputs, out, types, record = ["in"], ["out"], {"in": np.float32, "out": np.float32}, Record()

    def context(self, shapes: Any, buffers: Any) -> tuple[CopyContext, int]:
        """Return a context, and that it wants a MiB to compute in."""
        return CopyContext(), 2**20


def make_slot(buffers: Any) -> ExecutionSlot:
    """Return a slot of its own."""
    engine: Any = CopyEngine()
    return ExecutionSlot(engine, Scratch(buffers), buffers, SHAPES)


def check(name: str) -> bool:
    """Run one CUDA library; return whether everything was right."""
    buffers = open_buffers(name)
    print(f"-- {buffers.name}: {buffers.gpu()}", flush=True)
    right = True
    slot, eager = make_slot(buffers), make_slot(buffers)
    for i in range(4):
        slot.host["in"][...] = np.arange(COUNT) + i
        same = np.array_equal(slot.run(True)["out"], slot.host["in"])
        right &= same
        print("   run", i, "ok" if same else "WRONG", "graph" if slot.captured else "eager")
    eager.run(False)
    print("   graph (both copies are in it):", slot.timed(), "eager:", eager.timed())
    for label, one, graph in (("graph", slot, True), ("eager", eager, False)):
        start = time.perf_counter()
        for _ in range(CALLS):
            one.run(graph)
        us = 1e6 * (time.perf_counter() - start) / CALLS
        print(f"   {label}: {us:.1f} us per call with Python around it")
    try:
        buffers.device(1 << 50)
        print("   WRONG: no error for a petabyte")
        right = False
    except CudaError as err:
        print("   out of memory:", str(err)[:100])
    slot.run(True)  # it has to live on
    right &= other_thread(name)
    buffers.close()
    buffers.close()
    return right


def other_thread(name: str) -> bool:
    """Let a thread of its own capture a graph while this one allocates."""
    answers: list[bool] = []

    def work() -> None:
        buffers = open_buffers(name)
        slot = make_slot(buffers)
        slot.host["in"][...] = 7
        answers.append(all(bool((slot.run(True)["out"] == 7).all()) for _ in range(3)))
        buffers.close()

    buffers = open_buffers(name)
    thread = threading.Thread(target=work)
    thread.start()
    for _ in range(50):
        buffers.release(buffers.device(4096))
    thread.join()
    buffers.close()
    print("   second thread:", answers)
    return answers == [True]


def beside_torch() -> bool:
    """Read a tensor of torch through our buffers: both have to be in the primary context."""
    try:
        import torch
    except ImportError:
        return True
    ones = torch.ones(4, device="cuda")
    torch.cuda.synchronize()
    buffers = open_buffers()
    array = buffers.pinned((4,), np.float32)
    buffers.download(array, ones.data_ptr())
    buffers.synchronize()
    right = bool((array == 1).all())
    print("-- beside torch:", array)
    buffers.close()
    return right


def main() -> int:
    """Check every CUDA library that is here."""
    right, found = True, False
    for name in LIBRARIES:
        try:
            right &= check(name)
            found = True
        except BackendUnavailable as err:
            print(f"-- {name}: not here: {err}")
    if not found:
        return 4
    return 0 if right & beside_torch() else 1


if __name__ == "__main__":
    sys.exit(main())
