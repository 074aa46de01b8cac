"""Session of one thread on open engines: its stream, its memory, its execution slots.

A bucket is a shape that calls are rounded up to, so that memory, addresses and CUDA graphs stay
what they are. Run on stand-ins so far, not on a device.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from cstl_edge.arrays import Array, Ints, Silhouettes
from cstl_edge.errors import BackendUnavailable, ModelError
from cstl_edge.runtime.base import Embedded
from cstl_edge.runtime.cuda.base import Buffers
from cstl_edge.runtime.graph import Arrays, BoundGraph
from cstl_edge.runtime.graph_encoder import embedded
from cstl_edge.runtime.tensorrt.engine import Engine, Shapes
from cstl_edge.runtime.tensorrt.slot import ExecutionSlot, Scratch

MAIN = {"frames": "silhouettes", "head": "features", "full": "silhouettes", "mask": "crops"}
"""The input whose first axis is cut into pieces, by graph."""
ROWS = (1, 2, 4, 8, 16, 32)  # walkers in a call; more are cut into several calls


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
        self._mapped = buffers.gpu().integrated
        self._slots: dict[tuple[Any, ...], ExecutionSlot] = {}
        self._given_back: dict[int, list[int]] = {}  # memory of the GPU, by its size

    def slot(self, graph: str, shapes: Shapes) -> ExecutionSlot:
        """Return the slot of a graph for these shapes, a new one at their first call."""
        engine = self.engines[graph]
        key = (graph, *(shapes[name] for name in engine.inputs))
        if key not in self._slots:
            if self._most_slots is not None and len(self._slots) >= self._most_slots:
                self._slots.clear()
            self._slots[key] = ExecutionSlot(
                engine, self._scratch, self.buffers, shapes, mapped=self._mapped
            )
        return self._slots[key]

    def run(self, graph: str, inputs: Arrays) -> Arrays:
        """Run a graph on inputs of any shapes, piece by piece (ModelError).

        All but `full` are rounded up to buckets; outputs of filler rows are dropped.
        """
        outputs = []
        for start, rows, slot, capture in self.pieces(graph, inputs[MAIN[graph]].shape):
            fill(slot, {name: array[start : start + rows] for name, array in inputs.items()})
            outputs.append(copied(slot.run(capture), rows))
        return {name: np.concatenate([piece[name] for piece in outputs]) for name in outputs[0]}

    def pieces(
        self, graph: str, shape: tuple[int, ...]
    ) -> Iterator[tuple[int, int, ExecutionSlot, bool]]:
        """Yield for a main input of this shape: first row, rows, their slot, whether to capture."""
        engine, main = self.engines[graph], MAIN[graph]
        n, *sizes = shape
        capture = graph in ("frames", "mask")
        if graph == "head":  # [n, s, p, c]
            window = engine.record.window
            sizes[0] = frame_bucket(sizes[0], window, engine.largest(main, 1))
            capture = sizes[0] == window
        most = engine.most_rows(main, tuple(sizes))
        if graph != "full":
            most = max(bucket for bucket in ROWS if bucket <= most)
        for start in range(0, n, most):
            rows = min(most, n - start)
            bucket = rows if graph == "full" else row_bucket(rows)
            shapes = {name: (bucket, *(sizes if name == main else ())) for name in engine.inputs}
            slot = self.slot(graph, shapes)
            slot.settle()
            yield start, rows, slot, capture

    def full(self, silhouettes: Silhouettes, lengths: Ints) -> Embedded:
        """Return the embeddings of sequences [n, s, h, w]; a build compares its new engine so."""
        return embedded(self.run("full", {"silhouettes": silhouettes, "lengths": lengths}))

    def warm_up(self, walkers: int) -> None:
        """Make every slot that so many live walkers can need: contexts, memory, CUDA graphs.

        The largest come first, so that the scratch memory is allocated once.
        """
        for graph, engine in self.engines.items():
            main = MAIN[graph]
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
            outputs=lambda: copied({name: slot.host[name] for name in engine.out}),
            close=self.close,
        )

    def lend(self, nbytes: int) -> int:
        """Return a pointer to memory of the GPU, of what was given back where that suits."""
        waiting = self._given_back.get(nbytes)
        return waiting.pop() if waiting else self.buffers.device(nbytes)

    def give_back(self, pointer: int, nbytes: int) -> None:
        """Keep memory of `lend` for the next who wants as much; any thread may call it."""
        self._given_back.setdefault(nbytes, []).append(pointer)

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


def fill(slot: ExecutionSlot, inputs: Arrays) -> None:
    """Write inputs to the first rows and frames of a slot; a filler row is one frame of zeros."""
    for name, array in inputs.items():
        slot.host[name][...] = name == "lengths"
        slot.host[name][tuple(map(slice, array.shape))] = array


def copied(outputs: Mapping[str, Array], rows: int | None = None) -> dict[str, Array]:
    """Copy the first rows of outputs, as float32 or as the int32 that they are."""
    return {
        name: array[:rows].astype(np.float32 if array.dtype.kind == "f" else array.dtype)
        for name, array in outputs.items()
    }
