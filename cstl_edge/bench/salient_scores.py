"""Scores of Eq. 6 behind a reference's salient frames: whether another frame only won a tie.

Letters: n sequences, s frames, h w pixels, p parts, c channels.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from cstl_edge.arrays import Floats, Silhouettes
from cstl_edge.bench.model_under_test import read_export
from cstl_edge.runtime.backends.ort_session import open_session
from cstl_edge.runtime.base import usable_cores
from cstl_edge.runtime.graph_format import OPERATOR


class SalientScores:
    """The float32 graphs of an export, with the scores as an output."""

    def __init__(self, frames: Any, head: Any, output: str) -> None:
        """Take open sessions of `frames` and `head`, and the name of the scores in the latter."""
        self._frames, self._head, self._output = frames, head, output

    def of_windows(self, features: Floats) -> Floats:
        """Return the scores [n, p, s] of windows [n, s, p, c]."""
        lengths = np.full(len(features), features.shape[1], np.int32)
        feed = {"features": features, "lengths": lengths}
        scores: Floats = self._head.run([self._output], feed)[0]
        return scores

    def of_silhouettes(self, silhouettes: Silhouettes) -> Floats:
        """Return the scores [n, p, s] of sequences [n, s, h, w]."""
        walks = [self._frames.run(None, {"silhouettes": walk})[0] for walk in silhouettes]
        return self.of_windows(np.stack(walks))


@lru_cache(maxsize=2)
def salient_scores(folder: Path) -> SalientScores | None:
    """Return the scores of an exported model; None for one without SSFL.

    Raises ModelError for a model that is refused, BackendUnavailable without ONNX Runtime.
    """
    import onnx
    from onnx import helper

    _, graphs = read_export(folder)
    head = onnx.load_model_from_string(graphs["head.onnx"])
    gathers = [node for node in head.graph.node if node.op_type == OPERATOR]
    if not gathers:
        return None
    output = str(gathers[0].input[1])
    head.graph.output.append(helper.make_empty_tensor_value_info(output))
    threads = usable_cores()
    frames = open_session("frames.onnx", graphs["frames.onnx"], threads)
    return SalientScores(
        frames, open_session("head.onnx", head.SerializeToString(), threads), output
    )
