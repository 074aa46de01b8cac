"""Protocol for memory, copies and CUDA graphs on an NVIDIA GPU, and the record of a GPU.

Two libraries serve: NVIDIA's `cuda.bindings` (the first choice) and pycuda, the latter only ever in
the GPU's primary context. `CSTL_EDGE_CUDA_BACKEND` decides, where one is wanted. Neither has run on
a device yet; the conformance suite runs both on a stand-in for their libraries.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy.typing as npt

from cstl_edge.errors import ModelError


@dataclass(frozen=True)
class Gpu:
    """The GPU that engines are built on and run on."""

    name: str  # as the driver reports it, e.g. `Orin`
    sm: int  # compute capability as one number: 87 for 8.7
    free_bytes: int
    total_bytes: int
    integrated: bool  # where the GPU shares its memory with the processor, as on a Jetson
    cuda: str  # the newest CUDA that the driver serves, e.g. `12.6`
    multiprocessors: int | None = None  # tells an AGX Orin from an NX or a Nano, all named `Orin`


class CudaError(ModelError):
    """The GPU or its driver refused something: out of memory, gone, or a fault before."""


class Buffers(Protocol):
    """One thread's stream on the GPU and all memory it was given. Not thread-safe.

    Pointers are plain numbers, so that TensorRT is called the same way with every library. Every
    method raises CudaError when the driver refuses.
    """

    name: str  # of the library that serves
    stream: int  # its handle: never the default stream's, which makes TensorRT wait

    def gpu(self) -> Gpu:
        """Return which GPU this is, and how much of its memory is free now."""

    def device(self, nbytes: int) -> int:
        """Return a pointer to `nbytes` > 0 bytes on the GPU."""

    def release(self, pointer: int) -> None:
        """Give memory of `device` back; no work of the stream may use it any more."""

    def pinned(self, shape: tuple[int, ...], dtype: npt.DTypeLike) -> npt.NDArray[Any]:
        """Return an array in page-locked memory of the host, filled with zeros."""

    def mapped(self, shape: tuple[int, ...], dtype: npt.DTypeLike) -> tuple[npt.NDArray[Any], int]:
        """Return an array of zeros in page-locked memory, and the GPU's pointer to the same bytes.

        Worth it where the GPU shares its memory with the processor: nothing is copied.
        """

    def copy(self, target: int, source: int, nbytes: int) -> None:
        """Copy bytes from the GPU's memory to the GPU's memory, in the stream's order."""

    def zero(self, target: int, nbytes: int) -> None:
        """Fill bytes of the GPU's memory with zeros, in the stream's order."""

    def upload(self, target: int, source: npt.NDArray[Any]) -> None:
        """Copy a whole pinned array to the GPU, in the stream's order."""

    def download(self, target: npt.NDArray[Any], source: int) -> None:
        """Fill a pinned array from the GPU, in the stream's order."""

    def synchronize(self) -> None:
        """Wait until all work of the stream is done."""

    def capture(self, work: Callable[[], None]) -> Any:
        """Return a graph of what `work` puts into the stream; nothing of it runs yet.

        Capturing ends in any case; what `work` raises comes through.
        """

    def replay(self, graph: Any) -> None:
        """Put a captured graph into the stream."""

    def event(self) -> Any:
        """Return a new event for `mark`, to be used again and again."""

    def mark(self, event: Any) -> None:
        """Let an event happen when the stream comes to it."""

    def elapsed_ms(self, first: Any, second: Any) -> float:
        """Return milliseconds between two events that have happened, as the GPU timed them."""

    def close(self) -> None:
        """Give everything back: stream, memory, graphs, events. A second call does nothing."""
