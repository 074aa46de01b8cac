"""PyTorch on an NVIDIA GPU: eager, compiled, and as a CUDA graph. Not run on a device yet.

A call goes from pinned memory to pinned memory; events of the GPU time copies and computation.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

from cstl_edge.bench.backends.base import GRAPHS, Arrays, Backend, Call, Unavailable
from cstl_edge.bench.backends.pytorch import OUTPUTS, compiled, function, missing, network
from cstl_edge.bench.context import Context
from cstl_edge.bench.record import Ran
from cstl_edge.errors import BackendUnavailable, ModelError, one_line
from cstl_edge.measure.timing import Stages

WAYS = {"": "eager", ", compiled": "compiled", ", cuda graph": "cuda graph"}
DEVICE = "cuda"
WARM_UP = 3  # runs before a capture: libraries choose their kernels in the first ones


def contenders(context: Context) -> Iterator[Backend | Unavailable]:
    """Yield float32 and float16, each in every way, where a GPU answers."""
    reason = _no_gpu() or missing(context)
    for precision in ("float32", "float16"):
        for option, way in WAYS.items():
            name = f"pytorch {precision}, cuda{option}"
            if reason:
                yield Unavailable(name, reason)
            elif way != "compiled":
                yield Backend(name, partial(_prepare, context, precision, way))
            elif not context.short:
                graphs = GRAPHS if context.full else ("full",)  # see `pytorch`
                yield Backend(name, partial(_prepare, context, precision, way), graphs)


def _no_gpu() -> str | None:
    try:
        import torch
    except ImportError:
        return None  # is told by `missing`
    return None if torch.cuda.is_available() else "no NVIDIA GPU answers PyTorch"


def _prepare(context: Context, precision: str, way: str, graph: str, feed: Arrays) -> Call:
    """Open a graph (ModelError where the GPU's memory does not hold it)."""
    import torch

    try:
        return _opened(context, precision, way, graph, feed)
    except torch.cuda.OutOfMemoryError as err:
        torch.cuda.empty_cache()
        raise ModelError(f"the GPU's memory is too small: {one_line(err)}") from err


def _opened(context: Context, precision: str, way: str, graph: str, feed: Arrays) -> Call:
    import torch

    assert context.weights is not None
    module = copy.deepcopy(network(context.weights)).to(DEVICE, getattr(torch, precision))
    hosts = [_pinned(torch.tensor(array)) for array in feed.values()]
    inputs = [host.to(DEVICE) for host in hosts]
    run = _in_type(function(module, graph), getattr(torch, precision), graphed=way == "cuda graph")
    if way == "compiled":
        run = compiled(run, tuple(inputs))
    work = _Work(run, hosts, inputs)
    if way == "cuda graph":
        work.capture()
    work.once()
    return Call(_ran(precision, way), work.once, lambda: _named(graph, work.outputs), _closing(way))


def _in_type(run: Callable[..., Any], dtype: Any, graphed: bool) -> Callable[..., Sequence[Any]]:
    """Return a function of the graph's inputs whose features have the network's type.

    graphed: without lengths, which are the whole windows' here: their check asks the GPU, and a
    capture may not
    """

    def wanted(first: Any, *lengths: Any) -> Sequence[Any]:
        given = first.to(dtype) if first.is_floating_point() else first
        answers = run(given, *(() if graphed else lengths))
        return answers if isinstance(answers, tuple) else (answers,)

    return wanted


class _Work:
    """Inputs, outputs and a stream, all made before the first call that counts."""

    def __init__(
        self, run: Callable[..., Sequence[Any]], hosts: Sequence[Any], inputs: Sequence[Any]
    ) -> None:
        import torch

        self._torch, self._run = torch, run
        self._hosts, self._inputs = hosts, inputs
        self._stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        event: Callable[..., Any] = torch.cuda.Event
        self._events = [event(enable_timing=True) for _ in range(4)]
        self._graph: Any = None
        self._answers: Sequence[Any] = ()
        with torch.inference_mode(), torch.cuda.stream(self._stream):
            found = run(*inputs)
            self.outputs = [
                None if x is None else _pinned(torch.empty(x.shape, dtype=x.dtype)) for x in found
            ]
        self._stream.synchronize()

    def capture(self) -> None:
        """Record the computation as a CUDA graph (BackendUnavailable)."""
        torch = self._torch
        with torch.inference_mode(), torch.cuda.stream(self._stream):
            for _ in range(WARM_UP):
                self._run(*self._inputs)
            self._stream.synchronize()
            graph = torch.cuda.CUDAGraph()
            try:
                with torch.cuda.graph(graph, stream=self._stream):
                    self._answers = self._run(*self._inputs)
            except RuntimeError as err:
                raise BackendUnavailable(f"no CUDA graph: {one_line(err)}") from err
        self._graph = graph

    def once(self) -> Stages:
        """Copy in, compute, copy out; return milliseconds by stage as the GPU timed them."""
        first, before, after, last = self._events
        with self._torch.inference_mode(), self._torch.cuda.stream(self._stream):
            first.record()
            for target, source in zip(self._inputs, self._hosts, strict=True):
                target.copy_(source, non_blocking=True)
            before.record()
            start = time.perf_counter()
            if self._graph is None:
                self._answers = self._run(*self._inputs)
            else:
                self._graph.replay()
            enqueue_ms = (time.perf_counter() - start) * 1e3
            after.record()
            for target, source in zip(self.outputs, self._answers, strict=True):
                if target is not None:
                    target.copy_(source, non_blocking=True)
            last.record()
        self._stream.synchronize()
        return {
            "device": first.elapsed_time(last),
            "h2d": first.elapsed_time(before),
            "compute": before.elapsed_time(after),
            "d2h": after.elapsed_time(last),
            "enqueue": enqueue_ms,
        }


def _pinned(tensor: Any) -> Any:
    """Return a copy in page-locked memory, which alone is copied while the processor goes on."""
    return tensor.pin_memory()


def _named(graph: str, outputs: Sequence[Any]) -> dict[str, Any]:
    """Return the outputs as arrays by name, float16 as float32."""
    found = zip(OUTPUTS[graph], outputs, strict=True)
    return {
        name: (x.float() if x.is_floating_point() else x).numpy().copy()
        for name, x in found
        if x is not None
    }


def _ran(precision: str, way: str) -> Ran:
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
        options={way: "yes"} if way != "eager" else {},
    )


def _closing(way: str) -> Callable[[], None]:
    """Return what gives the memory back; compiled forms are kept by function, see `pytorch`."""
    import torch

    def close() -> None:
        if way == "compiled":
            torch.compiler.reset()
        torch.cuda.empty_cache()

    return close
