"""The tensors of the released network: names, shapes, and where their numbers go in ours.

There every operator over time is a grouped 1-D convolution, one group per part, so a weight is
[p*outputs, inputs, taps]; the channels of a concatenation are [frame | short | long]. Here a part
has a matrix of its own, and a concatenation is one block per scale. Letters: p parts, c channels,
o outputs, i inputs, d embedding dimensions.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from cstl_edge.model import CstlConfig
from cstl_edge.model.config import SCALES
from cstl_edge.model.temporal import KERNEL, SQUEEZE

EMBED, CLASSES, CLASS_NORM = "fc_bin", "salient_learning.fc", "salient_learning.bn"
CONVS = [f"conv2d_{number}.forward_block.conv2d.weight" for number in range(1, 5)]
COUNTER = "num_batches_tracked"  # batch norm's; of no use to us, so it may be missing
STATISTICS = ("weight", "bias", "running_mean", "running_var")


def released_shapes(config: CstlConfig) -> dict[str, list[int]]:
    """Return the shape of every tensor in a checkpoint of the released network."""
    p, c, d = config.parts, config.widths[-1], config.embedding
    narrow, wide = max(1, c // SQUEEZE), max(1, 3 * c // SQUEEZE)  # hidden channels of the MLPs
    return {
        EMBED: [p, 3 * c, d],
        **_trunk(config),
        "multi_scale.score.0.weight": [p * narrow, c, 1],
        **_norm_shapes("multi_scale.score.1", p * narrow),
        "multi_scale.score.3.weight": [p * c, narrow, 1],
        **_short(p, c),
        "adaptive_aggregation.in_conv.weight": [p * wide, 3 * c, 1],
        "adaptive_aggregation.out_conv.weight": [p * 3 * c, wide, 1],
        "salient_learning.part_score.0.weight": [p * wide, 3 * c, 1],
        **_norm_shapes("salient_learning.part_score.1", p * wide),
        "salient_learning.part_score.3.weight": [p, wide, 1],
        "salient_learning.decay_channel.weight": [p * c, 3 * c, 1],
        **(_class_head(p, c, config.classes) if config.classes else {}),
    }


def converted(state: Mapping[str, Tensor], config: CstlConfig) -> dict[str, Tensor]:
    """Return the state of our network from one whose names and shapes are `released_shapes`."""
    p, scores = config.parts, "salient_learning.part_score"
    ours = {f"backbone.convs.{i}.weight": state[key] for i, key in enumerate(CONVS)}
    for i in range(2):
        layer = f"multi_scale.short_term.{i}"
        ours[f"short.convs.{i}.weight"] = _matrices(state, f"{layer}.0", p)
        ours |= _norm(state, f"{layer}.1", f"short.norms.{i}", p)
    ours["long.first.weight"] = _matrices(state, "multi_scale.score.0", p)
    ours |= _norm(state, "multi_scale.score.1", "long.norm", p)
    ours["long.second.weight"] = _matrices(state, "multi_scale.score.3", p)
    inner = _matrices(state, "adaptive_aggregation.in_conv", p)  # [p, o, 3c]
    outer = _matrices(state, "adaptive_aggregation.out_conv", p)  # [p, 3c, i]
    ours |= _blocks(inner, 2, "aggregation.first") | _blocks(outer, 1, "aggregation.second")
    ours |= _blocks(_matrices(state, f"{scores}.0", p), 2, "scores.first")
    ours |= _norm(state, f"{scores}.1", "scores.norm", p)
    ours["scores.second.weight"] = _matrices(state, f"{scores}.3", p)
    decay = _matrices(state, "salient_learning.decay_channel", p)  # [p, c, 3c]
    ours |= _blocks(decay, 2, "context.projection")
    ours["embed.weight"] = _embed(state[EMBED])
    return ours | (_classes(state, p) if config.classes else {})


def _trunk(config: CstlConfig) -> dict[str, list[int]]:
    inputs = (1, *config.widths[:-1])
    sides = zip(CONVS, config.widths, inputs, strict=True)
    return {key: [out, into, 3, 3] for key, out, into in sides}


def _short(p: int, c: int) -> dict[str, list[int]]:
    shapes: dict[str, list[int]] = {}
    for i in range(2):
        shapes[f"multi_scale.short_term.{i}.0.weight"] = [p * c, c, KERNEL]
        shapes |= _norm_shapes(f"multi_scale.short_term.{i}.1", p * c)
    return shapes


def _class_head(p: int, c: int, classes: int) -> dict[str, list[int]]:
    shapes = {CLASSES: [1, c, classes]}
    for part in range(p):
        shapes |= _norm_shapes(f"{CLASS_NORM}.{part}", c)
    return shapes


def _norm_shapes(key: str, channels: int) -> dict[str, list[int]]:
    return {f"{key}.{name}": [channels] for name in STATISTICS} | {f"{key}.{COUNTER}": []}


def _matrices(state: Mapping[str, Tensor], key: str, p: int) -> Tensor:
    """Turn a grouped convolution [p*o, i, taps] into [p, o, taps*i], the order of `_windows`."""
    weight = state[f"{key}.weight"]
    by_part = weight.reshape(p, -1, *weight.shape[1:])  # [p, o, i, taps]
    return by_part.transpose(2, 3).flatten(2)  # [p, o, taps*i]


def _norm(state: Mapping[str, Tensor], key: str, ours: str, p: int) -> dict[str, Tensor]:
    return {f"{ours}.{name}": state[f"{key}.{name}"].reshape(p, -1) for name in STATISTICS}


def _blocks(matrices: Tensor, axis: int, ours: str) -> dict[str, Tensor]:
    """Cut the axis of a concatenation into one block per scale."""
    pieces = zip(SCALES, matrices.chunk(len(SCALES), axis), strict=True)
    return {f"{ours}.{scale}.weight": piece for scale, piece in pieces}


def _embed(weight: Tensor) -> Tensor:
    """[p, 3c, d] on [T, context, S] -> [p, d, 3c] on [S, T, context]."""
    temporal, context, salient = weight.transpose(1, 2).chunk(3, 2)  # [p, d, c] each
    return torch.cat((salient, temporal, context), 2)


def _classes(state: Mapping[str, Tensor], p: int) -> dict[str, Tensor]:
    ours = {"class_head.weight": state[CLASSES][0]}
    for name in STATISTICS:
        parts = [state[f"{CLASS_NORM}.{part}.{name}"] for part in range(p)]
        ours[f"class_head.norm.{name}"] = torch.stack(parts)  # [p, c]
    return ours
