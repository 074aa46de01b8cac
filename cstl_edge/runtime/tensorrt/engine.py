"""Deserialised plans: sessions of engines, and an execution slot with fixed buffers per bucket.

A bucket is a shape that calls are rounded up to, so that memory, addresses and CUDA graphs stay
what they are. Run on stand-ins so far, not on a device.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from typing import Any

import numpy as np

from cstl_edge.arrays import Array, Ints, Silhouettes
from cstl_edge.errors import BackendUnavailable, ModelError, one_line
from cstl_edge.runtime.base import Embedded
from cstl_edge.runtime.cuda.base import Buffers, CudaError
from cstl_edge.runtime.graph import Arrays, BoundGraph
from cstl_edge.runtime.graph_encoder import embedded
from cstl_edge.runtime.tensorrt.record import EngineRecord, Profile

log = logging.getLogger(__name__)

ROWS = (1, 2, 4, 8, 16, 32)  # walkers in a call; more are cut into several calls
TYPES = {"FLOAT": np.float32, "HALF": np.float16, "INT32": np.int32, "UINT8": np.uint8}

Shapes = Mapping[str, tuple[int, ...]]


def row_bucket(rows: int) -> int:
    """Return the smallest bucket that holds so many rows.

    >>> row_bucket(3), row_bucket(32)
    (4, 32)
    """
    return next(bucket for bucket in ROWS if bucket >= rows)


def frame_bucket(frames: int, window: int, most: int) -> int:
    """Return the window doubled until it holds so many frames, at most what the engine takes.

    Args:
        frames: Number of frames of the call.
        window: Number of frames of a full window.
        most: Number of frames that the engine takes; ModelError for more.

    >>> frame_bucket(12, 30, 240), frame_bucket(31, 30, 240), frame_bucket(200, 30, 220)
    (30, 60, 220)
    """
    if frames > most:
        raise ModelError(
            f"expected windows of at most {most} frames, as this engine was built; got {frames}. "
            "Build it again with --frames large enough"
        )
    bucket = window
    while bucket < frames:
        bucket *= 2
    return min(bucket, most)


def profile_of(profiles: list[Profile], shapes: Shapes) -> int:
    """Return the index of the first profile that takes such inputs (ModelError)."""
    for index, profile in enumerate(profiles):
        if all(
            low <= size <= high
            for name, shape in shapes.items()
            for low, size, high in zip(profile[name].min, shape, profile[name].max, strict=True)
        ):
            return index
    raise ModelError(
        f"expected inputs within the profiles of this engine; got {one_line(dict(shapes))}. "
        "Build it again with --walkers or --frames large enough"
    )


class ExecutionSlot:
    """A context for one bucket: inputs in pinned memory, one call, outputs in pinned memory."""

    def __init__(self, engine: Engine, buffers: Buffers, shapes: Shapes, graph: bool) -> None:
        """Allocate everything that a call needs.

        Args:
            engine: Owner of the context.
            buffers: Stream and memory of the thread.
            shapes: Shapes of the inputs.
            graph: True to capture a CUDA graph.
        """
        self._buffers, self._engine = buffers, engine
        self._wants_graph, self._graph = graph, None
        self._events: list[Any] = []
        self._context = engine.context(shapes, buffers)
        shape_of = dict(shapes)
        for name in engine.out:
            shape_of[name] = tuple(self._context.get_tensor_shape(name))
        self.host = {name: buffers.pinned(shape_of[name], engine.types[name]) for name in shape_of}
        self._device = {name: buffers.device(array.nbytes) for name, array in self.host.items()}
        for name, pointer in self._device.items():
            if not self._context.set_tensor_address(name, pointer):
                raise ModelError(f"TensorRT takes no address for {name}")

    def run(self) -> dict[str, Array]:
        """Compute the inputs in `host`; return the outputs, which the next call overwrites."""
        if self._graph is not None:
            self._buffers.replay(self._graph)
        else:
            self._work()
        self._buffers.synchronize()
        if self._wants_graph:
            self._wants_graph = False
            self._capture()
        return {name: self.host[name] for name in self._engine.out}

    @property
    def captured(self) -> bool:
        """Tell whether calls replay a CUDA graph."""
        return self._graph is not None

    def timed(self) -> dict[str, float]:
        """Do what `run` does and return its milliseconds by stage, as the GPU timed them.

        h2d, compute, d2h, and the sum as `device`; of a CUDA graph `device` alone. `enqueue` is
        the time that the processor took to put the computation, or the graph, into the stream.
        """
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
            log.warning("%s runs without a CUDA graph: %s", shown, err)
            return
        self._graph = graph
        log.debug("%s runs as a CUDA graph", shown)


class Engine:
    """A plan that has passed all checks, opened for one thread."""

    def __init__(self, trt: Any, runtime: Any, plan: bytes, record: EngineRecord) -> None:
        """Deserialise a plan that has passed the checks of `record` (ModelError).

        Args:
            trt: Module of TensorRT.
            runtime: TensorRT's `Runtime`.
            plan: Bytes of the engine.
            record: Record of the plan.
        """
        self._trt, self.record = trt, record
        self._engine = runtime.deserialize_cuda_engine(plan)
        if self._engine is None:
            raise ModelError(
                f"engine {record.graph}: TensorRT does not open it (too little GPU memory, or a "
                "damaged installation); --debug shows what it says"
            )
        self._slots: dict[tuple[tuple[int, ...], ...], ExecutionSlot] = {}
        self.inputs = list(record.profiles[0])
        names = [self._engine.get_tensor_name(i) for i in range(self._engine.num_io_tensors)]
        self.out = [name for name in names if name not in self.inputs]
        self.types = {name: self._type(name) for name in names}

    def slot(self, buffers: Buffers, shapes: Shapes, graph: bool) -> ExecutionSlot:
        """Return the slot for these shapes, a new one at their first call.

        Args:
            buffers: Stream and memory of the thread.
            shapes: Shapes of the inputs.
            graph: True to capture a CUDA graph in a new slot.
        """
        key = tuple(shapes[name] for name in self.inputs)
        if key not in self._slots:
            self._slots[key] = ExecutionSlot(self, buffers, shapes, graph)
        return self._slots[key]

    def largest(self, name: str, axis: int) -> int:
        """Return the largest size that any profile allows an input along an axis."""
        return max(profile[name].max[axis] for profile in self.record.profiles)

    def context(self, shapes: Shapes, buffers: Buffers) -> Any:
        """Return a new context whose inputs have these shapes."""
        strategy = self._trt.ExecutionContextAllocationStrategy.ON_PROFILE_CHANGE
        context = self._engine.create_execution_context(strategy)
        engine_name = f"engine {self.record.graph}"
        if context is None:
            raise CudaError(f"{engine_name}: TensorRT makes no context: too little GPU memory?")
        index = profile_of(self.record.profiles, shapes)
        if not context.set_optimization_profile_async(index, buffers.stream):
            raise ModelError(f"{engine_name}: TensorRT refuses profile {index}")
        buffers.synchronize()
        for name, shape in shapes.items():
            if not context.set_input_shape(name, shape):
                raise ModelError(f"{engine_name}: TensorRT refuses {name} {list(shape)}")
        if unknown := context.infer_shapes():
            raise ModelError(f"{engine_name}: shapes of {unknown} are not known")
        return context

    def close(self) -> None:
        """Let go of contexts first, then of the plan: TensorRT wants this order."""
        self._slots.clear()
        self._engine = None

    def _type(self, name: str) -> type:
        kind = self._engine.get_tensor_dtype(name).name
        if kind not in TYPES:
            raise ModelError(f"engine {self.record.graph}: {name} is {kind}, none of {[*TYPES]}")
        return TYPES[kind]


class Session:
    """A stream and open engines on it, for one thread."""

    def __init__(self, buffers: Buffers, engines: dict[str, Engine]) -> None:
        """Take open engines; they are closed with the session."""
        self.buffers, self.engines = buffers, engines

    def run(self, graph: str, inputs: Arrays) -> Arrays:
        """Run `frames`, `head` or `full` on inputs of any shapes, piece by piece (ModelError).

        `frames` and `head` are rounded up to buckets; outputs of filler rows are dropped.
        """
        engine, main = self.engines[graph], "features" if graph == "head" else "silhouettes"
        n, *sizes = inputs[main].shape
        most, capture = engine.largest(main, 0), graph == "frames"
        if graph == "head":  # [n, s, p, c]
            window = engine.record.window
            sizes[0] = frame_bucket(sizes[0], window, engine.largest(main, 1))
            most = min(most, max(1, ROWS[-1] * window // sizes[0]))
            capture = sizes[0] == window
        if graph != "full":
            most = max(bucket for bucket in ROWS if bucket <= most)
        outputs = []
        for start in range(0, n, most):
            rows = min(most, n - start)
            bucket = rows if graph == "full" else row_bucket(rows)
            shapes = {name: (bucket, *(sizes if name == main else ())) for name in inputs}
            slot = engine.slot(self.buffers, shapes, capture)
            for name, array in inputs.items():
                slot.host[name][...] = name == "lengths"  # a filler row is one frame of zeros
                piece = array[start : start + rows]
                slot.host[name][tuple(map(slice, piece.shape))] = piece
            outputs.append(_copied(slot.run(), rows))
        return {name: np.concatenate([piece[name] for piece in outputs]) for name in outputs[0]}

    def full(self, silhouettes: Silhouettes, lengths: Ints) -> Embedded:
        """Return the embeddings of sequences [n, s, h, w]; a build compares its new engine so."""
        return embedded(self.run("full", {"silhouettes": silhouettes, "lengths": lengths}))

    def bind(self, graph: str, inputs: Arrays, cuda_graph: bool) -> BoundGraph:
        """Bind an engine to inputs of exactly these shapes; the session closes with it.

        Args:
            graph: Name of one of the session's engines.
            inputs: Arrays by name; ModelError where no profile takes them, or the GPU fails.
            cuda_graph: True to replay a CUDA graph; BackendUnavailable where none was captured.
        """
        engine = self.engines[graph]
        try:
            shapes = {name: inputs[name].shape for name in engine.inputs}
            slot = engine.slot(self.buffers, shapes, cuda_graph)
            for name in engine.inputs:
                slot.host[name][...] = inputs[name]
            slot.run()  # allocates, and captures what is to be captured
            if cuda_graph and not slot.captured:
                raise BackendUnavailable(
                    "no CUDA graph could be captured: it runs call by call only"
                )
        except ModelError:
            self.close()
            raise
        return BoundGraph(
            inputs={name: slot.host[name] for name in engine.inputs},
            run=slot.timed,
            outputs=lambda: _copied({name: slot.host[name] for name in engine.out}),
            close=self.close,
        )

    def close(self) -> None:
        """Give everything back, engines before the memory they point to."""
        for engine in self.engines.values():
            engine.close()
        self.buffers.close()


def _copied(outputs: Mapping[str, Array], rows: int | None = None) -> dict[str, Array]:
    """Copy the first rows of outputs, as float32 or as the int32 that they are."""
    return {
        name: array[:rows].astype(np.float32 if array.dtype.kind == "f" else array.dtype)
        for name, array in outputs.items()
    }
