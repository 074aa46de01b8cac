"""What an engine really is: the types its layers compute in. Its answers are `engine_parity`'s.

A request for FP16 is no proof of it: engines named so have been float32. The network after parsing
is typed for good, so its layers tell without a GPU; the inspector tells what the builder made of
them. The inspector's words differ among versions, and were never read on a device yet.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from typing import Any

from cstl_edge.errors import ExportError, ModelError

HEAVY = ("CONVOLUTION", "MATRIX_MULTIPLY")  # 99 % of the arithmetic
WANTED = {"float32": "FLOAT", "fp16": "HALF", "int8": "HALF"}
MOSTLY = 0.8  # of the heavy layers compute in the type asked for; the manifest lists the others


def typed_layers(trt: Any, network: Any) -> dict[str, dict[str, int]]:
    """Count the layers of a parsed network that do the work, by kind and type of their output."""
    found: dict[str, Counter[str]] = {}
    for i in range(network.num_layers):
        layer = network.get_layer(i)
        kind = layer.type.name
        if kind in (*HEAVY, "QUANTIZE", "DEQUANTIZE", "PLUGIN_V3", "TOPK"):
            found.setdefault(kind, Counter())[layer.get_output(0).dtype.name] += 1
    return {kind: dict(count) for kind, count in found.items()}


def check_types(graph: str, precision: str, layers: dict[str, dict[str, int]]) -> None:
    """Refuse a network whose heavy layers do not compute in the precision asked for (ExportError).

    A quantised convolution stands there with the type that its inputs are dequantised to, so INT8
    is told by its QUANTIZE layers.
    """
    if precision == "int8" and graph != "head":
        if not layers.get("QUANTIZE"):
            raise ExportError(f"{graph}: expected quantised convolutions; the network has none")
        return
    counts: Counter[str] = Counter()
    for kind in HEAVY:
        counts.update(layers.get(kind, {}))
    wanted, total = WANTED[precision], sum(counts.values())
    if total and counts[wanted] < MOSTLY * total:
        raise ExportError(
            f"{graph}: expected {precision}; only {counts[wanted]} of {total} convolutions and "
            f"matrix products are {wanted}: {dict(counts)}. Export the model again"
        )


def inspected(trt: Any, logger: Any, plan: bytes) -> dict[str, Any]:
    """Open a plan that was just built here, and count its layers by the type of their output."""
    engine = trt.Runtime(logger).deserialize_cuda_engine(plan)
    if engine is None:
        raise ModelError(f"TensorRT does not open what it built: {logger.last_error}")
    inspector = engine.create_engine_inspector()
    text = inspector.get_engine_information(trt.LayerInformationFormat.JSON)
    return inspected_layers(text)


def inspected_layers(text: str) -> dict[str, Any]:
    """Return the number of layers and their output types from the inspector's JSON.

    Up to 10 a tensor says `Format/Datatype`, in words; since 11 `Format` and `Datatype` are two.
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
