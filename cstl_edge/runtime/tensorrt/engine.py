"""Deserialised plans, which all threads share, and the session of one thread on them.

Run on stand-ins so far, not on a device.
"""

from __future__ import annotations

import threading
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
from cstl_edge.runtime.tensorrt.slot import ExecutionSlot, Scratch, Shapes

ROWS = (1, 2, 4, 8, 16, 32)  # walkers in a call; more are cut into several calls
TYPES = {"FLOAT": np.float32, "HALF": np.float16, "INT32": np.int32, "UINT8": np.uint8}


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


class Engine:
    """A plan that has passed all checks, opened once for all threads."""

    def __init__(self, trt: Any, runtime: Any, plan: bytes, record: EngineRecord) -> None:
        """Deserialise a plan that has passed the checks of `record` (ModelError).

        Args:
            trt: Module of TensorRT.
            runtime: TensorRT's `Runtime`.
            plan: Bytes of the engine.
            record: Record of the plan.
        """
        self._trt, self.record, self._lock = trt, record, threading.Lock()
        self._engine = runtime.deserialize_cuda_engine(plan)
        if self._engine is None:
            raise ModelError(
                f"engine {record.graph}: TensorRT does not open it (too little GPU memory, or a "
                "damaged installation); --debug shows what it says"
            )
        self.inputs = list(record.profiles[0])
        names = [self._engine.get_tensor_name(i) for i in range(self._engine.num_io_tensors)]
        self.out = [name for name in names if name not in self.inputs]
        self.types = {name: self._type(name) for name in names}

    def largest(self, name: str, axis: int) -> int:
        """Return the largest size that any profile allows an input along an axis."""
        return max(profile[name].max[axis] for profile in self.record.profiles)

    def most_rows(self, name: str, sizes: tuple[int, ...]) -> int:
        """Return the rows that a profile allows for an input whose other axes have these sizes."""
        rows = [
            profile[name].max[0]
            for profile in self.record.profiles
            if all(
                low <= size <= high
                for low, size, high in zip(
                    profile[name].min[1:], sizes, profile[name].max[1:], strict=True
                )
            )
        ]
        return max(rows, default=1)  # `profile_of` refuses what no profile takes

    def context(self, shapes: Shapes, buffers: Buffers) -> tuple[Any, int]:
        """Return a new context for inputs of these shapes, and the bytes that it computes in.

        The memory is the caller's to give (`set_device_memory`).
        """
        engine_name = f"engine {self.record.graph}"
        index = profile_of(self.record.profiles, shapes)
        strategy = self._trt.ExecutionContextAllocationStrategy.USER_MANAGED
        with self._lock:
            context = self._engine.create_execution_context(strategy)
        if context is None:
            raise CudaError(f"{engine_name}: TensorRT makes no context: too little GPU memory?")
        if not context.set_optimization_profile_async(index, buffers.stream):
            raise ModelError(f"{engine_name}: TensorRT refuses profile {index}")
        buffers.synchronize()
        for name, shape in shapes.items():
            if not context.set_input_shape(name, shape):
                raise ModelError(f"{engine_name}: TensorRT refuses {name} {list(shape)}")
        if unknown := context.infer_shapes():
            raise ModelError(f"{engine_name}: shapes of {unknown} are not known")
        needed = context.update_device_memory_size_for_shapes()  # 0 where it cannot say
        return context, needed or self._engine.get_device_memory_size_for_profile_v2(index)

    def close(self) -> None:
        """Let go of the plan; contexts have to be gone, TensorRT wants this order."""
        self._engine = None

    def _type(self, name: str) -> type:
        kind = self._engine.get_tensor_dtype(name).name
        if kind not in TYPES:
            raise ModelError(f"engine {self.record.graph}: {name} is {kind}, none of {[*TYPES]}")
        return TYPES[kind]


