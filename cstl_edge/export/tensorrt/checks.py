"""What engines answer beside ONNX Runtime in float32: no engine is kept that answers otherwise.

Letters: n walkers, s frames, p parts, d embedding dimensions.
"""

from __future__ import annotations

import json
import logging
import re
from collections import Counter
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from cstl_edge.arrays import Floats, Ints, Silhouettes
from cstl_edge.errors import ExportError, ModelError
from cstl_edge.runtime.base import Embedded, Encoder
from cstl_edge.runtime.manifest import Manifest
from cstl_edge.runtime.tensorrt.engine import Session
from cstl_edge.runtime.tensorrt.record import Built

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


log = logging.getLogger(__name__)


RUN = ("frames", "head")  # what the runtime needs; `full` is for those who bring their own
SEED = 20211
COSINE = {"float32": 0.99999, "fp16": 0.999, "int8": 0.98}
"""Least cosine between a part's embedding and float32's; int8's own gate is the export's."""
FLIPS = {"float32": 0.0, "fp16": 0.05, "int8": 0.2}
"""Largest share of salient frames that may differ: near-ties fall either way after rounding."""
CASES = ((1, 0.0), (1, 1.0), (3, 0.7), (8, 1.0))
"""Walkers, and their frames as a share of the window, at least one."""


class Encodes(Protocol):
    """What `parity` asks of an engine."""

    def encode(self, silhouettes: Silhouettes, lengths: Ints) -> Embedded:
        """Return the embeddings of sequences [n, s, h, w]."""


class FullEngine:
    """The engine of `full`, which no runtime of ours uses."""

    def __init__(self, session: Session, salient: bool) -> None:
        """Take an open session with `full` in it."""
        self._session, self._salient = session, salient

    def encode(self, silhouettes: Silhouettes, lengths: Ints) -> Embedded:
        """Return the embeddings of sequences [n, s, h, w]."""
        embeddings, salient = zip(*self._session.full(silhouettes, lengths), strict=True)
        embedding = np.concatenate(embeddings)
        if not self._salient:
            return Embedded(embedding, np.full(embedding.shape[:2], -1, np.int32))
        return Embedded(embedding, np.concatenate(salient))


def compared(
    plans: dict[str, bytes], built: dict[str, Built], manifest: Manifest, folder: Path
) -> dict[str, dict[str, Any]]:
    """Run new engines beside ONNX Runtime in float32; return what was found, by graph.

    `frames` and `head` are compared together, as they are used. ExportError when they differ.
    """
    from cstl_edge.runtime.backends.onnxruntime import load_folder
    from cstl_edge.runtime.tensorrt.encoder import look_around, open_plans, open_session

    found: dict[str, dict[str, Any]] = {}
    run = [graph for graph in RUN if graph in built]
    if len(run) == 1:
        log.warning("%s is not compared with ONNX Runtime: build frames and head together", run[0])
    reference = load_folder(folder, 1, "float32")
    try:
        if len(run) == len(RUN):
            records = {graph: built[graph] for graph in RUN}
            pair = open_plans({graph: plans[graph] for graph in RUN}, records, manifest, folder)
            try:
                found = dict.fromkeys(RUN, _told("frames and head", pair, reference, built["head"]))
            finally:
                pair.close()
        if "full" in built:
            record = {"full": built["full"]}
            session = open_session(look_around(record, folder), {"full": plans["full"]}, record)
            try:
                engine = FullEngine(session, manifest.shape.salient)
                found["full"] = _told("full", engine, reference, built["full"])
            finally:
                session.close()
    finally:
        reference.close()
    return found


def _told(what: str, engine: Encodes, reference: Encoder, record: Built) -> dict[str, Any]:
    return parity(what, engine, reference, record.precision, record.window)


def parity(
    what: str, engine: Encodes, reference: Encoder, precision: str, window: int
) -> dict[str, Any]:
    """Compare an engine with float32 on ragged windows; ExportError when they differ."""
    rng = np.random.default_rng(SEED)
    height, width = reference.info.size
    cosines, errors, flips, choices = [], [], 0, 0
    for n, share in CASES:
        s = max(1, round(share * window))
        coarse = rng.integers(0, 2, (n, s, -(-height // 4), -(-width // 4)), dtype=np.uint8)
        fine = coarse.repeat(4, 2).repeat(4, 3)[:, :, :height, :width] * np.uint8(255)
        lengths = rng.integers(1, s + 1, n).astype(np.int32)
        found, expected = (
            encoder.encode(np.ascontiguousarray(fine), lengths) for encoder in (engine, reference)
        )
        agreed = found.salient_frames == expected.salient_frames  # [n, p]
        flips, choices = flips + int((~agreed).sum()), choices + agreed.size
        cosines.append(_cosine(found, expected)[agreed])
        errors.append(np.abs(found.embedding - expected.embedding)[agreed].ravel())
    least = float(np.concatenate(cosines).min(initial=1.0))
    told: dict[str, Any] = {
        "against": f"{reference.info.backend}, float32",
        "seed": SEED,
        "min_cosine": least,
        "max_abs_error": float(np.concatenate(errors).max(initial=0.0)),
        "flips": flips,
        "choices": choices,
        "limits": {"min_cosine": COSINE[precision], "flips": FLIPS[precision]},
    }
    if least < COSINE[precision] or flips > FLIPS[precision] * choices:
        raise ExportError(
            f"{what} differs from ONNX Runtime: cosine {least:.6f} (expected at "
            f"least {COSINE[precision]}), {flips} of {choices} salient frames differ (expected at "
            f"most {FLIPS[precision]:.0%}). Nothing was kept; try --plugin off or another precision"
        )
    return told


def _cosine(found: Embedded, expected: Embedded) -> Floats:
    """Return the cosine of each part's embeddings [n, p]; a NaN counts as 0."""
    a, b = found.embedding, expected.embedding  # [n, p, d]
    norms = np.linalg.norm(a, axis=2) * np.linalg.norm(b, axis=2)
    with np.errstate(invalid="ignore", divide="ignore"):
        cosine: Floats = np.nan_to_num((a * b).sum(2) / norms, nan=0.0)
    return cosine
