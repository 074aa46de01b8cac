"""Import of checkpoints of the code that the paper's authors released.

Such a file holds names and tensors and nothing else: pickled code is refused, and so is every name
and shape that the released network does not have. There every operator over time is a grouped 1-D
convolution, one group per part, so a weight is [p*outputs, inputs, taps]; the channels of a
concatenation are [frame | short | long]. Here a part has a matrix of its own, and a concatenation
is one block per scale. Letters: p parts, c channels, o outputs, i inputs, d embedding dimensions.
"""

from __future__ import annotations

import hashlib
import io
import pickle
import warnings
import zipfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor

from cstl_edge.checkpoint.weights import COUNTER, State, refuse_nonfinite
from cstl_edge.errors import ModelError, one_line
from cstl_edge.foreign import parsing, read_bytes
from cstl_edge.model import Cstl, CstlConfig
from cstl_edge.model.config import SCALES
from cstl_edge.model.temporal import KERNEL, SQUEEZE

EXPECTED = "a checkpoint of the released code, as torch.save or safetensors write it"
MAX_BYTES = 512 * 2**20  # the largest form (OU-MVLP) has 150 MB, with Adam's moments 450
SIZES = {32: (64, 44), 64: (128, 88)}  # silhouettes by parts: one part per row of a feature map

# Names in a released checkpoint
PREFIX = "module."  # of torch's DataParallel, in which the released code trains
WRAPPER = "model"  # under which OpenGait's files keep the weights, beside optimiser and scheduler
TRANSFORMER = ("adaptive_aggregation.t.", "salient_learning.decay_c.")  # of another branch
EMBED, CLASSES, CLASS_NORM = "fc_bin", "salient_learning.fc", "salient_learning.bn"
CONVS = [f"conv2d_{number}.forward_block.conv2d.weight" for number in range(1, 5)]
STATISTICS = ("weight", "bias", "running_mean", "running_var")


# Where our layers are in a released checkpoint
MATRICES = {
    "short.convs.0": "multi_scale.short_term.0.0",
    "short.convs.1": "multi_scale.short_term.1.0",
    "long.first": "multi_scale.score.0",
    "long.second": "multi_scale.score.3",
    "scores.second": "salient_learning.part_score.3",
}
SPLIT_MATRICES = {  # with the axis of [p, o, i] that is a concatenation: 1 or 2
    "aggregation.first": ("adaptive_aggregation.in_conv", 2),
    "aggregation.second": ("adaptive_aggregation.out_conv", 1),
    "scores.first": ("salient_learning.part_score.0", 2),
    "context.projection": ("salient_learning.decay_channel", 2),
}
NORMS = {
    "short.norms.0": "multi_scale.short_term.0.1",
    "short.norms.1": "multi_scale.short_term.1.1",
    "long.norm": "multi_scale.score.1",
    "scores.norm": "salient_learning.part_score.1",
}


def import_released(path: str | Path, *, class_head: bool = False) -> tuple[Cstl, dict[str, Any]]:
    """Return the network of a released checkpoint, in evaluation mode, and its name and origin.

    path: a `.ptm` or `.pth` of torch.save, of any age, or a `.safetensors`
    class_head: keep the class head of the training too
    Raises ModelError that names the first key that is missing, unexpected or of another shape, the
    branch whose network it is instead, or the reason why the file cannot be read.
    """
    name, data = one_line(path), _read_bytes(Path(path))
    state = _select_tensors(name, _deserialise(Path(path), data), len(data))
    _refuse_other_networks(name, state)
    config = _infer_config(name, state)
    _check_shapes(name, released_shapes(config), state)
    weights = {k: t.detach().float() for k, t in state.items() if t.is_floating_point()}
    refuse_nonfinite(weights, name)
    for key, tensor in weights.items():
        if key.endswith("running_var") and bool((tensor < 0).any()):
            raise ModelError(f"{name}: {key} holds a negative variance; these weights are unusable")
    if class_head and not config.classes:
        raise ModelError(f"{name}: expected the class head {CLASSES}, got none; import without it")
    origin = {
        "form": "released",
        "file": Path(path).name,
        "sha256": hashlib.sha256(data).hexdigest(),
        "classes": config.classes,
    }
    config = config if class_head else replace(config, classes=0)
    model = Cstl(config)
    model.load_state_dict(convert_state(weights, config))
    return model.eval(), {"name": Path(path).stem, "imported": origin}


