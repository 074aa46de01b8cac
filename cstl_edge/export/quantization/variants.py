"""Make a model's fp16 and int8 graphs from its float32 ones, each through its accuracy gate.

FP16 is one precision for all graphs. INT8 is the convolutions of `frames`; its head is float32 for
ONNX Runtime and fp16 for TensorRT, and each pair is evaluated. Windows slide in ONNX Runtime by an
int8 incremental head behind these frames, if that passes too; otherwise by float32's.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import onnx

from cstl_edge.arrays import Floats
from cstl_edge.errors import ExportError
from cstl_edge.export.checks import accuracy_gate
from cstl_edge.export.checks.accuracy_gate import GateResult
from cstl_edge.export.graphs import GRAPHS
from cstl_edge.export.quantization import int8_head
from cstl_edge.export.quantization.context import QuantizationContext
from cstl_edge.export.quantization.fp16 import open_exact, rounding_twin
from cstl_edge.export.quantization.int8_tensorrt import for_tensorrt
from cstl_edge.export.quantization.int8_trunk import activations, quantise, refit_weights
from cstl_edge.export.quantization.tensor_ranges import measure_ranges, open_graph
from cstl_edge.runtime.backends import openvino
from cstl_edge.runtime.backends.onnx_folder import BFLOAT16
from cstl_edge.runtime.base import usable_cores
from cstl_edge.runtime.graph_format import FOR_TENSORRT
from cstl_edge.runtime.manifest import FLOAT32_GRAPHS, INCREMENTAL_FILES, PrecisionVariant

log = logging.getLogger(__name__)

TENSORRT_FRAMES = f"frames.int8.{FOR_TENSORRT}.onnx"
DEFAULT_DROP_POINTS = 0.5
"""INT8 becomes the default of a CPU that is faster with it when the loss of rank-1 is below this
with 95 % certainty. On few people it never is."""


@dataclass
class Variants:
    """The precisions that are added to an export."""

    graphs: dict[str, onnx.ModelProto] = field(default_factory=dict)  # by file name
    step_pieces: dict[str, onnx.ModelProto] = field(default_factory=dict)
    """Forms of graphs for one frame of one walker, which are only in `step`, by their file name."""
    precisions: dict[Literal["fp16", "int8", "bfloat16"], PrecisionVariant] = field(
        default_factory=dict
    )
    cpu_default: Literal["float32", "int8"] = "float32"


def make_variants(
    context: QuantizationContext, precisions: Sequence[str], progress: Callable[[str], None]
) -> Variants:
    """Make and evaluate further precisions (ExportError for a closed gate).

    Args:
        context: Float32 graphs and the data.
        precisions: Some of fp16, int8 and bfloat16.
        progress: Callback with the next step.
    """
    variants = Variants()
    progress("float32: answers to judge by")
    _ = context.reference
    if "fp16" in precisions:
        progress("fp16: casting and judging")
        _add_fp16(context, variants)
    if "int8" in precisions:
        progress("int8: calibrating and judging")
        _add_int8(context, variants, progress)
    if BFLOAT16 in precisions:
        progress("bfloat16: judging in OpenVINO")
        _add_bfloat16(context, variants)
    return variants


def _add_bfloat16(context: QuantizationContext, variants: Variants) -> None:
    """Judge `frames` in OpenVINO's bfloat16, by the gate of fp16; no graph is added.

    Raises BackendUnavailable where OpenVINO or the processor's bfloat16 is missing.
    """
    openvino.check_bfloat16()
    frames = _InOpenvino(context.graphs["frames"])
    features = accuracy_gate.run_frames(frames, context.data.evaluation.silhouettes)
    gate = context.pass_gate("bfloat16 in OpenVINO", context.head, features, accuracy_gate.FP16)
    own, whole = FLOAT32_GRAPHS
    variants.precisions["bfloat16"] = PrecisionVariant(
        frames=own,
        heads={"openvino": whole},
        evidence=context.data.report,
        judged={"openvino": dict(gate.report)},
    )


class _InOpenvino:
    """The trunk in OpenVINO's bfloat16, called as a session of ONNX Runtime."""

    def __init__(self, model: onnx.ModelProto) -> None:
        data, hint = model.SerializeToString(), openvino.BFLOAT16_HINT
        self._graph = openvino.OpenvinoGraph("frames.onnx", data, usable_cores(), hint)

    def run(self, _: None, feed: dict[str, Any]) -> list[Any]:
        """Return the features."""
        return [self._graph(feed)["features"]]


