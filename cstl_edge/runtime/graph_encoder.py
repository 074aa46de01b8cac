"""Encoder of open graphs, in any runtime that takes and returns arrays. Letters as in `base`."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from cstl_edge.arrays import Floats, Indices, Ints, Silhouettes
from cstl_edge.errors import ModelError
from cstl_edge.measure.nvtx import nvtx_range
from cstl_edge.runtime.base import (
    Embedded,
    EncoderInfo,
    check_array,
    check_lengths,
    encode_in_parts,
)
from cstl_edge.runtime.graph import Arrays, Run
from cstl_edge.runtime.streaming.rings import check_slots
from cstl_edge.runtime.streaming.steps import StepGraph


class GraphEncoder:
    """The open graphs as an `Encoder`; with the incremental head, as a `SlidingEncoder`."""

    def __init__(
        self,
        info: EncoderInfo,
        graphs: Mapping[str, Run],
        no_incremental_head: str,
        open_step: Callable[[], StepGraph] | None = None,
    ) -> None:
        """Take open graphs.

        Args:
            info: Description of the encoder.
            graphs: Graphs by name: `frames`, `head`; where windows slide, `taps`, `mix`, `slide`.
            no_incremental_head: Message of the ModelError where one of the latter is missing.
            open_step: Function that opens the graph `step`, where there is one: it is opened when
                it is asked for, since most streams answer every few frames, without it.
        """
        self.info, self._graphs = info, dict(graphs)
        self._no_incremental_head = no_incremental_head
        self._open_step = open_step
        self._step: StepGraph | None = None

    def frames(self, silhouettes: Silhouettes) -> Floats:
        """Return the part features [m, p, c] of silhouettes [m, h, w]."""
        check_array("silhouettes", silhouettes, np.uint8, ("m", *self.info.size))
        features: Floats = self._run("frames", {"silhouettes": silhouettes})["features"]
        return features

    def head(self, features: Floats, lengths: Ints) -> Embedded:
        """Return the embeddings of windows [n, s, p, c], of which `lengths` [n] frames count."""
        axes = ("n", "s", self.info.parts, self.info.channels)
        check_array("features", features, np.float32, axes)
        check_lengths(lengths, *features.shape[:2])
        return embedded(self._run("head", {"features": features, "lengths": lengths}))

    def taps(self, features: Floats) -> tuple[Floats, Floats]:
        """Return of frames [p, m, c] the shares [p, m, 7c] and gates [p, m, 2c]."""
        outputs = self._run_rows("taps", features=features)
        return outputs["taps"], outputs["gates"]

    def mix(self, features: Floats, sums: Floats) -> tuple[Floats, Floats]:
        """Return the logits [p, m, 3c] and the hidden layer of Eq. 6 [p, m, h] of m frames."""
        outputs = self._run_rows("mix", features=features, sums=sums)
        return outputs["logits"], outputs["judged"]

    def slide(self, kept: Mapping[str, Floats], slots: Indices) -> Embedded:
        """Return the embeddings of windows of what is kept of s frames, [n, p, s, ..] by name."""
        check_slots(slots, kept)
        return embedded(self._run("slide", {**kept, "slots": slots}))

    def step_graph(self) -> StepGraph:
        """Return the graph `step` (ModelError where it is refused, or there is none)."""
        if self._open_step is None:
            raise ModelError("expected an encoder whose info says `steps`; this one has no `step`")
        if self._step is None:
            self._step = self._open_step()
        return self._step

    def encode(self, silhouettes: Silhouettes, lengths: Ints | None = None) -> Embedded:
        """Return the embeddings of sequences [n, s, h, w]."""
        return encode_in_parts(self, silhouettes, lengths)

    def warm_up(self, walkers: int) -> None:
        """Do nothing: a runtime on the CPU makes nothing that depends on the walkers' number."""

    def close(self) -> None:
        """Let go of the graphs."""
        self._graphs.clear()
        self._step = self._open_step = None

    def _run_rows(self, name: str, **rows: Floats) -> Arrays:
        """Check rows [p, m, c] of frames and run a graph on them."""
        for given, array in rows.items():
            check_array(given, array, np.float32, (self.info.parts, "m", self.info.channels))
        return self._run(name, rows)

    def _run(self, name: str, inputs: Arrays) -> Arrays:
        if not self._graphs:
            raise ModelError("this encoder is closed: load it again")
        if name not in self._graphs:
            raise ModelError(self._no_incremental_head)
        with nvtx_range(name):
            return self._graphs[name](inputs)


def embedded(outputs: Arrays) -> Embedded:
    """Return the outputs of `head`, `full` or `slide`; a network without SSFL names no frames."""
    embedding = outputs["embedding"]
    if "salient_frames" in outputs:
        return Embedded(embedding, outputs["salient_frames"])
    return Embedded(embedding, np.full(embedding.shape[:2], -1, np.int32))
