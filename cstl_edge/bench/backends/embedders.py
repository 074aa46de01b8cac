"""Embedders of whole sequences: encoders, and the graph `full` of backends that have no encoder.

Letters: n sequences, s frames, h w pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from functools import partial

import numpy as np

from cstl_edge.arrays import Ints, Silhouettes
from cstl_edge.bench.backends.base import (
    Backend,
    GraphUnderTest,
    StreamingBackend,
    Unavailable,
    ran_of,
)
from cstl_edge.bench.backends.open import backends, selected
from cstl_edge.bench.context import Context
from cstl_edge.bench.record import Ran
from cstl_edge.errors import CstlEdgeError, ModelError
from cstl_edge.runtime.base import Embedded, Encoder
from cstl_edge.runtime.graph import Arrays
from cstl_edge.runtime.graph_encoder import embedded


@dataclass(frozen=True)
class Embedder:
    """A backend that embeds whole sequences, open."""

    name: str
    encoder: Encoder | GraphEmbedder
    ran: Callable[[], Ran]  # how it really ran, known after the first sequence


def embedders(context: Context) -> Iterator[Embedder | Unavailable]:
    """Yield the backends that embed whole sequences, each open until the next one is taken.

    Compiled PyTorch is left out: it computes what eager PyTorch does, and compiles per shape.
    """
    names = set()
    for backend in backends(context):
        if backend.name in names or not selected(context, backend.name):
            continue
        if isinstance(backend, StreamingBackend):
            names.add(backend.name)
            try:
                encoder = backend.open_encoder()
            except CstlEdgeError as err:
                yield Unavailable(backend.name, str(err))
                continue
            with closing(encoder):
                yield Embedder(backend.name, encoder, partial(ran_of, encoder.info))
        elif "compiled" in backend.name:
            continue
        elif isinstance(backend, Unavailable):
            yield backend
        elif "full" in backend.graphs:
            with closing(GraphEmbedder(backend)) as embedder:
                yield Embedder(backend.name, embedder, embedder.ran)


class GraphEmbedder:
    """The graph `full` of a backend as an encoder of whole sequences, open once per shape."""

    def __init__(self, backend: Backend) -> None:
        """Take a backend; it is opened when the first sequences come."""
        self._backend = backend
        self._open: dict[tuple[int, ...], GraphUnderTest] = {}
        self._ran: Ran | None = None

    def encode(self, silhouettes: Silhouettes, lengths: Ints | None = None) -> Embedded:
        """Return the embeddings of sequences [n, s, h, w] (ModelError)."""
        n, s = shape = silhouettes.shape[:2]
        frames = np.full(n, s, np.int32) if lengths is None else lengths
        if shape not in self._open:
            feed: Arrays = {"silhouettes": silhouettes, "lengths": frames}
            self._open[shape] = self._backend.open_graph("full", feed)
        graph = self._open[shape]
        graph.inputs["silhouettes"][...] = silhouettes
        graph.inputs["lengths"][...] = frames
        graph.run()
        self._ran = graph.ran
        return embedded({name: array.copy() for name, array in graph.outputs().items()})

    def ran(self) -> Ran:
        """Return how it ran (ModelError before the first sequence)."""
        if self._ran is None:
            raise ModelError(f"{self._backend.name} has not run: expected `encode` before")
        return self._ran

    def close(self) -> None:
        """Close the graphs of all shapes."""
        for graph in self._open.values():
            graph.close()
        self._open.clear()