def released_shapes(config: CstlConfig) -> dict[str, list[int]]:
    """Return the shape of every tensor in a checkpoint of the released network."""
    p, c, d = config.parts, config.widths[-1], config.embedding
    narrow, wide = max(1, c // SQUEEZE), max(1, 3 * c // SQUEEZE)  # hidden channels of the MLPs
    inputs = (1, *config.widths[:-1])
    trunk = zip(CONVS, config.widths, inputs, strict=True)
    shapes = {
        EMBED: [p, 3 * c, d],
        **{key: [outputs, channels, 3, 3] for key, outputs, channels in trunk},
        "multi_scale.score.0.weight": [p * narrow, c, 1],
        **_norm_shapes("multi_scale.score.1", p * narrow),
        "multi_scale.score.3.weight": [p * c, narrow, 1],
        "multi_scale.short_term.0.0.weight": [p * c, c, KERNEL],
        **_norm_shapes("multi_scale.short_term.0.1", p * c),
        "multi_scale.short_term.1.0.weight": [p * c, c, KERNEL],
        **_norm_shapes("multi_scale.short_term.1.1", p * c),
        "adaptive_aggregation.in_conv.weight": [p * wide, 3 * c, 1],
        "adaptive_aggregation.out_conv.weight": [p * 3 * c, wide, 1],
        "salient_learning.part_score.0.weight": [p * wide, 3 * c, 1],
        **_norm_shapes("salient_learning.part_score.1", p * wide),
        "salient_learning.part_score.3.weight": [p, wide, 1],
        "salient_learning.decay_channel.weight": [p * c, 3 * c, 1],
    }
    if config.classes:
        shapes[CLASSES] = [1, c, config.classes]
        for part in range(p):
            shapes |= _norm_shapes(f"{CLASS_NORM}.{part}", c)
    return shapes


def convert_state(state: Mapping[str, Tensor], config: CstlConfig) -> dict[str, Tensor]:
    """Convert a state with the names and shapes of `released_shapes` to that of `Cstl`."""
    p = config.parts
    ours = {f"backbone.convs.{i}.weight": state[key] for i, key in enumerate(CONVS)}
    for layer, key in MATRICES.items():
        ours[f"{layer}.weight"] = _matrices(state, key, p)
    for layer, (key, axis) in SPLIT_MATRICES.items():
        blocks = _matrices(state, key, p).chunk(len(SCALES), axis)
        ours |= {f"{layer}.{s}.weight": block for s, block in zip(SCALES, blocks, strict=True)}
    for layer, key in NORMS.items():
        ours |= {f"{layer}.{name}": state[f"{key}.{name}"].reshape(p, -1) for name in STATISTICS}
    temporal, context, salient = state[EMBED].transpose(1, 2).chunk(3, 2)  # [p, d, c] each
    ours["embed.weight"] = torch.cat((salient, temporal, context), 2)  # [p, d, 3c]
    if config.classes:
        ours["class_head.weight"] = state[CLASSES][0]
        for name in STATISTICS:
            parts = [state[f"{CLASS_NORM}.{part}.{name}"] for part in range(p)]
            ours[f"class_head.norm.{name}"] = torch.stack(parts)  # [p, c]
    return ours


def _read_bytes(path: Path) -> bytes:
    """Read a regular file of at most `MAX_BYTES`."""
    return read_bytes(path, MAX_BYTES, EXPECTED, ModelError)


def _deserialise(path: Path, data: bytes) -> Any:
    """Return the content of a file, without running pickled code."""
    name = one_line(path)
    _refuse_inflating(name, data)
    try:
        with parsing(path, EXPECTED, ModelError, "fetch it again"):
            if path.suffix == ".safetensors":
                return safetensors.torch.load(data)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # torch's notes on its own old storages
                return torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except ModelError as err:
        if not isinstance(err.__cause__, pickle.UnpicklingError):
            raise
        raise ModelError(
            f"{name}: expected tensors alone, got something else, and did not run it: "
            f"{one_line(_refusal(err.__cause__), 120)}"
        ) from err.__cause__


def _refusal(err: pickle.UnpicklingError) -> str:
    """Return what torch refused, without its advice on how to load the file all the same."""
    words = str(err).partition("Check the documentation")[0].strip().splitlines()
    return words[-1].rpartition("WeightsUnpickler error: ")[2] if words else "no word"


def _refuse_inflating(name: str, data: bytes) -> None:
    """Refuse a zip whose content is larger than a file may be; torch itself never compresses."""
    with parsing(name, EXPECTED, ModelError, "fetch it again"):
        file = io.BytesIO(data)
        if not zipfile.is_zipfile(file):
            return
        with zipfile.ZipFile(file) as archive:
            size = sum(entry.file_size for entry in archive.infolist())
    if size > MAX_BYTES:
        raise ModelError(f"{name}: expected at most {MAX_BYTES} bytes of content, got {size}")


def _select_tensors(name: str, loaded: Any, file_bytes: int) -> dict[str, Tensor]:
    """Return the tensors by their names in the released code."""
    if isinstance(loaded, Mapping) and isinstance(loaded.get(WRAPPER), Mapping):
        loaded = loaded[WRAPPER]
    if not isinstance(loaded, Mapping) or not loaded:
        raise ModelError(f"{name}: expected tensors by name, got {type(loaded).__name__}")
    for key, value in loaded.items():
        tensor = isinstance(value, Tensor) and value.layout == torch.strided  # dense
        if not (isinstance(key, str) and tensor and value.is_cpu and not value.is_quantized):
            raise ModelError(
                f"{name}: {one_line(key)}: expected a tensor, got {type(value).__name__}"
            )
    claimed = sum(t.numel() * t.element_size() for t in loaded.values())
    if claimed > file_bytes:  # a tensor of stride 0 may claim any shape
        raise ModelError(f"{name}: its tensors claim {claimed} bytes in a file of {file_bytes}")
    prefixed = all(key.startswith(PREFIX) for key in loaded)
    return {key.removeprefix(PREFIX) if prefixed else key: t for key, t in loaded.items()}


def _refuse_other_networks(name: str, state: State) -> None:
    """Refuse the networks that are often taken for the released one, by name."""
    for key in state:
        if key.startswith(TRANSFORMER):
            raise ModelError(
                f"{name}: {one_line(key)} is of the authors' branch transformer_version, which is "
                "another network than the paper's. Expected a checkpoint of their branch main"
            )
    if "embed.weight" in state and EMBED not in state:
        raise ModelError(
            f"{name} is of cstl_edge itself, expected one of the released code; use it as it is"
        )


def _infer_config(name: str, state: State) -> CstlConfig:
    """Infer the configuration from shapes that carry it."""
    parts, _, embedding = _shape(name, state, EMBED, 3)
    widths = tuple(_shape(name, state, key, 4)[0] for key in CONVS)
    classes = _shape(name, state, CLASSES, 3)[2] if CLASSES in state else 0
    if parts not in SIZES:
        known = " or ".join(f"{k} (silhouettes of {h}x{w})" for k, (h, w) in SIZES.items())
        raise ModelError(f"{name}: {EMBED}: expected {known} parts, got {parts}")
    try:
        return CstlConfig.from_dict({
            "size": SIZES[parts], "widths": widths, "parts": parts, "embedding": embedding,
            "classes": classes, "variant": "released",
        })  # fmt: skip
    except ValueError as err:
        raise ModelError(f"{name}: {one_line(err)}") from err


def _shape(name: str, state: State, key: str, ndim: int) -> list[int]:
    if key not in state:
        raise ModelError(f"{name}: missing key {key} of the released network")
    shape = list(state[key].shape)
    if len(shape) != ndim:
        raise ModelError(f"{name}: {key}: expected {ndim} dimensions, got shape {shape}")
    return shape


def _check_shapes(name: str, expected: Mapping[str, list[int]], state: State) -> None:
    """Refuse the first key that is missing, of another shape or kind, or too many."""
    for key, shape in expected.items():
        counter = key.endswith(COUNTER)
        if key not in state:
            if counter:
                continue
            raise ModelError(f"{name}: missing key {key} {shape} of the released network")
        got = list(state[key].shape)
        if got != shape:
            raise ModelError(f"{name}: {key}: expected shape {shape}, got {got}")
        if not counter and not state[key].is_floating_point():
            raise ModelError(f"{name}: {key}: expected floating point, got {state[key].dtype}")
    for key in state:
        if key not in expected:
            raise ModelError(
                f"{name}: unexpected key {one_line(key)} {list(state[key].shape)}; the released "
                "network has none such"
            )


def _norm_shapes(key: str, channels: int) -> dict[str, list[int]]:
    return {f"{key}.{name}": [channels] for name in STATISTICS} | {f"{key}.{COUNTER}": []}


def _matrices(state: Mapping[str, Tensor], key: str, p: int) -> Tensor:
    """Reorder a grouped convolution [p*o, i, taps] to [p, o, taps*i], as `_windows` has it."""
    weight = state[f"{key}.weight"]
    by_part = weight.reshape(p, -1, *weight.shape[1:])  # [p, o, i, taps]
    return by_part.transpose(2, 3).flatten(2)  # [p, o, taps*i]
