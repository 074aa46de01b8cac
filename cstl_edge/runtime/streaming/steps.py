"""One more frame of a walker by one call: trunk, head and the walker's state in one graph, `step`.

A full window whose every frame is answered (hop 1) needs nothing between trunk and answer, so the
runtime is called once and writes the rows of the new frame into the ring, where `rings` and its
graphs find them: either way may take the next frame. Letters as in `base`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

import numpy as np

from cstl_edge.arrays import Array, Silhouettes
from cstl_edge.runtime.base import Embedded, Encoder, EncoderInfo
from cstl_edge.runtime.streaming.rings import IncrementalHead, SlidingRing


class StepGraph(Protocol):
    """The graph `step`, ready to be bound to memory."""

    light: bool
    """Whether its weights are few, so that several walkers step faster by themselves than by the
    graphs that take them all in one batch, and read each weight once."""

    def bind(self, inputs: Mapping[str, Array], outputs: Mapping[str, Array]) -> Callable[[], None]:
        """Return what runs it from arrays to arrays, where they lie; an output may be an input.

        Several threads may call what several calls returned. The caller keeps the arrays.
        """


class SteppingEncoder(Encoder, IncrementalHead, Protocol):
    """A `SlidingEncoder` with the graph `step`; `info.steps` is true."""

    def step_graph(self) -> StepGraph:
        """Return the graph, which is checked and opened at the first call (ModelError)."""


class Stepper:
    """The graph bound to the state of one walker."""

    def __init__(self, graph: StepGraph, info: EncoderInfo, ring: SlidingRing) -> None:
        """Bind the graph.

        Args:
            graph: The graph `step`.
            info: Description of its encoder.
            ring: Ring of a walker, for which `can_step` is true.
        """
        self._ring, state = ring, ring.state()
        self._silhouette = np.empty((1, *info.size), np.uint8)
        self._slots = np.empty((1, ring.window), np.int64)
        self._embedding = np.empty((1, info.parts, info.embedding), np.float32)
        self._salient = np.empty((1, info.parts), np.int32)
        inputs: dict[str, Array] = {"silhouettes": self._silhouette, **state}
        inputs["slots"] = self._slots
        outputs: dict[str, Array] = {f"{name}_after": array for name, array in state.items()}
        outputs |= {"embedding": self._embedding, "salient_frames": self._salient}
        self._run = graph.bind(inputs, outputs)
        self._arrays = inputs, outputs  # memory that the graph knows by its address

    def take(self, silhouette: Silhouettes) -> Embedded:
        """Take in one frame [h, w]; return the embedding of the window that ends with it."""
        ring = self._ring
        self._silhouette[0] = silhouette
        ring.seen += 1
        self._slots[0] = ring.slots()
        self._run()
        ring.stepped()
        return Embedded(self._embedding.copy(), self._salient.copy())
