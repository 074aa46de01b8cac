"""Checkpoints: weights as safetensors with the configuration inside; written whole or not at all.

A checkpoint is a plain safetensors file whose metadata hold `config` (of the network), `training`
(data and settings of the training), `weights_sha256`, which identifies the model in manifests and
galleries, and `sha256` over all tensors and both texts. A file is checked in this order: header,
names and shapes against the configuration, hashes, finite numbers.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from cstl_edge.errors import ModelError, one_line
from cstl_edge.foreign import load_json, open_regular, parsing
from cstl_edge.model import Cstl, CstlConfig
from cstl_edge.output import whole_file

State = Mapping[str, Tensor]

FORMAT = "1"  # of the metadata
MAX_HEADER_BYTES = 2**24
DTYPES = {torch.float32: "F32", torch.float16: "F16", torch.int64: "I64", torch.uint8: "U8"}
CLASS_MATRIX = "class_head.weight"  # of each part; older files have one for all parts
COUNTER = "num_batches_tracked"  # batch norm's; used by no inference


def save_checkpoint(
    path: str | Path,
    model: Cstl,
    training: Mapping[str, Any] | None = None,
    *,
    weights: State | None = None,
    inference_only: bool = True,
    half: bool = False,
) -> str:
    """Write a network and return its `weights_sha256`.

    Args:
        path: File to write; its folder is created when it is missing.
        model: Network to save.
        training: Record for the model card; values that JSON can hold.
        weights: Moving average to store in place of the model's own weights.
        inference_only: True to leave out the class head and the batch-norm counters.
        half: True to round once to float16 and store that.

    Raises:
        ModelError: A number does not fit float16.
        StorageError: The disk refuses.
    """
    state = dict(model.state_dict() if weights is None else weights)
    config = model.config
    if inference_only:
        state, config = inference_tensors(state, config), replace(config, classes=0)
    if half:
        state = round_to_half(state)
    digest = weights_sha256(inference_tensors(state, config))
    texts = {
        "config": json.dumps(config.to_dict(), sort_keys=True),
        "training": json.dumps(dict(training or {}), sort_keys=True),
        "weights_sha256": digest,
    }
    write_tensors(path, state, {"format": FORMAT, **texts, "sha256": _file_sha256(texts, state)})
    return digest


def load_checkpoint(
    path: str | Path, expected_sha256: str | None = None
) -> tuple[Cstl, dict[str, Any]]:
    """Return the network of a checkpoint, in evaluation mode and float32, and its `training`.

    expected_sha256: `weights_sha256` that the file must have, where it is known
    Raises ModelError for the first mismatch.
    """
    name = one_line(path)
    metadata, shapes = read_header(path)
    if metadata.get("format") != FORMAT:
        raise ModelError(
            f"{name}: expected a checkpoint of format {FORMAT}, got "
            f"{one_line(metadata.get('format'))}. Read it with the version that wrote it"
        )
    form = "the configuration of a CSTL network in its metadata"
    with parsing(path, form, ModelError, "it was not written by cstl_edge"):
        config = CstlConfig.from_dict(load_json(metadata["config"]))
        training = dict(load_json(metadata["training"]))
        expected = _expected_shapes(config)
    if shapes.get(CLASS_MATRIX) == expected.get(CLASS_MATRIX, [])[1:]:  # as until 2026-11-30
        expected[CLASS_MATRIX] = shapes[CLASS_MATRIX]
    _compare_shapes(name, expected, shapes)
    state = read_tensors(path)
    digest = weights_sha256(inference_tensors(state, config))
    stated = metadata.get("weights_sha256"), metadata.get("sha256")
    if stated != (digest, _file_sha256(metadata, state)):
        raise ModelError(f"{name}: its sha256 does not match its content; fetch it again")
    if expected_sha256 is not None and digest != expected_sha256:
        raise ModelError(
            f"{name}: expected weights with sha256 {expected_sha256}, got {digest}. "
            "It is another model"
        )
    refuse_nonfinite(state, name)
    model = Cstl(config)
    model.load_state_dict({key: _as_float32(tensor) for key, tensor in state.items()}, strict=False)
    return model.eval(), training


def inference_tensors(state: State, config: CstlConfig) -> dict[str, Tensor]:
    """Return the tensors that the embedding needs: no class head, no batch-norm counters."""
    needed = _expected_shapes(replace(config, classes=0))
    return {key: tensor for key, tensor in state.items() if key in needed}


def round_to_half(state: State) -> dict[str, Tensor]:
    """Return floating tensors as float16; ModelError where a number does not fit."""
    halves = {k: t.half() if t.is_floating_point() else t for k, t in state.items()}
    refuse_nonfinite(halves, "rounding to float16")
    return halves


def weights_sha256(weights: str | Path | State) -> str:
    """Compute the sha256 over names, shapes and numbers of the inference tensors, sorted by name.

    Floating tensors are hashed as float32, so that a file stored in float16 and the network loaded
    from it have the same hash.

    weights: a checkpoint, or a state dict without class head
    """
    if not isinstance(weights, Mapping):
        model, _ = load_checkpoint(weights)
        weights = inference_tensors(model.state_dict(), model.config)
    total = hashlib.sha256()
    for key in sorted(k for k in weights if not k.endswith(COUNTER)):
        tensor = _as_float32(weights[key]).detach().cpu().contiguous()
        total.update(f"{key} {str(tensor.dtype)[6:]} {list(tensor.shape)}\n".encode())
        total.update(tensor.numpy().tobytes())
    return total.hexdigest()


def refuse_nonfinite(state: State, name: str) -> None:
    """Raise ModelError when a tensor holds NaN or infinity, naming the first."""
    for key, tensor in state.items():
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise ModelError(f"{name}: {key} holds NaN or infinity; these weights are unusable")


def write_tensors(path: str | Path, tensors: State, metadata: Mapping[str, str]) -> None:
    """Write a safetensors file through a temporary one: whole or not at all, even at a power cut.

    Args:
        path: File to write.
        tensors: Tensors by name.
        metadata: Texts for the header.

    Raises:
        StorageError: The disk refuses; the previous file is then as it was.
    """
    with whole_file(path) as file:
        for chunk in _serialise(tensors, metadata):
            file.write(chunk)


def read_tensors(path: str | Path) -> dict[str, Tensor]:
    """Read all tensors of a safetensors file; ModelError when it is damaged."""
    read_header(path)
    with parsing(path, "a safetensors file", ModelError, "fetch it again"):
        return load_file(str(path))


def read_header(path: str | Path) -> tuple[dict[str, str], dict[str, list[int]]]:
    """Return metadata and shapes of a safetensors file from its first bytes, allocating nothing.

    Raises ModelError when the file is missing, of another kind, or cut short.
    """
    name = one_line(path)
    with parsing(path, "a safetensors file", ModelError, "fetch it again"):
        with open_regular(path) as file:
            size = os.fstat(file.fileno()).st_size
            length = int.from_bytes(file.read(8), "little")
            if not 2 <= length <= min(size - 8, MAX_HEADER_BYTES):
                raise ValueError("something else")
            header = load_json(file.read(length))
        metadata = header.pop("__metadata__", {})
        if not all(isinstance(text, str) for pair in metadata.items() for text in pair):
            raise ValueError("metadata that are no texts")
        shapes = {key: [int(n) for n in entry["shape"]] for key, entry in header.items()}
        end = max((int(entry["data_offsets"][1]) for entry in header.values()), default=0)
    if 8 + length + end != size:
        raise ModelError(f"{name}: expected {8 + length + end} bytes, got {size}; fetch it again")
    return metadata, shapes


def _serialise(tensors: State, metadata: Mapping[str, str]) -> Iterator[bytes]:
    """Yield a safetensors file: length, JSON header, numbers.

    The library's own writer orders the metadata differently at every call; equal weights should be
    equal files.
    """
    header: dict[str, Any] = {"__metadata__": dict(metadata)}
    offset = 0
    for key, tensor in sorted(tensors.items()):
        end = offset + tensor.numel() * tensor.element_size()
        kind, shape = DTYPES[tensor.dtype], list(tensor.shape)
        header[key] = {"dtype": kind, "shape": shape, "data_offsets": [offset, end]}
        offset = end
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)  # the format aligns the numbers
    yield len(text).to_bytes(8, "little") + text
    for _, tensor in sorted(tensors.items()):
        yield tensor.detach().cpu().contiguous().numpy().tobytes()


def _expected_shapes(config: CstlConfig) -> dict[str, list[int]]:
    with torch.device("meta"):  # a hostile configuration allocates nothing
        state = Cstl(config).state_dict()
    return {key: list(t.shape) for key, t in state.items() if not key.endswith(COUNTER)}


def _compare_shapes(
    name: str, expected: Mapping[str, list[int]], got: Mapping[str, list[int]]
) -> None:
    for key, shape in expected.items():
        if key not in got:
            raise ModelError(f"{name}: missing key {key} {shape}")
        if got[key] != shape:
            raise ModelError(f"{name}: {key}: expected shape {shape}, got {got[key]}")
    for key in got:
        if key not in expected and not key.endswith(COUNTER):
            raise ModelError(f"{name}: unexpected key {one_line(key)} {got[key]}")


def _file_sha256(texts: Mapping[str, str], state: State) -> str:
    parts = [str(texts.get(key, "")) for key in ("config", "training", "weights_sha256")]
    return hashlib.sha256("\n".join([*parts, weights_sha256(state)]).encode()).hexdigest()


def _as_float32(tensor: Tensor) -> Tensor:
    return tensor.float() if tensor.is_floating_point() else tensor
