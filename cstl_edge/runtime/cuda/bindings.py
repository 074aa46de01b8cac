"""`Buffers` on NVIDIA's `cuda.bindings`, its runtime API alone.

The driver's own signatures change between 12 and 13. The runtime API works in the primary context,
as TensorRT and torch do.
"""

from __future__ import annotations

import ctypes
import importlib
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import numpy as np
import numpy.typing as npt

from cstl_edge.runtime.cuda.base import CudaError, Gpu


class BindingsBuffers:
    """One thread's stream on the current device. Raises ImportError, CudaError."""

    def __init__(self) -> None:
        """Take the current device and make a stream on it."""
        runtime = importlib.import_module("cuda.bindings.runtime")
        self.name = f"cuda.bindings {importlib.import_module('cuda.bindings').__version__}"
        self._cuda: Any = runtime
        self._held = ExitStack()  # gives back the last first, and none twice
        self._memory: dict[int, Any] = {}  # of the GPU, by address
        stream = self._call("cudaStreamCreateWithFlags", runtime.cudaStreamNonBlocking)
        self._stream, self.stream = self._hold(stream, "cudaStreamDestroy"), int(stream)

    def gpu(self) -> Gpu:
        """Return which GPU this is, and how much of its memory is free now."""
        properties = self._call("cudaGetDeviceProperties", self._call("cudaGetDevice"))
        free, total = self._call("cudaMemGetInfo")
        version = self._call("cudaDriverGetVersion")  # 12060 for 12.6
        return Gpu(
            name=bytes(properties.name).split(b"\0")[0].decode(errors="replace"),
            sm=10 * properties.major + properties.minor,
            free_bytes=int(free),
            total_bytes=int(total),
            integrated=bool(properties.integrated),
            cuda=f"{version // 1000}.{version % 1000 // 10}",
            multiprocessors=int(properties.multiProcessorCount),
        )

    def device(self, nbytes: int) -> int:
        """Return a pointer to `nbytes` bytes on the GPU."""
        handle = self._call("cudaMalloc", nbytes)
        self._memory[int(handle)] = handle
        return int(handle)

    def release(self, pointer: int) -> None:
        """Give memory of `device` back."""
        self._call("cudaFree", self._memory.pop(pointer))

    def pinned(self, shape: tuple[int, ...], dtype: npt.DTypeLike) -> npt.NDArray[Any]:
        """Return an array of zeros in page-locked memory."""
        nbytes = int(np.prod(shape)) * np.dtype(dtype).itemsize
        pointer = self._hold(self._call("cudaMallocHost", nbytes), "cudaFreeHost")
        return _zeros_at(int(pointer), nbytes, shape, dtype)

    def mapped(self, shape: tuple[int, ...], dtype: npt.DTypeLike) -> tuple[npt.NDArray[Any], int]:
        """Return an array of zeros in page-locked memory, and the GPU's pointer to it."""
        nbytes = int(np.prod(shape)) * np.dtype(dtype).itemsize
        flag = self._cuda.cudaHostAllocMapped
        pointer = self._hold(self._call("cudaHostAlloc", nbytes, flag), "cudaFreeHost")
        own = int(self._call("cudaHostGetDevicePointer", pointer, 0))
        return _zeros_at(int(pointer), nbytes, shape, dtype), own

    def copy(self, target: int, source: int, nbytes: int) -> None:
        """Copy bytes within the GPU's memory, in the stream's order."""
        kind = self._cuda.cudaMemcpyKind.cudaMemcpyDeviceToDevice
        self._call("cudaMemcpyAsync", target, source, nbytes, kind, self._stream)

    def zero(self, target: int, nbytes: int) -> None:
        """Fill bytes of the GPU's memory with zeros, in the stream's order."""
        self._call("cudaMemsetAsync", target, 0, nbytes, self._stream)

    def upload(self, target: int, source: npt.NDArray[Any]) -> None:
        """Copy a pinned array to the GPU, in the stream's order."""
        kind = self._cuda.cudaMemcpyKind.cudaMemcpyHostToDevice
        self._call("cudaMemcpyAsync", target, source.ctypes.data, source.nbytes, kind, self._stream)

    def download(self, target: npt.NDArray[Any], source: int) -> None:
        """Fill a pinned array from the GPU, in the stream's order."""
        kind = self._cuda.cudaMemcpyKind.cudaMemcpyDeviceToHost
        self._call("cudaMemcpyAsync", target.ctypes.data, source, target.nbytes, kind, self._stream)

    def synchronize(self) -> None:
        """Wait until all work of the stream is done."""
        self._call("cudaStreamSynchronize", self._stream)

    def capture(self, work: Callable[[], None]) -> Any:
        """Return a graph of what `work` puts into the stream."""
        mode = self._cuda.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal
        self._call("cudaStreamBeginCapture", self._stream, mode)
        try:
            work()
        except BaseException:
            self._cuda.cudaStreamEndCapture(self._stream)  # its own complaint would hide the cause
            raise
        recorded = self._call("cudaStreamEndCapture", self._stream)
        try:
            graph = self._call("cudaGraphInstantiate", recorded, 0)
        finally:
            self._call("cudaGraphDestroy", recorded)
        return self._hold(graph, "cudaGraphExecDestroy")

    def replay(self, graph: Any) -> None:
        """Put a captured graph into the stream."""
        self._call("cudaGraphLaunch", graph, self._stream)

    def event(self) -> Any:
        """Return a new event."""
        return self._hold(self._call("cudaEventCreate"), "cudaEventDestroy")

    def mark(self, event: Any) -> None:
        """Let an event happen when the stream comes to it."""
        self._call("cudaEventRecord", event, self._stream)

    def elapsed_ms(self, first: Any, second: Any) -> float:
        """Return milliseconds between two events that have happened."""
        return float(self._call("cudaEventElapsedTime", first, second))

    def close(self) -> None:
        """Give everything back, as far as the GPU is still there."""
        while self._memory:
            self._cuda.cudaFree(self._memory.popitem()[1])  # its own complaint helps nobody
        self._held.close()

    def _hold(self, handle: Any, release: str) -> Any:
        """Return a handle that `close` releases by a function, whose errors are ignored."""
        self._held.callback(getattr(self._cuda, release), handle)
        return handle

    def _call(self, function: str, *arguments: Any) -> Any:
        """Call the runtime: what it returns, or CudaError with the message of the driver."""
        error, *answers = getattr(self._cuda, function)(*arguments)
        if int(error) != 0:
            _, words = self._cuda.cudaGetErrorString(error)
            raise CudaError(f"{function}: {bytes(words).decode()} (CUDA error {int(error)})")
        return answers[0] if len(answers) == 1 else answers


def _zeros_at(
    pointer: int, nbytes: int, shape: tuple[int, ...], dtype: npt.DTypeLike
) -> npt.NDArray[Any]:
    """Return an array over memory of the host that lives as long as the buffers, zeroed."""
    memory: Any = (ctypes.c_uint8 * nbytes).from_address(pointer)
    array: npt.NDArray[Any] = np.frombuffer(memory, dtype).reshape(shape)
    array.fill(0)
    return array
