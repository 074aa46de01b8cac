"""Compare the graph `step` with the graphs that it is joined of, while a window slides.

Those are compared with PyTorch in float32 (`parity`) and judged in int8 (`accuracy_gate`); joined,
they may differ from themselves by rounding at most, in every precision.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from cstl_edge.errors import ExportError
from cstl_edge.export.checks.parity import SEED, TOLERANCE
from cstl_edge.numerics import allowed_error, random_blocks
from cstl_edge.runtime.backends.onnxruntime import OnnxruntimeGraph, OnnxruntimeStep
from cstl_edge.runtime.base import EncoderInfo
from cstl_edge.runtime.graph_encoder import GraphEncoder
from cstl_edge.runtime.manifest import Shape
from cstl_edge.runtime.streaming.encoder import StreamingEncoder

WINDOW = 8
FRAMES = 3 * WINDOW  # by then every row of the state was written by `step`


def check_step(name: str, step: bytes, pieces: Mapping[str, bytes], shape: Shape) -> float:
    """Return the largest difference of an embedding (ExportError where it is more than rounding).

    Args:
        name: File of the graph, such as `step.int8.onnx`.
        step: Its bytes.
        pieces: Bytes of `frames`, `taps`, `mix` and `slide`.
        shape: Sizes of the network.
    """
    sizes = (shape.size, shape.parts, shape.channels, shape.embedding)
    info = EncoderInfo("onnxruntime", "", "", 1, name, "", *sizes, slides=True)
    graphs = {graph: OnnxruntimeGraph(graph, data, 1) for graph, data in pieces.items()}
    opened = OnnxruntimeStep(name, step, 1)
    encoders = (
        GraphEncoder(info, graphs, ""),
        GraphEncoder(replace(info, steps=True), graphs, "", lambda: opened),
    )
    plain, stepping = (StreamingEncoder[int](encoder, WINDOW, 1) for encoder in encoders)
    largest = 0.0
    for frame in random_blocks(np.random.default_rng(SEED), 1, FRAMES, shape.size)[0]:
        answers = [stream.push({0: frame}) for stream in (plain, stepping)]
        if not answers[0]:
            continue
        expected, actual = (answer[0] for answer in answers)
        largest = max(largest, float(np.abs(actual.embedding - expected.embedding).max()))
        allowed = allowed_error(TOLERANCE.relative, float(np.abs(expected.embedding).max()))
        if not largest <= allowed:
            raise ExportError(
                f"{name}: an embedding differs by {largest:.3g} from that of the graphs it is "
                f"joined of, expected at most {allowed:.3g}. Nothing was exported; try without "
                "simplification"
            )
    return largest
