"""Check new TensorRT engines before they are kept: layer types, and outputs beside ONNX Runtime.

A request for FP16 is no proof of it: engines named so have been float32. The network after parsing
is typed for good, so its layers show the types without a GPU; the inspector shows what the builder
made of them. The inspector's wording differs among versions, and was never read on a device yet.

Letters: n walkers, s frames, p parts, d embedding dimensions.
"""

from __future__ import annotations

import json
import logging
import re
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np

from cstl_edge.arrays import Ints, Silhouettes
from cstl_edge.errors import ExportError, ModelError
from cstl_edge.numerics import TOLERANCES, cosine_per_part, largest_error, random_blocks
from cstl_edge.runtime.base import Embedded, Encoder
from cstl_edge.runtime.manifest import Manifest
from cstl_edge.runtime.tensorrt.library import make_logger, make_runtime, register_plugin
from cstl_edge.runtime.tensorrt.record import EngineRecord

log = logging.getLogger(__name__)

HEAVY = ("CONVOLUTION", "MATRIX_MULTIPLY")  # 99 % of the arithmetic
COUNTED = (*HEAVY, "QUANTIZE", "DEQUANTIZE", "PLUGIN_V3", "TOPK")
HEAVY_TYPE = {"float32": "FLOAT", "fp16": "HALF", "int8": "HALF"}
MOSTLY = 0.8  # of the heavy layers compute in the type asked for; the manifest lists the others

RUN = ("frames", "head")  # what the runtime needs; `full` is for those who bring their own
SEED = 20211
CASES = ((1, 0.0), (1, 1.0), (3, 0.7), (8, 1.0))
"""Walkers, and their frames as a share of the window, at least one."""

Encode = Callable[[Silhouettes, Ints], Embedded]
"""From silhouettes [n, s, h, w] and lengths [n] to embeddings."""


# Types of layers


def count_layer_types(trt: Any, network: Any) -> dict[str, dict[str, int]]:
    """Count the layers of a parsed network that do the work, by kind and type of their output."""
    counts: dict[str, Counter[str]] = {}
    for i in range(network.num_layers):
        layer = network.get_layer(i)
        kind = layer.type.name
        if kind in COUNTED:
            counts.setdefault(kind, Counter())[layer.get_output(0).dtype.name] += 1
    return {kind: dict(count) for kind, count in counts.items()}


def check_types(graph: str, precision: str, layers: dict[str, dict[str, int]]) -> None:
    """Refuse a network whose heavy layers do not compute in the precision asked for (ExportError).

    A quantised convolution stands there with the type that its inputs are dequantised to, so INT8
    is recognised by its QUANTIZE layers.

    Args:
        graph: Name of the graph, `frames`, `head` or `full`.
        precision: Precision, `float32`, `fp16` or `int8`.
        layers: Counts from `count_layer_types`.
    """
    if precision == "int8" and graph != "head":
        if not layers.get("QUANTIZE"):
            raise ExportError(f"{graph}: expected quantised convolutions; the network has none")
        return
    counts: Counter[str] = Counter()
    for kind in HEAVY:
        counts.update(layers.get(kind, {}))
    expected, total = HEAVY_TYPE[precision], sum(counts.values())
    if total and counts[expected] < MOSTLY * total:
        raise ExportError(
            f"{graph}: expected {precision}; only {counts[expected]} of {total} convolutions and "
            f"matrix products are {expected}: {dict(counts)}. Export the model again"
        )


