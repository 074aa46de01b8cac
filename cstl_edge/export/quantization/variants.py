"""A model's fp16 and int8 graphs, made from its float32 ones, each through its gates.

FP16 is one precision for all graphs. INT8 is the convolutions of `frames`; its head is float32 for
ONNX Runtime and fp16 for TensorRT, and each pair is judged. Windows slide in ONNX Runtime by int8
cuts of the head behind these frames, if they too pass; otherwise by float32's.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import onnx

from cstl_edge.errors import ExportError
from cstl_edge.export.checks import accuracy_gate
from cstl_edge.export.quantization import int8_head
from cstl_edge.export.quantization.context import Subject, session
from cstl_edge.export.quantization.int8_trunk import activations, quantise
from cstl_edge.export.quantization.tensor_ranges import ranges
from cstl_edge.export.quantization.weight_rounding import refitted
from cstl_edge.runtime.manifest import FLOAT32_GRAPHS, SLIDING_GRAPHS, Reduced

log = logging.getLogger(__name__)

DEFAULT_DROP_POINTS = 0.5
"""INT8 becomes the default of a CPU that is faster with it when the loss of rank-1 is below this
with 95 % certainty. On few people it never is."""


@dataclass
class Result:
    """What is added to an export."""

    graphs: dict[str, onnx.ModelProto] = field(default_factory=dict)
    """By file name."""
    precisions: dict[str, Reduced] = field(default_factory=dict)
    cpu_default: str = "float32"


def reduce_precision(
    subject: Subject, wanted: Sequence[str], tell: Callable[[str], None]
) -> Result:
    """Make and judge the wanted precisions, fp16 and int8 (ExportError when a gate is closed)."""
    result = Result()
    tell("float32: answers to judge by")
    _ = subject.reference
    if "fp16" in wanted:
        tell("fp16: casting and judging")
        _fp16(subject, result)
    if "int8" in wanted:
        tell("int8: calibrating and judging")
        _int8(subject, result, tell)
    return result


def _fp16(subject: Subject, result: Result) -> None:
    """Add frames.fp16.onnx, head.fp16.onnx and, where there is a full graph, full.fp16.onnx."""
    islands = subject.islands("frames") + subject.islands("head")  # full holds the same once more
    features = accuracy_gate.features(subject.twin("frames"), subject.evidence.walks.silhouettes)
    found = _judged("fp16", subject, subject.twin("head"), features, accuracy_gate.FP16)
    rules = {"frames and head": _rule("fp16", subject, subject.twins_in_parts)}
    if "full" in subject.graphs:
        rules["full"] = _rule("full.fp16.onnx", subject, subject.twin_of_full)
    result.graphs |= {f"{graph}.fp16.onnx": subject.half(graph) for graph in subject.graphs}
    result.precisions["fp16"] = Reduced(
        frames="frames.fp16.onnx",
        heads={"onnxruntime": "head.fp16.onnx", "tensorrt": "head.fp16.onnx"},
        full="full.fp16.onnx" if "full" in subject.graphs else None,
        evidence=subject.evidence.told,
        judged={"rounding twin": {**found.told, "rule": rules}},
        islands=islands,
    )


def _int8(subject: Subject, result: Result, tell: Callable[[str], None]) -> None:
    """Add frames.int8.onnx, cuts for windows that slide, and head.fp16.onnx for TensorRT."""
    plain, feeds = subject.graphs["frames"], subject.feeds("frames")
    # Nothing is clipped: the part pooling takes maxima, so large values are what counts.
    limits = {name: span.largest for name, span in ranges(plain, activations(plain), feeds).items()}
    quantised = quantise(plain, limits, refitted(plain, limits, feeds))
    islands = subject.islands("head")
    frames = session("frames.int8.onnx", quantised)
    features = accuracy_gate.features(frames, subject.evidence.walks.silhouettes)
    onnxruntime = _judged(
        "int8 for onnxruntime", subject, subject.head, features, accuracy_gate.INT8
    )
    tensorrt = _judged(
        "int8 for tensorrt", subject, subject.twin("head"), features, accuracy_gate.INT8
    )
    cuts, sliding = _int8_cuts(subject, frames, features, result, tell)
    used = [onnxruntime, *(sliding.values() if cuts else ())]
    if max(one.rank1_drop_at_most_points for one in used) < DEFAULT_DROP_POINTS:
        result.cpu_default = "int8"
    result.graphs |= {"frames.int8.onnx": quantised, "head.fp16.onnx": subject.half("head")}
    result.precisions["int8"] = Reduced(
        frames="frames.int8.onnx",
        heads={"onnxruntime": FLOAT32_GRAPHS[1], "tensorrt": "head.fp16.onnx"},
        evidence={**subject.evidence.told, "limits": limits},
        cuts=cuts,
        judged={
            "onnxruntime": onnxruntime.told,
            "tensorrt": tensorrt.told,
            **{f"onnxruntime, window {state}": one.told for state, one in sliding.items()},
        },
        islands=islands,
    )


def _int8_cuts(
    subject: Subject,
    frames: Any,
    features: list[Any],
    result: Result,
    tell: Callable[[str], None],
) -> tuple[tuple[str, str, str] | None, dict[str, accuracy_gate.Judgement]]:
    """Add the int8 cuts if they pass; return by which files windows slide, and what was measured.

    frames: a session of the int8 trunk
    features: what it says of the walks to judge on
    """
    made = int8_head.make(subject, frames)
    if not made:
        return None, {}
    tell("int8: judging windows that slide")
    sliding = int8_head.judged(subject, made, features)
    problems = [f"{state}: {what}" for state, one in sliding.items() for what in one.problems]
    if problems:
        log.warning(
            "windows of int8 frames slide by float32; by int8 a window is off when %s. "
            "Judged on more people (--people) it is told more exactly",
            "; ".join(problems),
        )
        return None, sliding
    files = {f"{name}.onnx": f"{name}.int8.onnx" for name in made}
    result.graphs |= {f"{name}.int8.onnx": model for name, model in made.items()}
    taps, mix, slide = (files.get(name, name) for name in SLIDING_GRAPHS)
    return (taps, mix, slide), sliding


def _judged(
    what: str, subject: Subject, head: Any, features: list[Any], limits: accuracy_gate.Limits
) -> accuracy_gate.Judgement:
    """Return how a head's answers came through the gates, if they did."""
    answers = accuracy_gate.answers(head, features)
    found = accuracy_gate.judge(subject.reference, answers, subject.evidence.walks, limits)
    found.check(what)
    return found


def _rule(what: str, subject: Subject, run: Any) -> dict[str, Any]:
    told = accuracy_gate.rule(subject.network, subject.evidence.walks.silhouettes, run)
    if not told["max_abs_error"] <= told["allowed"]:
        raise ExportError(
            f"{what}: an embedding is off by {told['max_abs_error']:.3g}, expected at most "
            f"{told['allowed']:.3g}, by PyTorch's own float16. Nothing was exported; export in "
            "float32"
        )
    return told