class Session:
    """A stream, its memory and the execution slots of one thread, on engines that may be shared."""

    def __init__(
        self, buffers: Buffers, engines: Mapping[str, Engine], most_slots: int | None = None
    ) -> None:
        """Take open engines, which stay the caller's to close.

        Args:
            buffers: Stream and memory of this thread; closed with the session.
            engines: Engines by graph.
            most_slots: Slots kept at once, to save memory; by default all.
        """
        self.buffers, self.engines = buffers, engines
        self._scratch, self._most_slots = Scratch(buffers), most_slots
        self._slots: dict[tuple[Any, ...], ExecutionSlot] = {}

    def slot(self, graph: str, shapes: Shapes) -> ExecutionSlot:
        """Return the slot of a graph for these shapes, a new one at their first call."""
        engine = self.engines[graph]
        key = (graph, *(shapes[name] for name in engine.inputs))
        if key not in self._slots:
            if self._most_slots is not None and len(self._slots) >= self._most_slots:
                self._slots.clear()
            self._slots[key] = ExecutionSlot(engine, self._scratch, self.buffers, shapes)
        return self._slots[key]

    def run(self, graph: str, inputs: Arrays) -> Arrays:
        """Run `frames`, `head` or `full` on inputs of any shapes, piece by piece (ModelError).

        `frames` and `head` are rounded up to buckets; outputs of filler rows are dropped.
        """
        engine, main = self.engines[graph], "features" if graph == "head" else "silhouettes"
        n, *sizes = inputs[main].shape
        capture = graph == "frames"
        if graph == "head":  # [n, s, p, c]
            window = engine.record.window
            sizes[0] = frame_bucket(sizes[0], window, engine.largest(main, 1))
            capture = sizes[0] == window
        most = engine.most_rows(main, tuple(sizes))
        if graph != "full":
            most = max(bucket for bucket in ROWS if bucket <= most)
        outputs = []
        for start in range(0, n, most):
            rows = min(most, n - start)
            bucket = rows if graph == "full" else row_bucket(rows)
            shapes = {name: (bucket, *(sizes if name == main else ())) for name in inputs}
            slot = self.slot(graph, shapes)
            for name, array in inputs.items():
                slot.host[name][...] = name == "lengths"  # a filler row is one frame of zeros
                piece = array[start : start + rows]
                slot.host[name][tuple(map(slice, piece.shape))] = piece
            outputs.append(_copied(slot.run(capture), rows))
        return {name: np.concatenate([piece[name] for piece in outputs]) for name in outputs[0]}

    def full(self, silhouettes: Silhouettes, lengths: Ints) -> Embedded:
        """Return the embeddings of sequences [n, s, h, w]; a build compares its new engine so."""
        return embedded(self.run("full", {"silhouettes": silhouettes, "lengths": lengths}))

    def warm_up(self, walkers: int) -> None:
        """Make every slot that so many live walkers can need: contexts, memory, CUDA graphs.

        The largest come first, so that the scratch memory is allocated once.
        """
        for graph, engine in self.engines.items():
            main = engine.inputs[0]
            largest = engine.record.profiles[-1][main].max
            window = (engine.record.window,) if graph == "head" else ()
            sizes = (*window, *largest[1 + len(window) :])
            most = min(row_bucket(min(walkers, ROWS[-1])), engine.most_rows(main, sizes))
            for rows in reversed([bucket for bucket in ROWS if bucket <= most]):
                inputs: dict[str, Array] = {main: np.zeros((rows, *sizes), engine.types[main])}
                if graph == "head":
                    inputs["lengths"] = np.full(rows, engine.record.window, np.int32)
                self.run(graph, inputs)

    def bind(self, graph: str, inputs: Arrays, cuda_graph: bool) -> BoundGraph:
        """Bind an engine to inputs of exactly these shapes; the session closes with it.

        Args:
            graph: Name of one of the session's engines.
            inputs: Arrays by name; ModelError where no profile takes them, or the GPU fails.
            cuda_graph: True to replay a CUDA graph; BackendUnavailable where none was captured.
        """
        engine = self.engines[graph]
        try:
            slot = self.slot(graph, {name: inputs[name].shape for name in engine.inputs})
            for name in engine.inputs:
                slot.host[name][...] = inputs[name]
            slot.run(cuda_graph)  # allocates, and captures what is to be captured
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
        """Give everything back, contexts before the memory they point to."""
        self._slots.clear()
        self.buffers.close()


class OwningSession(Session):
    """A session whose engines are its own: they close with it."""

    def close(self) -> None:
        """Give everything back: contexts, engines, memory."""
        self._slots.clear()
        for engine in self.engines.values():
            engine.close()
        self.buffers.close()


def _copied(outputs: Mapping[str, Array], rows: int | None = None) -> dict[str, Array]:
    """Copy the first rows of outputs, as float32 or as the int32 that they are."""
    return {
        name: array[:rows].astype(np.float32 if array.dtype.kind == "f" else array.dtype)
        for name, array in outputs.items()
    }
