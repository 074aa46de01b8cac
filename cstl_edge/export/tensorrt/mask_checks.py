"""Judge a mask network's engine before it is kept: its masks beside those of float32.

The pictures are squares of the shipped clip. An engine of this machine is run; of one that was
built ahead of time for another, float16's rounding twin is.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np

from cstl_edge.arrays import Floats, Image
from cstl_edge.errors import ExportError
from cstl_edge.live.segmentation.mask_network import crop_square
from cstl_edge.live.sources.open import open_source
from cstl_edge.runtime.masks.base import logits_and_presence
from cstl_edge.runtime.masks.check import checked_mask
from cstl_edge.runtime.masks.cpu import CpuMaskNetwork
from cstl_edge.runtime.masks.manifest import MaskManifest
from cstl_edge.runtime.tensorrt.record import EngineRecord

CLIP = Path(__file__).parents[2] / "assets" / "walk.mp4"
TIMES_S = (2.5, 4.0, 5.5)
SQUARES = ((100.0, 200.0, 280.0, 280.0), (350.0, 200.0, 280.0, 280.0), (500.0, 200.0, 280.0, 280.0))
"""Squares of the clip's pictures, some with somebody."""
LEAST_IOU = {"float32": 0.999, "fp16": 0.98}
MOST_PRESENCE_ERROR = 0.05

MaskRun = Callable[[Image], tuple[Floats, Floats]]
"""From crops to logits and presence, as `MaskNetwork`."""


def judge_mask(
    record: EngineRecord, plan: bytes | None, network: str | None, folder: Path
) -> dict[str, Any]:
    """Return how far an engine's masks are from those of float32 (ExportError: too far).

    Args:
        record: Record of the engine.
        plan: Its plan, to be run here; None for another machine's, whose rounding twin is run.
        network: Manifest of the network; None for the shipped one.
        folder: Exported model, for messages.
    """
    from cstl_edge.runtime.tensorrt.encoder import detect_host
    from cstl_edge.runtime.tensorrt.masks import TrtMaskNetwork

    manifest, data = checked_mask(None if network is None else Path(network))
    crops = judging_crops(manifest.input.side)
    with closing(CpuMaskNetwork(manifest, data)) as reference:
        expected = reference(crops)
    if plan is not None:
        host = detect_host({"mask": record}, folder)
        with closing(TrtMaskNetwork(manifest, host, plan, record)) as engine:
            return agreement("ONNX Runtime, float32", engine(crops), expected, record.precision)
    actual = rounded(manifest, data, record.precision)(crops)
    return agreement("float32, by its rounding twin", actual, expected, record.precision)


def agreement(
    against: str,
    actual: tuple[Floats, Floats],
    expected: tuple[Floats, Floats],
    precision: str,
) -> dict[str, Any]:
    """Return the report of a comparison of masks (ExportError: too far off).

    Args:
        against: What `expected` is of.
        actual: Logits [m, side, side] and presence [m] under test.
        expected: Those to compare with.
        precision: Precision under test, which decides the limit.
    """
    masks, wanted = actual[0] > 0, expected[0] > 0
    union = int((masks | wanted).sum())
    iou = int((masks & wanted).sum()) / union if union else 1.0
    presence_error = float(np.abs(actual[1] - expected[1]).max())
    finite = bool(np.isfinite(actual[0]).all())
    least = LEAST_IOU[precision]
    if not (finite and iou >= least and presence_error <= MOST_PRESENCE_ERROR):
        raise ExportError(
            f"mask differs from {against}: masks agree to {iou:.4f} (expected at least {least}), "
            f"presence is off by {presence_error:.3f} (expected at most {MOST_PRESENCE_ERROR}). "
            "Nothing was kept; try --precision float32, or leave the mask out: "
            "--graphs frames,head"
        )
    limits = {"iou": least, "presence_error": MOST_PRESENCE_ERROR}
    report = {"against": against, "crops": len(masks), "iou": iou}
    return {**report, "presence_error": presence_error, "limits": limits}


def judging_crops(side: int) -> Image:
    """Return squares of the shipped clip, uint8 [m, side, side, 3]."""
    crops = []
    for start_s in TIMES_S:
        with open_source(CLIP, start_s=start_s) as source:
            image = next(source).image
        crops += [crop_square(image, square, side) for square in SQUARES]
    return np.stack(crops)


def rounded(manifest: MaskManifest, data: bytes, precision: str) -> MaskRun:
    """Return a network as its engine computes it, float16 by its rounding twin.

    Args:
        manifest: Manifest of the network.
        data: Bytes of its ONNX file.
        precision: `float32` or `fp16`.
    """
    import onnx

    from cstl_edge.export.quantization.fp16 import open_exact, rounding_twin
    from cstl_edge.export.tensorrt.mask_graph import mask_graph

    graph = onnx.load_model_from_string(mask_graph(manifest, data, precision))
    session = open_exact("mask", rounding_twin(graph) if precision == "fp16" else graph)
    names = ["mask", *(["presence"] if manifest.presence else [])]

    def run(crops: Image) -> tuple[Floats, Floats]:
        mask, *presence = session.run(names, {"crops": crops})
        return logits_and_presence(manifest, mask, presence[0] if presence else None)

    return run