def inspect_plan(
    trt: Any, plan: bytes, plugin: Path | None
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Open a plan built here; return its layers by type of output, and its memory [bytes].

    Raises ModelError if it stays shut.

    Args:
        trt: TensorRT module.
        plan: Serialized engine.
        plugin: Library that the plan needs: a new runtime knows nothing of the builder's plugins.
    """
    logger = make_logger(trt)
    runtime = make_runtime(trt, logger)
    if plugin is not None:
        register_plugin(runtime, plugin)
    engine = runtime.deserialize_cuda_engine(plan)
    if engine is None:
        raise ModelError(f"TensorRT does not open what it built: {logger.last_error}")
    inspector = engine.create_engine_inspector()
    text = inspector.get_engine_information(trt.LayerInformationFormat.JSON)
    profiles = range(engine.num_optimization_profiles)
    activations = [int(engine.get_device_memory_size_for_profile_v2(i)) for i in profiles]
    return count_inspected_types(text), {"activations": activations}


def count_inspected_types(text: str) -> dict[str, Any]:
    """Return the number of layers and their output types from the inspector's JSON.

    Up to 10 a tensor has `Format/Datatype`, in words; since 11 `Format` and `Datatype` are two.
    """
    layers = json.loads(text).get("Layers", [])
    types: Counter[str] = Counter()
    for layer in layers:
        if not isinstance(layer, dict):  # names alone: the verbosity was not DETAILED
            continue
        for output in layer.get("Outputs", [])[:1]:
            words = " ".join(
                str(v) for k, v in output.items() if "format" in k.lower() or "type" in k.lower()
            )
            types[_type_in(words)] += 1
    return {"layers": len(layers), "outputs": dict(types)}


def _type_in(words: str) -> str:
    """Return the type that the inspector's words name.

    >>> _type_in("Two wide channel vectorized row major FP16 format"), _type_in("Float")
    ('HALF', 'FLOAT')
    """
    patterns = {"HALF": r"FP16|Half", "INT8": r"Int8", "FLOAT": r"FP32|Float", "INT32": r"Int32"}
    return next(
        (name for name, p in patterns.items() if re.search(rf"\b({p})\b", words, re.IGNORECASE)),
        "OTHER",
    )


# Outputs beside ONNX Runtime


def compare_engines(
    plans: dict[str, bytes], records: dict[str, EngineRecord], manifest: Manifest, folder: Path
) -> dict[str, dict[str, Any]]:
    """Run new engines beside ONNX Runtime in float32; return the reports by graph.

    `frames` and `head` are compared together, as they are used. ExportError: outputs differ.

    Args:
        plans: Serialized engines by graph.
        records: Records of the engines by graph.
        manifest: Manifest of the exported folder.
        folder: Exported folder, with the float32 graphs.
    """
    from cstl_edge.runtime.backends.onnxruntime import load_folder
    from cstl_edge.runtime.tensorrt.encoder import detect_host, open_plans, open_session

    reports: dict[str, dict[str, Any]] = {}
    if not set(records) - {"mask"}:
        return reports
    run = [graph for graph in RUN if graph in records]
    if len(run) == 1:
        log.warning("%s is not compared with ONNX Runtime: build frames and head together", run[0])
    with closing(load_folder(folder, 1, "float32")) as reference:
        if len(run) == len(RUN):
            pair = {graph: records[graph] for graph in RUN}
            files = {graph: plans[graph] for graph in RUN}
            head = pair["head"]
            with closing(open_plans(files, pair, manifest, folder, most_slots=1)) as encoder:
                report = engine_parity(
                    "frames and head", encoder.encode, reference, head.precision, head.window
                )
            reports = dict.fromkeys(RUN, report)
        if "full" in records:
            full, files = {"full": records["full"]}, {"full": plans["full"]}
            record = records["full"]
            host = detect_host(full, folder)
            with closing(open_session(host, files, full, most_slots=1)) as session:
                reports["full"] = engine_parity(
                    "full", session.full, reference, record.precision, record.window
                )
    return reports


def engine_parity(
    label: str, encode: Encode, reference: Encoder, precision: str, window: int
) -> dict[str, Any]:
    """Compare an engine with float32 on ragged windows of random blocks (ExportError: too far off).

    Args:
        label: Name of the engine in messages.
        encode: Function that runs the engine under test.
        reference: Encoder in float32.
        precision: Precision of the engine, which decides the tolerance.
        window: Number of frames of a live window.
    """
    tolerance = TOLERANCES["engine"][precision]
    rng = np.random.default_rng(SEED)
    cosines, errors, flips, choices = [], [], 0, 0
    for n, share in CASES:
        s = max(1, round(share * window))
        silhouettes = random_blocks(rng, n, s, reference.info.size)
        lengths = rng.integers(1, s + 1, n).astype(np.int32)
        actual, expected = (run(silhouettes, lengths) for run in (encode, reference.encode))
        same = actual.salient_frames == expected.salient_frames  # [n, p]
        flips, choices = flips + int((~same).sum()), choices + same.size
        cosine = cosine_per_part(expected.embedding, actual.embedding, equal_is_one=False)
        cosines.append(np.nan_to_num(cosine, nan=0.0)[same])
        errors.append(largest_error(expected.embedding, actual.embedding, same))
    least = float(np.concatenate(cosines).min(initial=1.0))
    if least < tolerance.cosine or flips > tolerance.flips * choices:
        raise ExportError(
            f"{label} differs from ONNX Runtime: cosine {least:.6f} (expected at "
            f"least {tolerance.cosine}), {flips} of {choices} salient frames differ (expected at "
            f"most {tolerance.flips:.0%}). Nothing was kept; try --plugin off or another precision"
        )
    return {
        "against": f"{reference.info.backend}, float32",
        "seed": SEED,
        "min_cosine": least,
        "max_abs_error": float(np.max(errors)),
        "flips": flips,
        "choices": choices,
        "limits": {"min_cosine": tolerance.cosine, "flips": tolerance.flips},
    }
