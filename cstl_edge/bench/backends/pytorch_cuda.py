"""PyTorch on an NVIDIA GPU: eager, compiled, and as a CUDA graph. Not run on a device yet.

A call goes from pinned memory to pinned memory; events of the GPU time copies and computation.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from cstl_edge.arrays import Array
from cstl_edge.bench.backends.base import GRAPHS, Backend, GraphUnderTest, Unavailable
from cstl_edge.bench.backends.pytorch import compiled, compiled_graphs, missing, network
from cstl_edge.bench.context import Context
from cstl_edge.bench.record import Ran
from cstl_edge.errors import BackendUnavailable, ModelError, one_line
from cstl_edge.measure.timing import Stages
from cstl_edge.runtime.backends.pytorch import TorchGraph
from cstl_edge.runtime.graph import Arrays

MODES = {"": "eager", ", compiled": "compiled", ", cuda graph": "cuda graph"}
DEVICE = "cuda"
WARM_UP = 3  # runs before a capture: libraries choose their kernels in the first ones


def backends(context: Context) -> Iterator[Backend | Unavailable]:
    """Yield float32 and float16 in every mode, where a GPU answers."""
    reason = _no_gpu() or missing(context)
    for precision in ("float32", "float16"):
        for option, mode in MODES.items():
            name = f"pytorch {precision}, cuda{option}"
            if reason:
                yield Unavailable(name, reason)
            elif mode != "compiled" or not context.short:
                graphs = compiled_graphs(context) if mode == "compiled" else GRAPHS
                yield Backend(name, partial(_open_graph, context, precision, mode), graphs)


def _no_gpu() -> str | None:
    try:
        import torch
    except ImportError:
        return None  # `missing` reports it
    return None if torch.cuda.is_available() else "no NVIDIA GPU answers PyTorch"


def _open_graph(
    context: Context, precision: str, mode: str, graph: str, feed: Arrays
) -> GraphUnderTest:
    """Open a graph (ModelError where the GPU's memory does not hold it)."""
    import torch

    assert context.weights is not None
    try:
        model = copy.deepcopy(network(context.weights)).to(DEVICE, getattr(torch, precision))
        opened = TorchGraph(model, graph)
        if mode == "compiled":
            opened.compute = compiled(opened.compute, opened.tensors(feed))
        run = CudaRun(opened, feed, captured=mode == "cuda graph")
        run.once()
    except torch.cuda.OutOfMemoryError as err:
        torch.cuda.empty_cache()
        raise ModelError(f"the GPU's memory is too small: {one_line(err)}") from err

    def close() -> None:
        if mode == "compiled":
            torch.compiler.reset()  # compiled forms are kept by function, see `pytorch`
        torch.cuda.empty_cache()

    ran = _ran(precision, mode)
    return GraphUnderTest(
        ran=ran, inputs=run.inputs, run=run.once, outputs=run.outputs, close=close
    )


class CudaRun:
    """A graph with its inputs, outputs and stream, all made before the first call that counts."""

    def __init__(self, graph: TorchGraph, feed: Arrays, captured: bool) -> None:
        """Run the graph once, and capture it (BackendUnavailable where that fails).

        Args:
            graph: Graph of a network on the GPU.
            feed: Inputs by name.
            captured: True for a CUDA graph; without lengths, which are the whole windows' here:
                their check needs an answer of the GPU, which a capture forbids.
        """
        import torch

        self._torch, self._graph = torch, graph
        hosts = {name: _pinned(torch.tensor(feed[name])) for name in graph.inputs}
        self.inputs: Arrays = {name: host.numpy() for name, host in hosts.items()}
        self._copies = [(host.to(DEVICE), host) for host in hosts.values()]
        self._device_inputs = [device for device, _ in self._copies][: 1 if captured else None]
        self._stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        event: Callable[..., Any] = torch.cuda.Event
        self._events = [event(enable_timing=True) for _ in range(4)]
        self._captured: Any = None
        with torch.inference_mode(), torch.cuda.stream(self._stream):
            self._answers = graph.compute(*self._device_inputs)
            self._outputs = [
                None if x is None else _pinned(torch.empty(x.shape, dtype=x.dtype))
                for x in self._answers
            ]
        self._stream.synchronize()
        if captured:
            self._capture()

    def _capture(self) -> None:
        torch = self._torch
        with torch.inference_mode(), torch.cuda.stream(self._stream):
            for _ in range(WARM_UP):
                self._graph.compute(*self._device_inputs)
            self._stream.synchronize()
            captured = torch.cuda.CUDAGraph()
            try:
                with torch.cuda.graph(captured, stream=self._stream):
                    self._answers = self._graph.compute(*self._device_inputs)
            except RuntimeError as err:
                raise BackendUnavailable(f"no CUDA graph: {one_line(err)}") from err
        self._captured = captured

    def once(self) -> Stages:
        """Copy in, compute, copy out; return milliseconds by stage as the GPU timed them."""
        first, before, after, last = self._events
        with self._torch.inference_mode(), self._torch.cuda.stream(self._stream):
            first.record()
            for target, source in self._copies:
                target.copy_(source, non_blocking=True)
            before.record()
            start = time.perf_counter()
            if self._captured is None:
                self._answers = self._graph.compute(*self._device_inputs)
            else:
                self._captured.replay()
            enqueue_ms = (time.perf_counter() - start) * 1e3
            after.record()
            for output, answer in zip(self._outputs, self._answers, strict=True):
                if output is not None:
                    output.copy_(answer, non_blocking=True)
            last.record()
        self._stream.synchronize()
        return {
            "device": first.elapsed_time(last),
            "h2d": first.elapsed_time(before),
            "compute": before.elapsed_time(after),
            "d2h": after.elapsed_time(last),
            "enqueue": enqueue_ms,
        }

    def outputs(self) -> dict[str, Array]:
        """Return the outputs of the last call by name, float16 as float32."""
        return {name: array.copy() for name, array in self._graph.named(self._outputs).items()}


def _pinned(tensor: Any) -> Any:
    """Return a copy in page-locked memory, which alone is copied while the processor goes on."""
    return tensor.pin_memory()


def _ran(precision: str, mode: str) -> Ran:
    """Return what really ran: float32 convolutions are TF32 on a GPU unless that is forbidden."""
    import torch

    narrowed = torch.backends.cudnn.allow_tf32 and torch.cuda.get_device_capability() >= (8, 0)
    return Ran(
        backend="pytorch",
        provider=torch.cuda.get_device_name(),
        precision=precision,
        computed_in="tfloat32" if precision == "float32" and narrowed else precision,
        version=torch.__version__,
        threads=torch.get_num_threads(),
        options={mode: "yes"} if mode != "eager" else {},
    )
