"""The part gather of Eq. 9 and 10 as an operator of our own, `cstl_edge::part_gather`.

One operator, because every runtime has its own best way to do it: PyTorch the few lines below, ONNX
a node `CstlPartGather`, TensorRT a kernel. Letters: n sequences, s frames, p parts, c channels.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

OPERATOR = "cstl_edge::part_gather"


def part_gather(features: Tensor, scores: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
    """Recombine one frame from the most salient frame of each part (Eq. 9 and 10).

    Args:
        features: [n, s, p, c] floating point, as the head takes them.
        scores: [n, p, s], same type: the logits of Eq. 6; NaN counts as -inf.
        lengths: [n] int32, valid frames of each sequence, 1..s; frames past it never win.

    Returns:
        salient [n, p, c] and frames [n, p] int32; ties go to the earliest frame.
    """
    salient, frames = torch.ops.cstl_edge.part_gather(features, scores, lengths)
    return salient, frames


# Not `torch.library.custom_op`, which imports torch._dynamo at the first call: 3 s a process.
torch.library.define(
    OPERATOR, "(Tensor features, Tensor scores, Tensor lengths) -> (Tensor, Tensor)"
)


@torch.library.impl(OPERATOR, "CompositeExplicitAutograd")
def _forward(features: Tensor, scores: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
    _check(features, scores, lengths)
    valid = torch.arange(scores.shape[2], device=scores.device) < lengths[:, None, None]
    ranked = scores.masked_fill(scores.isnan() | ~valid, -torch.inf)
    best = ranked.argmax(2)  # documented to be the first of equals; max(dim) is not
    return features.gather(1, _index(best, features.shape[3])).squeeze(1), best.to(torch.int32)


def _fake(features: Tensor, scores: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
    n, _, p, c = features.shape
    return features.new_empty(n, p, c), scores.new_empty(n, p, dtype=torch.int32)


def _setup_context(ctx: Any, inputs: tuple[Tensor, ...], output: tuple[Tensor, ...]) -> None:
    ctx.save_for_backward(output[1])
    ctx.mark_non_differentiable(output[1])
    ctx.shape = inputs[0].shape


def _backward(ctx: Any, salient_grad: Tensor, _frames_grad: Tensor) -> tuple[Tensor, None, None]:
    """Hand the gradient to the chosen frames; a hard choice has none for the scores."""
    (frames,) = ctx.saved_tensors
    grad = salient_grad.new_zeros(ctx.shape)  # [n, s, p, c]
    index = _index(frames.long(), ctx.shape[3])
    return grad.scatter(1, index, salient_grad.unsqueeze(1)), None, None


torch.library.register_fake(OPERATOR, _fake)
torch.library.register_autograd(OPERATOR, _backward, setup_context=_setup_context)


def _index(frames: Tensor, channels: int) -> Tensor:
    return frames[:, None, :, None].expand(-1, 1, -1, channels)  # [n, 1, p, c]


def _check(features: Tensor, scores: Tensor, lengths: Tensor) -> None:
    fits = features.ndim == 4 and scores.shape == features.transpose(1, 2).shape[:3]
    if not fits or scores.dtype != features.dtype:
        raise ValueError(
            f"part_gather expects features [n, s, p, c] and scores [n, p, s] of one type, got "
            f"{list(features.shape)} {features.dtype} and {list(scores.shape)} {scores.dtype}"
        )
    if lengths.shape != features.shape[:1] or lengths.dtype != torch.int32:
        raise ValueError(
            f"part_gather expects lengths int32 [{features.shape[0]}], got "
            f"{lengths.dtype} {list(lengths.shape)}"
        )
