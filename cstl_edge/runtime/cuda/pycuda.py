"""`Buffers` on pycuda, in the primary context of the GPU.

A context of its own would not be seen by plugins, torch and TensorRT. pycuda knows no stream
capture: CUDA graphs go through the driver's library, on the same stream.
"""

from __future__ import annotations

import atexit
import ctypes
import threading
from collections.abc import Callable
from typing import Any

import numpy.typing as npt

from cstl_edge.runtime.cuda.base import CudaError, Gpu

THREAD_LOCAL = 1  # CU_STREAM_CAPTURE_MODE_THREAD_LOCAL


_LOCAL = threading.local()


class _ClosedElsewhere:
    """Contexts that one thread pushed and another closed: they wait to be popped where they are.

    Each thread has a stack of its own, and pycuda aborts the process at its end when one is left.
    """

    def __init__(self) -> None:
        self.contexts: list[Any] = []
        if threading.current_thread() is threading.main_thread():
            atexit.register(self.pop)

    def pop(self) -> None:
        """Pop them; to be called in the thread that pushed them."""
        while self.contexts:
            self.contexts.pop().pop()

    def __del__(self) -> None:
        self.pop()  # the thread ends

    @staticmethod
    def of_this_thread() -> _ClosedElsewhere:
        """Return the one of the calling thread."""
        waiting: _ClosedElsewhere | None = getattr(_LOCAL, "waiting", None)
        if waiting is None:
            waiting = _LOCAL.waiting = _ClosedElsewhere()
        return waiting


