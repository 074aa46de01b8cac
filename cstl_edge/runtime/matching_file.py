"""`matching.npz` of an exported folder: mean, whitening and joint projection of its distance.

All come from synthetic people (`export.matching`), as float16; not every model has a joint
projection. The file is data alone: numpy reads it without pickle, and its sha256 stands in the
manifest. Letters: p parts, d embedding dimensions.
"""

from __future__ import annotations

import hashlib
import io
from pathlib import Path
from typing import Any

import numpy as np

from cstl_edge.distance import Distance
from cstl_edge.errors import ModelError, one_line
from cstl_edge.foreign import load_npz, parsing
from cstl_edge.runtime.manifest import Manifest, read_file

NAME = "matching.npz"
MAX_BYTES = 64 * 2**20  # 32 parts of 512 dimensions take 17 MB


def read_distance(folder: Path, manifest: Manifest) -> Distance:
    """Return the distance that a folder's manifest names, with its statistics (ModelError)."""
    matching, shape = manifest.matching, manifest.shape
    if matching is None:
        return Distance()
    if (matching.joint or matching.fused_walks) and matching.distance != "cosine":
        raise ModelError(
            f"{one_line(folder)}: a joint row and fused walks need the distance cosine; got "
            f"{matching.distance}. Export the model again"
        )
    if matching.joint and matching.file is None:
        raise ModelError(
            f"{one_line(folder)}: expected a joint row in {NAME}; the manifest names no file. "
            "Export the model again"
        )
    rows = shape.parts + matching.joint
    weights = None if matching.weights is None else np.array(matching.weights, np.float32)
    if weights is not None and len(weights) != rows:
        raise ModelError(
            f"{one_line(folder)}: expected {rows} weights of rows; got {len(weights)}."
            " Export the model again"
        )
    if matching.file is None:
        return Distance(matching.distance, weights, fused_walks=matching.fused_walks)
    path = folder / matching.file
    data = read_file(path, MAX_BYTES)
    if hashlib.sha256(data).hexdigest() != matching.sha256:
        raise ModelError(f"{one_line(path)} is not the exported one. Export the model again")
    expected = {
        "mean": (shape.parts, shape.embedding),
        "whitening": (shape.parts, shape.embedding, shape.embedding),
    }
    if matching.joint:
        expected["joint"] = (shape.embedding, shape.parts, shape.embedding)
    arrays = {}
    with parsing(path, f"the arrays {expected}", ModelError, "export the model again"):
        for name, stored in load_npz(data, expected, 2 * MAX_BYTES).items():
            array = np.asarray(stored, np.float32)
            if array.shape != expected[name] or not np.isfinite(array).all():
                raise ValueError(f"{name} is {array.shape}, or not finite")
            arrays[name] = array
    return Distance(matching.distance, weights, **arrays, fused_walks=matching.fused_walks)


def matching_bytes(distance: Distance) -> bytes:
    """Return the content of the file for a distance that has a mean and a whitening."""
    assert distance.mean is not None
    assert distance.whitening is not None
    arrays = {"mean": distance.mean, "whitening": distance.whitening}
    if distance.joint is not None:
        arrays["joint"] = distance.joint
    halves: dict[str, Any] = {name: x.astype(np.float16) for name, x in arrays.items()}
    buffer = io.BytesIO()
    np.savez(buffer, **halves)
    return buffer.getvalue()
