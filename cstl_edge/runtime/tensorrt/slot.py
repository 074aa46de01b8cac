"""Execution slot: one context with fixed buffers per bucket, in the scratch memory of its thread.

Run on stand-ins so far, not on a device.
"""

from __future__ import annotations

import logging
import time
from typing import Any

import numpy as np

from cstl_edge.arrays import Array
from cstl_edge.errors import ModelError
from cstl_edge.runtime.cuda.base import Buffers, CudaError
from cstl_edge.runtime.tensorrt.engine import Engine, Shapes

log = logging.getLogger(__name__)


class Scratch:
    """The memory in which all contexts of a thread compute, one after the other.

    Left to itself every context takes its own; with a slot per bucket they would take gigabytes.
    """

    def __init__(self, buffers: Buffers) -> None:
        """Take a thread's memory; nothing is allocated yet."""
        self._buffers = buffers
        self.pointer, self.nbytes = 0, 0

    def reserve(self, nbytes: int) -> None:
        """Make the block at least so large; it may move, and what it held is gone.

        The stream must be idle. Raises CudaError when there is not so much memory.
        """
        if nbytes <= self.nbytes:
            return
        if self.pointer:
            pointer, self.pointer, self.nbytes = self.pointer, 0, 0
            self._buffers.release(pointer)
        self.pointer = self._buffers.device(nbytes)
        self.nbytes = nbytes


class ExecutionSlot:
    """A context for one bucket: inputs in pinned memory, one call, outputs in pinned memory."""

    def __init__(self, engine: Engine, scratch: Scratch, buffers: Buffers, shapes: Shapes) -> None:
        """Allocate everything that a call needs.

        Args:
            engine: Owner of the context.
            scratch: Memory of the thread for activations.
            buffers: Stream and memory of the thread.
            shapes: Shapes of the inputs.
        """
        self._buffers, self._engine, self._scratch = buffers, engine, scratch
        self._events: list[Any] = []
        self._context, self._scratch_bytes = engine.context(shapes, buffers)
        self._place: tuple[int, int] | None = None  # of the scratch memory the context knows
        shape_of = dict(shapes)
        for name in engine.out:
            shape_of[name] = tuple(self._context.get_tensor_shape(name))
        self.host = {name: buffers.pinned(shape_of[name], engine.types[name]) for name in shape_of}
        self._device = {name: buffers.device(array.nbytes) for name, array in self.host.items()}
        for name, pointer in self._device.items():
            if not self._context.set_tensor_address(name, pointer):
                raise ModelError(f"TensorRT takes no address for {name}")
        self._graph: Any = None
        self._refused = False  # a capture that failed is not tried again
        scratch.reserve(self._scratch_bytes)

    def run(self, cuda_graph: bool) -> dict[str, Array]:
        """Compute the inputs in `host`; return the outputs, which the next call overwrites.

        cuda_graph: True to capture a CUDA graph at the first call, and to replay it from then on.
        """
        self._move_in()
        if self._graph is not None:
            self._buffers.replay(self._graph)
        else:
            self._work()
        self._buffers.synchronize()
        if cuda_graph and self._graph is None and not self._refused:
            self._capture()
        return {name: self.host[name] for name in self._engine.out}

    @property
    def captured(self) -> bool:
        """Tell whether calls replay a CUDA graph."""
        return self._graph is not None

    def timed(self) -> dict[str, float]:
        """Do what `run` does and return its milliseconds by stage, as the GPU timed them.

        h2d, compute, d2h, and the sum as `device`; of a CUDA graph, which holds all three,
        `device` alone. `enqueue` is the time that the processor took to put the computation, or
        the graph, into the stream.
        """
        self._move_in()
        buffers = self._buffers
        self._events = self._events or [buffers.event() for _ in range(4)]
        first, before, after, last = self._events
        buffers.mark(first)
        if self._graph is None:
            self._upload()
            buffers.mark(before)
        start = time.perf_counter()
        if self._graph is None:
            self._compute()
        else:
            buffers.replay(self._graph)
        enqueue_ms = (time.perf_counter() - start) * 1e3
        if self._graph is None:
            buffers.mark(after)
            self._download()
        buffers.mark(last)
        buffers.synchronize()
        stages = {"device": buffers.elapsed_ms(first, last), "enqueue": enqueue_ms}
        if self._graph is None:
            spans = {"h2d": (first, before), "compute": (before, after), "d2h": (after, last)}
            stages |= {name: buffers.elapsed_ms(*span) for name, span in spans.items()}
        return stages

    def _move_in(self) -> None:
        """Hand the scratch memory to the context where it moved; a graph of the old place goes."""
        self._scratch.reserve(self._scratch_bytes)
        place = self._scratch.pointer, self._scratch.nbytes
        if self._scratch_bytes and place != self._place:
            self._context.set_device_memory(*place)
            self._graph = None
        self._place = place

    def _work(self) -> None:
        """Put copies and computation into the stream."""
        self._upload()
        self._compute()
        self._download()

    def _upload(self) -> None:
        for name in self._engine.inputs:
            self._buffers.upload(self._device[name], self.host[name])

    def _compute(self) -> None:
        if not self._context.execute_async_v3(self._buffers.stream):
            raise CudaError(f"TensorRT refuses to run {self._engine.record.graph}")

    def _download(self) -> None:
        for name in self._engine.out:
            self._buffers.download(self.host[name], self._device[name])

    def _capture(self) -> None:
        """Capture the call that just ran, and keep the graph only if it gives the same numbers."""
        expected = {name: self.host[name].copy() for name in self._engine.out}
        shown = f"{self._engine.record.graph} {[list(a.shape) for a in self.host.values()]}"
        try:
            graph = self._buffers.capture(self._work)
            for name in self._engine.out:  # an empty graph would find the outputs on the GPU
                self.host[name].fill(-1)
                self._buffers.upload(self._device[name], self.host[name])
            self._buffers.replay(graph)
            self._buffers.synchronize()
            if not all(
                np.allclose(self.host[name], expected[name], rtol=1e-3, atol=1e-5, equal_nan=True)
                for name in expected
            ):
                raise ModelError("it gave other numbers")
        except ModelError as err:
            for name, array in expected.items():
                self.host[name][...] = array
            self._refused = True
            log.warning("%s runs without a CUDA graph: %s", shown, err)
            return
        self._graph = graph
        log.debug("%s runs as a CUDA graph", shown)