def _add_fp16(context: QuantizationContext, variants: Variants) -> None:
    """Add frames.fp16.onnx, head.fp16.onnx and, where there is a full graph, full.fp16.onnx."""
    islands = context.islands("frames") + context.islands("head")  # full holds the same once more
    twin = context.twin("frames")
    features = accuracy_gate.run_frames(twin, context.data.evaluation.silhouettes)
    gate = context.pass_gate("fp16", context.twin("head"), features, accuracy_gate.FP16)
    rules = {"frames and head": _half_rule("fp16", context, context.run_twins)}
    full = "full" in context.graphs
    if full:
        rules["full"] = _half_rule("full.fp16.onnx", context, context.run_full_twin)
    graphs = [graph for graph in GRAPHS if graph in context.graphs]
    variants.graphs |= {f"{graph}.fp16.onnx": context.half(graph) for graph in graphs}
    variants.precisions["fp16"] = PrecisionVariant(
        frames="frames.fp16.onnx",
        heads={"onnxruntime": "head.fp16.onnx", "tensorrt": "head.fp16.onnx"},
        full="full.fp16.onnx" if full else None,
        evidence=context.data.report,
        judged={"rounding twin": {**gate.report, "rule": rules}},
        islands=islands,
    )


def _add_int8(
    context: QuantizationContext, variants: Variants, progress: Callable[[str], None]
) -> None:
    """Add frames.int8.onnx and an int8 incremental head; for TensorRT frames of its own layout.

    The latter are judged by their rounding twin, with the twin of head.fp16.onnx.
    """
    plain, feeds = context.graphs["frames"], context.feeds("frames")
    # Nothing is clipped: the part pooling takes maxima, so large values are what counts.
    ranges = measure_ranges(plain, activations(plain), feeds)
    limits = {name: measured.largest for name, measured in ranges.items()}
    weights = refit_weights(plain, limits, feeds)
    quantised = quantise(plain, limits, weights)
    islands = context.islands("head")
    frames = open_graph("frames.int8.onnx", quantised)
    features = accuracy_gate.run_frames(frames, context.data.evaluation.silhouettes)
    laid_out = for_tensorrt(plain, context.half("frames"), limits, feeds)
    twin = open_exact(TENSORRT_FRAMES, rounding_twin(laid_out))
    features_of = {"onnxruntime": features}
    features_of["tensorrt"] = accuracy_gate.run_frames(twin, context.data.evaluation.silhouettes)
    gates = {
        name: context.pass_gate(f"int8 for {name}", head, features_of[name], accuracy_gate.INT8)
        for name, head in (("onnxruntime", context.head), ("tensorrt", context.twin("head")))
    }
    files, sliding = _add_int8_head(context, frames, features, variants, progress)
    used = [gates["onnxruntime"], *(sliding.values() if files else ())]
    if max(gate.rank1_change["at_most_points"] for gate in used) < DEFAULT_DROP_POINTS:
        variants.cpu_default = "int8"
    gates |= {f"onnxruntime, window {state}": gate for state, gate in sliding.items()}
    variants.graphs |= {"frames.int8.onnx": quantised, "head.fp16.onnx": context.half("head")}
    variants.graphs[TENSORRT_FRAMES] = laid_out
    variants.precisions["int8"] = PrecisionVariant(
        frames="frames.int8.onnx",
        heads={"onnxruntime": FLOAT32_GRAPHS[1], "tensorrt": "head.fp16.onnx"},
        tensorrt_frames=TENSORRT_FRAMES,
        evidence={**context.data.report, "limits": limits},
        cuts=files,
        judged={name: dict(gate.report) for name, gate in gates.items()},
        islands=islands,
    )


def _add_int8_head(
    context: QuantizationContext,
    frames: Any,
    features: list[Floats],
    variants: Variants,
    progress: Callable[[str], None],
) -> tuple[tuple[str, str, str] | None, dict[str, GateResult]]:
    """Add the int8 incremental head if it passes; return its files, and the gates by state.

    frames: a session of the int8 trunk
    features: its features of the sequences to evaluate on, [s, p, c] each
    """
    head = int8_head.quantise_head(context, frames)
    if not head.single:
        return None, {}
    progress("int8: judging windows that slide")
    gates = int8_head.evaluate_head(context, head.single, features)
    problems = [f"{state}: {problem}" for state, gate in gates.items() for problem in gate.problems]
    if problems:
        log.warning(
            "windows of int8 frames slide by float32; by int8 a window is off when %s. "
            "Judged on more people (--people) it is told more exactly",
            "; ".join(problems),
        )
        return None, gates
    files = {f"{name}.onnx": f"{name}.int8.onnx" for name in head.single}
    variants.graphs |= {f"{name}.int8.onnx": model for name, model in head.batch.items()}
    variants.step_pieces |= {f"{name}.int8.onnx": model for name, model in head.single.items()}
    taps, mix, slide = (files.get(name, name) for name in INCREMENTAL_FILES)
    return (taps, mix, slide), gates


def _half_rule(label: str, context: QuantizationContext, run: Any) -> dict[str, float]:
    """Return how far a graph is from PyTorch's own float16, if it is near enough (ExportError)."""
    silhouettes = context.data.evaluation.silhouettes
    report = accuracy_gate.compare_with_torch_half(context.network, silhouettes, run)
    if not report["max_abs_error"] <= report["allowed"]:
        raise ExportError(
            f"{label}: an embedding is off by {report['max_abs_error']:.3g}, expected at most "
            f"{report['allowed']:.3g}, by PyTorch's own float16. Nothing was exported; export in "
            "float32"
        )
    return report