class PycudaBuffers:
    """One thread's stream on the first device. Raises ImportError, CudaError."""

    def __init__(self) -> None:
        """Make the primary context current in this thread, and a stream in it."""
        import pycuda
        import pycuda.driver as driver

        self.name = f"pycuda {pycuda.VERSION_TEXT}"
        self._driver: Any = driver
        self._kept: list[Any] = []  # pycuda frees what has no reference
        self._memory: dict[int, Any] = {}  # of the GPU, by address
        self._waiting = _ClosedElsewhere.of_this_thread()
        self._waiting.pop()
        self._graphs: list[ctypes.c_void_p] = []
        self._library: Any = None
        self._context: Any = None
        self._call_pycuda(driver.init)
        context = self._call_pycuda(driver.Device(0).retain_primary_context)
        context.push()
        self._context, self._thread = context, threading.get_ident()
        non_blocking = 1  # CU_STREAM_NON_BLOCKING
        self._stream = self._call_pycuda(driver.Stream, non_blocking)
        self.stream = int(self._stream.handle)

    def gpu(self) -> Gpu:
        """Return which GPU this is, and how much of its memory is free now."""
        device = self._context.get_device()
        major, minor = device.compute_capability()
        free, total = self._call_pycuda(self._driver.mem_get_info)
        attribute = self._driver.device_attribute
        integrated = device.get_attribute(attribute.INTEGRATED)
        version = self._driver.get_driver_version()
        return Gpu(
            name=device.name(),
            sm=10 * major + minor,
            free_bytes=free,
            total_bytes=total,
            integrated=bool(integrated),
            cuda=f"{version // 1000}.{version % 1000 // 10}",
            multiprocessors=device.get_attribute(attribute.MULTIPROCESSOR_COUNT),
        )

    def device(self, nbytes: int) -> int:
        """Return a pointer to `nbytes` bytes on the GPU."""
        memory = self._call_pycuda(self._driver.mem_alloc, nbytes)
        self._memory[int(memory)] = memory
        return int(memory)

    def release(self, pointer: int) -> None:
        """Give memory of `device` back."""
        del self._memory[pointer]

    def pinned(self, shape: tuple[int, ...], dtype: npt.DTypeLike) -> npt.NDArray[Any]:
        """Return an array of zeros in page-locked memory."""
        array: npt.NDArray[Any] = self._call_pycuda(self._driver.pagelocked_zeros, shape, dtype)
        self._kept.append(array)
        return array

    def mapped(self, shape: tuple[int, ...], dtype: npt.DTypeLike) -> tuple[npt.NDArray[Any], int]:
        """Return an array of zeros in page-locked memory, and the GPU's pointer to it."""
        flag = self._driver.host_alloc_flags.DEVICEMAP
        zeros = self._driver.pagelocked_zeros
        array: npt.NDArray[Any] = self._call_pycuda(zeros, shape, dtype, "C", flag)
        self._kept.append(array)
        base: Any = array.base
        return array, int(self._call_pycuda(base.get_device_pointer))

    def copy(self, target: int, source: int, nbytes: int) -> None:
        """Copy bytes within the GPU's memory, in the stream's order."""
        self._call_pycuda(self._driver.memcpy_dtod_async, target, source, nbytes, self._stream)

    def zero(self, target: int, nbytes: int) -> None:
        """Fill bytes of the GPU's memory with zeros, in the stream's order."""
        self._call_pycuda(self._driver.memset_d8_async, target, 0, nbytes, self._stream)

    def upload(self, target: int, source: npt.NDArray[Any]) -> None:
        """Copy a pinned array to the GPU, in the stream's order."""
        self._call_pycuda(self._driver.memcpy_htod_async, target, source, self._stream)

    def download(self, target: npt.NDArray[Any], source: int) -> None:
        """Fill a pinned array from the GPU, in the stream's order."""
        self._call_pycuda(self._driver.memcpy_dtoh_async, target, source, self._stream)

    def synchronize(self) -> None:
        """Wait until all work of the stream is done."""
        self._call_pycuda(self._stream.synchronize)

    def capture(self, work: Callable[[], None]) -> Any:
        """Return a graph of what `work` puts into the stream."""
        recorded, graph = ctypes.c_void_p(), ctypes.c_void_p()
        stream = ctypes.c_void_p(self.stream)
        self._call_driver("cuStreamBeginCapture_v2", stream, THREAD_LOCAL)
        try:
            work()
        except BaseException:
            self._cuda().cuStreamEndCapture(stream, ctypes.byref(recorded))
            raise
        self._call_driver("cuStreamEndCapture", stream, ctypes.byref(recorded))
        try:
            flags = ctypes.c_ulonglong(0)
            self._call_driver("cuGraphInstantiateWithFlags", ctypes.byref(graph), recorded, flags)
        finally:
            self._call_driver("cuGraphDestroy", recorded)
        self._graphs.append(graph)
        return graph

    def replay(self, graph: Any) -> None:
        """Put a captured graph into the stream."""
        self._call_driver("cuGraphLaunch", graph, ctypes.c_void_p(self.stream))

    def event(self) -> Any:
        """Return a new event, which pycuda destroys with its last reference."""
        return self._call_pycuda(self._driver.Event)

    def mark(self, event: Any) -> None:
        """Let an event happen when the stream comes to it."""
        self._call_pycuda(event.record, self._stream)

    def elapsed_ms(self, first: Any, second: Any) -> float:
        """Return milliseconds between two events that have happened."""
        return float(self._call_pycuda(second.time_since, first))

    def close(self) -> None:
        """Give everything back, and take the context off the thread it was pushed in."""
        context, self._context = self._context, None
        if context is None:
            return
        for graph in self._graphs:
            self._cuda().cuGraphExecDestroy(graph)
        self._graphs, self._kept, self._memory, self._stream = [], [], {}, None
        if threading.get_ident() == self._thread:
            context.pop()
        else:
            self._waiting.contexts.append(context)

    def _cuda(self) -> Any:
        """Return the driver's library, opened when graphs are wanted."""
        if self._library is None:
            try:
                self._library = ctypes.CDLL("libcuda.so.1")
            except OSError as err:
                raise CudaError(f"no CUDA graphs: {err}") from err
        return self._library

    def _call_driver(self, function: str, *arguments: Any) -> None:
        """Call the driver's library; CudaError with the number it returns."""
        error = getattr(self._cuda(), function)(*arguments)
        if error != 0:
            raise CudaError(f"{function}: CUDA error {error}")

    def _call_pycuda(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Call pycuda (CudaError with its message)."""
        try:
            return function(*arguments)
        except self._driver.Error as err:
            raise CudaError(str(err)) from err
