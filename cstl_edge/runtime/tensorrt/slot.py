"""Execution slot: one context with fixed buffers per bucket, in the scratch memory of its thread.

Run on stand-ins so far, not on a device.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Collection
from typing import Any

import numpy as np

from cstl_edge.arrays import Array
from cstl_edge.errors import ModelError
from cstl_edge.runtime.cuda.base import Buffers, CudaError
from cstl_edge.runtime.tensorrt.engine import Engine, Shapes

log = logging.getLogger(__name__)

STAYING = ("features",)
"""Tensors that stay on the GPU between `frames` and `head`: copied for who asks, outside graphs."""


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

        Raises CudaError when there is not so much memory.
        """
        if nbytes <= self.nbytes:
            return
        if self.pointer:
            self._buffers.synchronize()
            pointer, self.pointer, self.nbytes = self.pointer, 0, 0
            self._buffers.release(pointer)
        self.pointer = self._buffers.device(nbytes)
        self.nbytes = nbytes


class ExecutionSlot:
    """A context for one bucket: inputs in pinned memory, one call, outputs in pinned memory.

    Where the GPU shares the host's memory both sides use the same bytes, and nothing is copied but
    what is in `STAYING`, which is the GPU's own in any case.
    """

    def __init__(
        self,
        engine: Engine,
        scratch: Scratch,
        buffers: Buffers,
        shapes: Shapes,
        *,
        mapped: bool = False,
    ) -> None:
        """Allocate everything that a call needs.

        Args:
            engine: Owner of the context.
            scratch: Memory of the thread for activations.
            buffers: Stream and memory of the thread.
            shapes: Shapes of the inputs.
            mapped: True where the GPU shares the host's memory.
        """
        self._buffers, self._engine, self._scratch = buffers, engine, scratch
        self._events: list[Any] = []
        self._context, self._scratch_bytes = engine.context(shapes, buffers)
        self._place: tuple[int, int] | None = None  # of the scratch memory the context knows
        shape_of = dict(shapes)
        for name in engine.out:
            shape_of[name] = tuple(self._context.get_tensor_shape(name))
        self.host: dict[str, Array] = {}
        self.device: dict[str, int] = {}  # pointers by the name of an input or output
        self._own = {name for name in shape_of if not mapped or name in STAYING}
        for name, shape in shape_of.items():
            if name in self._own:
                self.host[name] = buffers.pinned(shape, engine.types[name])
                self.device[name] = buffers.device(self.host[name].nbytes)
            else:
                self.host[name], self.device[name] = buffers.mapped(shape, engine.types[name])
        for name, pointer in self.device.items():
            if not self._context.set_tensor_address(name, pointer):
                raise ModelError(f"TensorRT takes no address for {name}")
        self._graph: Any = None
        self._refused = False  # a capture that failed is not tried again
        self._running = False  # whether the stream may still read `host`
        scratch.reserve(self._scratch_bytes)

    def run(self, cuda_graph: bool, *, staying: bool = False) -> dict[str, Array]:
        """Compute the inputs in `host`; return the outputs, which the next call overwrites.

        Args:
            cuda_graph: True to capture a CUDA graph at the first call, and to replay it from then
                on.
            staying: True to leave what is in `STAYING` on the GPU, as an input and as an output.
                Where that is all there is to wait for, nothing is waited for: see `settle`.
        """
        self._move_in()
        if not staying:
            self._upload(STAYING)
        if self._graph is not None:
            self._buffers.replay(self._graph)
        else:
            self._work()
        outputs = [name for name in self._engine.out if not (staying and name in STAYING)]
        if not staying:
            self._download(STAYING)
        self._running = True
        first = cuda_graph and self._graph is None and not self._refused
        if outputs or first:
            self.settle()
        if first:
            self._capture()
        return {name: self.host[name] for name in outputs}

    def settle(self) -> None:
        """Wait until `host` may be written again."""
        if self._running:
            self._buffers.synchronize()
            self._running = False

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
        self._upload(STAYING)
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
        self._download(STAYING)
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
        """Put copies and computation into the stream, without what is in `STAYING`."""
        self._upload()
        self._compute()
        self._download()

    def _upload(self, names: Collection[str] | None = None) -> None:
        for name in self._copied(self._engine.inputs, names):
            self._buffers.upload(self.device[name], self.host[name])

    def _compute(self) -> None:
        if not self._context.execute_async_v3(self._buffers.stream):
            raise CudaError(f"TensorRT refuses to run {self._engine.record.graph}")

    def _download(self, names: Collection[str] | None = None) -> None:
        for name in self._copied(self._engine.out, names):
            self._buffers.download(self.host[name], self.device[name])

    def _copied(self, side: Collection[str], names: Collection[str] | None) -> list[str]:
        """Return which inputs or outputs are copied: `names`, or all but `STAYING`."""
        copied = [name for name in side if name in self._own]
        return [n for n in copied if (n not in STAYING if names is None else n in names)]

    def _capture(self) -> None:
        """Capture the call that just ran, and keep the graph only if it gives the same numbers."""
        self._download(STAYING)
        self._buffers.synchronize()
        expected = {name: self.host[name].copy() for name in self._engine.out}
        shown = f"{self._engine.record.graph} {[list(a.shape) for a in self.host.values()]}"
        try:
            graph = self._buffers.capture(self._work)
            for name in self._engine.out:  # an empty graph would find the outputs on the GPU
                self.host[name].fill(-1)
                self._put_back(name)
            self._buffers.replay(graph)
            self._download(STAYING)
            self._buffers.synchronize()
            if not all(
                np.allclose(self.host[name], expected[name], rtol=1e-3, atol=1e-5, equal_nan=True)
                for name in expected
            ):
                raise ModelError("it gave other numbers")
        except ModelError as err:
            for name, array in expected.items():
                self.host[name][...] = array
                self._put_back(name)
            self._buffers.synchronize()
            self._refused = True
            log.warning("%s runs without a CUDA graph: %s", shown, err)
            return
        self._graph = graph
        log.debug("%s runs as a CUDA graph", shown)

    def _put_back(self, name: str) -> None:
        """Write an output of `host` to the GPU, where that is another place."""
        if name in self._own:
            self._buffers.upload(self.device[name], self.host[name])
