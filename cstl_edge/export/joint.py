"""Joint projections: one more row for matching from all parts of an embedding, in a file.

A projection is of one network's embeddings: the file names the weights, and an export of others
refuses it. An exported folder holds its projection too, and gives it for the next export. Letters:
p parts, d embedding dimensions.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from cstl_edge.arrays import Floats
from cstl_edge.checkpoint.weights import read_header, read_tensors, refuse_nonfinite, write_tensors
from cstl_edge.errors import ModelError, one_line
from cstl_edge.foreign import load_json, parsing
from cstl_edge.model import CstlConfig
from cstl_edge.runtime.manifest import read_manifest
from cstl_edge.runtime.matching_file import read_distance

FORMAT = "cstl_edge joint projection 1"
_TENSOR = "joint"


@dataclass(frozen=True, eq=False)
class JointProjection:
    """A projection from all parts to one row, and whose embeddings it was trained on."""

    matrix: Floats  # [d, p, d], as float16 has it
    weights_sha256: str
    data: Mapping[str, Any] = field(default_factory=dict)  # people, sequences, steps of training

    def require(self, weights_sha256: str, adapted_from: str | None, config: CstlConfig) -> None:
        """Raise ModelError where this is the projection of another network.

        Args:
            weights_sha256: Hash of the weights.
            adapted_from: Hash of those they were adapted from, whose embeddings are nearly theirs.
            config: Configuration of their network.
        """
        d = config.embedding
        expected = (d, config.parts, d)
        if self.weights_sha256 not in (weights_sha256, adapted_from):
            raise ModelError(
                f"the joint projection is of the weights {one_line(self.weights_sha256[:12])}…, "
                f"expected {weights_sha256[:12]}…. Train one for these: train/fit_joint.py"
            )
        if self.matrix.shape != expected:
            raise ModelError(
                f"expected a joint projection {expected}; got {self.matrix.shape}. Train it again"
            )


def joint_for(
    source: Path, weights_sha256: str, training: Mapping[str, Any], config: CstlConfig
) -> JointProjection:
    """Read the projection of a network from a file or an exported folder (ModelError: of others).

    Args:
        source: File of `train/fit_joint.py`, or an exported folder.
        weights_sha256: Hash of the network's weights.
        training: Record of their training.
        config: Configuration of the network.
    """
    joint = read_joint(source)
    joint.require(weights_sha256, adapted_from(training), config)
    return joint


def adapted_from(training: Mapping[str, Any]) -> str | None:
    """Return the hash of the weights that others were adapted from; None: they were trained."""
    found = training.get("adapted", {}).get("from")
    return None if found is None else str(found)


def write_joint(path: str | Path, joint: JointProjection) -> None:
    """Write a projection as float16 (StorageError, ModelError where a number does not fit)."""
    tensors = {_TENSOR: torch.from_numpy(joint.matrix).half()}
    refuse_nonfinite(tensors, "rounding to float16")
    texts = {"weights_sha256": joint.weights_sha256, "data": json.dumps(dict(joint.data))}
    write_tensors(path, tensors, {"format": FORMAT, **texts})


def read_joint(path: Path) -> JointProjection:
    """Read a projection from its file, or from an exported folder that has one (ModelError)."""
    if path.is_dir():
        return _of_folder(path)
    metadata, shapes = read_header(path)
    if metadata.get("format") != FORMAT or [*shapes] != [_TENSOR]:
        raise ModelError(
            f"{one_line(path)}: expected a file of train/fit_joint.py, or an exported folder with "
            "a joint projection"
        )
    tensors = read_tensors(path)
    refuse_nonfinite(tensors, one_line(path))
    with parsing(path, "a joint projection", ModelError, "train it again"):
        data = dict(load_json(metadata["data"]))
        matrix = np.asarray(tensors[_TENSOR].float().numpy(), np.float32)
        return JointProjection(matrix, str(metadata["weights_sha256"]), data)


def _of_folder(folder: Path) -> JointProjection:
    manifest = read_manifest(folder)
    joint = read_distance(folder, manifest).joint
    if joint is None or manifest.matching is None:
        raise ModelError(f"{one_line(folder)} was exported without a joint projection")
    return JointProjection(joint, manifest.weights_sha256, manifest.matching.data.get("joint", {}))
