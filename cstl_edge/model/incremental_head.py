"""The incremental head: `Cstl.head` for a window that slides, each frame multiplied once.

It is cut into three graphs: `Taps` is what a frame alone decides, `Mix` what it and its neighbours
decide, `Slide` the rest, once per answer. `runtime.streaming.rings` keeps what lies between them.
The short-term branch is two convolutions with nothing but sums between them, so it is one of five
frames: `Taps` multiplies a new frame by the matrices of all places that it can take there, once in
its life, and T_s of any frame, at an end of the window or inside, is a sum of such products. As the
window slides only the frames within two of its ends change, and by sums alone.

Parts come first and channels last: what is the same for all frames is then added and multiplied by
the row, and ONNX Runtime sums over frames ten times as fast as where they come first. Letters:
n sequences, s frames, m frames of any sequences, p parts, c channels, h hidden units, d embedding
dimensions.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cstl_edge.model.config import SCALES
from cstl_edge.model.cstl import Cstl
from cstl_edge.model.head_matrices import HiddenMatrices, gate_matrices, has_fast_heads, matrix
from cstl_edge.model.temporal import LARGEST_EXPONENT, PartLinear, PartNorm, ShortTerm

TAPS = ("left2", "left1", "whole", "first", "right1", "right2", "end")
"""The shares of a frame t that `Taps` returns, [c] each, in T_f + T_s (Eq. 2) of the frames nearby:
left2, left1: its shares for t + 2 and t + 1; right1, right2: for t - 1 and t - 2
whole, first: its share for itself, T_f and all constants in it; `first` in a window it begins
end: what is too much of `whole` and `first` where it is the last of the window"""
GATE_SCALE = 40.0
"""A gate of Eq. 1 is kept times e^40, which its ratio does not see: so it is no more zero down to
logits of -100, LARGEST_EXPONENT below; a channel that is closed further in every frame has the mean
of all frames for T_l."""


class _HeadGraph(nn.Module):
    """Layers of a network's head, as they are at construction, in the form of matrices."""

    def __init__(self, network: Cstl) -> None:
        """Take the weights of a network of which `has_fast_heads` is true (ValueError)."""
        super().__init__()
        if not has_fast_heads(network.config):
            raise ValueError(
                "only the paper's whole network has a sliding form, with scales "
                f"{SCALES}, aggregation 'adaptive', salient and variant 'paper'; "
                f"got {network.config}"
            )
        with torch.no_grad():
            for name, weight in self._matrices(network).items():
                self.register_buffer(name, weight.contiguous())

    def _matrices(self, network: Cstl) -> dict[str, Tensor]:
        """Return matrices [p, inputs, outputs] and rows [p, 1, outputs] by name."""
        raise NotImplementedError


class Taps(_HeadGraph):
    """features [p, m, c] -> taps [p, m, 7c] as in `TAPS`, gates [p, m, 2c].

    gates: those of Eq. 1 and what they weigh, T_f times its gate, both times e^`GATE_SCALE`
    """

    matrix: Tensor
    row: Tensor
    squeeze: Tensor
    excite: Tensor

    def _matrices(self, network: Cstl) -> dict[str, Tensor]:
        assert network.short is not None
        assert network.long is not None
        products, row = _taps(network.short)
        return {
            "matrix": products,
            "row": row,
            "squeeze": matrix(network.long.first),
            "excite": -matrix(network.long.second),
        }

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Compute what depends on a single frame."""
        closed = F.relu(features @ self.squeeze) @ self.excite - GATE_SCALE
        gates = 1 / (closed.clamp_max(LARGEST_EXPONENT).exp() + math.exp(-GATE_SCALE))
        return features @ self.matrix + self.row, torch.cat((gates, gates * features), 2)


class Mix(_HeadGraph):
    """T_f and T_f + T_s [p, m, c] -> logits [p, m, 3c], score_hidden [p, m, h], T_l's share aside.

    logits: of Eq. 5, negative, by scale; score_hidden: the hidden layer of Eq. 6 (`judged` in ONNX)
    """

    inward: Tensor
    outward: Tensor

    def _matrices(self, network: Cstl) -> dict[str, Tensor]:
        hidden, outward = _layers(network)
        by_row = [torch.cat(pair, 2) for pair in (hidden.on_frame(), hidden.on_sums())]
        return {"inward": torch.cat(by_row, 1), "outward": outward}

    def forward(self, features: Tensor, sums: Tensor) -> tuple[Tensor, Tensor]:
        """Compute what depends on two frames to either side; Eq. 3 has no activation."""
        mixed, score_hidden = torch.chunk(torch.cat((features, sums), 2) @ self.inward, 2, 2)
        return mixed @ self.outward, score_hidden


class Slide(_HeadGraph):
    """The state of full windows, each in any rotation, and slots int64 [n, s] -> `Cstl.head`'s.

    Sums do not mind the order of frames, so a ring need not be put in order.
    """

    inward: Tensor
    outward: Tensor
    score: Tensor
    embed: Tensor

    def _matrices(self, network: Cstl) -> dict[str, Tensor]:
        hidden, outward = _layers(network)
        assert network.scores is not None
        return {
            "inward": torch.cat(hidden.on_long(), 2),
            "outward": outward,
            "score": matrix(network.scores.second),
            "embed": matrix(network.embed),
        }

    def forward(
        self, values: Tensor, logits: Tensor, score_hidden: Tensor, gates: Tensor, slots: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return the embedding [n, p, d] and the salient frames int32 [n, p], 0 the oldest.

        Args:
            values: T_f, T_f + T_s and the latter once more [n, p, s, 3c].
            logits: Logits of `Mix` [n, p, s, 3c].
            score_hidden: Hidden layer of the scores, of `Mix` [n, p, s, h].
            gates: Gates of `Taps` [n, p, s, 2c].
            slots: Places of the window's frames [n, s], from the oldest to the newest.
        """
        opened, weighed = torch.chunk(gates.sum(2, keepdim=True), 2, 3)
        long = weighed / opened  # [n, p, 1, c], Eq. 1
        on_logits, on_scores = torch.chunk(long @ self.inward, 2, 3)  # [n, p, 1, h]
        temporal = _aggregate(values, logits, on_logits @ self.outward, long)
        scores = (F.relu(score_hidden + on_scores) @ self.score)[..., 0]  # [n, p, s]
        salient, frames = _recombine(values, scores, slots, long.shape[3])
        joined = torch.cat((salient, temporal), 3)  # [n, p, 1, 2c]
        return (joined @ self.embed).squeeze(2), frames


def incremental_state(network: Cstl, windows: Tensor) -> tuple[Tensor, ...]:
    """Return the inputs of `Slide` for whole windows [n, s, p, c], in order, as a ring sums them.

    values [n, p, s, 3c], logits [n, p, s, 3c], score_hidden [n, p, s, h], gates [n, p, s, 2c]
    """
    x = windows.permute(2, 0, 1, 3)  # [p, n, s, c]
    shape = x.shape[1:3]
    taps, gates = Taps(network)(x.flatten(1, 2))
    shares = dict(zip(TAPS, torch.chunk(taps.unflatten(1, shape), len(TAPS), 3), strict=True))
    sums = torch.cat((shares["first"][:, :, :1], shares["whole"][:, :, 1:]), 2)
    for k in range(1, min(3, shape[1])):
        sums[:, :, k:] += shares[f"left{k}"][:, :, :-k]
        sums[:, :, :-k] += shares[f"right{k}"][:, :, k:]
    sums[:, :, -1] -= shares["end"][:, :, -1]
    logits, score_hidden = Mix(network)(x.flatten(1, 2), sums.flatten(1, 2))
    others = (t.unflatten(1, shape) for t in (logits, score_hidden, gates))
    return tuple(t.transpose(0, 1) for t in (torch.cat((x, sums, sums), 3), *others))


def _taps(short: ShortTerm) -> tuple[Tensor, Tensor]:
    """Return the matrices of `TAPS` side by side [p, c, 7c], and their constants [p, 1, 7c].

    With y = conv_1(x), T_s = y + conv_2(y), a convolution being (before, at, after) the frame:
    each share goes through one or more places of y. Computed in float64, rounded once.
    """
    (a1, b1, c1), shift1 = _convolution(short, 0)
    (a2, b2, c2), shift2 = _convolution(short, 1)
    same = torch.eye(b1.shape[1], dtype=b1.dtype, device=b1.device)
    b2 = same + b2  # of y itself
    whole = same + c1 @ a2 + b1 @ b2 + a1 @ c2
    constant = shift1 @ (a2 + b2 + c2) + shift2
    none = torch.zeros_like(constant)
    matrices = {
        "left2": (a1 @ a2, none),
        "left1": (b1 @ a2 + a1 @ b2, none),
        "whole": (whole, constant),
        "first": (whole - c1 @ a2, constant - shift1 @ a2),
        "right1": (c1 @ b2 + b1 @ c2, none),
        "right2": (c1 @ c2, none),
        "end": (a1 @ c2, shift1 @ c2),
    }
    products, row = (torch.cat([matrices[name][i] for name in TAPS], 2).float() for i in range(2))
    return products, row


def _convolution(short: ShortTerm, index: int) -> tuple[tuple[Tensor, ...], Tensor]:
    """Return a convolution with its norm: matrices [p, in, out] of three frames, shift [p, 1, out].

    The matrices multiply rows from the right: `a @ b` is first a, then b.
    """
    conv = short.convs[index]
    assert isinstance(conv, PartLinear)
    weight = conv.weight.double()  # [p, out, 3 * in]
    if conv.bias is not None:
        shift = conv.bias.double()[:, :, 0]  # [p, out]
    else:
        norm = short.norms[index]
        assert isinstance(norm, PartNorm)
        scale, shift = (tensor.double() for tensor in norm.affine())  # [p, out]
        weight = weight * scale.unsqueeze(2)
    return torch.chunk(weight.transpose(1, 2), 3, 1), shift.unsqueeze(1)


def _layers(network: Cstl) -> tuple[HiddenMatrices, Tensor]:
    """Return the first layers of Eq. 3 and 6, and the second of Eq. 3, negative [p, h, 3c]."""
    assert network.aggregation is not None
    assert network.scores is not None
    outward = -torch.cat(gate_matrices(network.aggregation), 2)
    return HiddenMatrices(network.aggregation, network.scores), outward


def _aggregate(values: Tensor, logits: Tensor, share: Tensor, long: Tensor) -> Tensor:
    """Compute Eq. 5: T [n, p, 1, c], from T_l alike and its share of the logits [n, p, 1, 3c].

    The logits are negative; the gates are those of `temporal.gates`, up to the same factor; all
    three scales are one tensor, for a graph of fewer and larger steps.
    """
    shape = (*long.shape[:2], 3, -1)
    lowest = (logits.amin(2, keepdim=True) + share).reshape(shape)
    shift = lowest.amin(2, keepdim=True).clamp_min(0)  # [n, p, 1, c]
    shifts = torch.cat((shift, shift, shift), 3)
    gates = 1 / ((logits + (share - shifts)).exp() + (-shifts).exp())  # [n, p, s, 3c]
    weighed = (gates * values).sum(2).reshape(shape)
    weights = gates.sum(2).reshape(shape)
    total = weighed.sum(2, keepdim=True) + long * weights[:, :, 2:]
    return total / weights.sum(2, keepdim=True)


def _recombine(
    values: Tensor, scores: Tensor, slots: Tensor, channels: int
) -> tuple[Tensor, Tensor]:
    """Choose salient frames as `part_gather` (Eq. 9 and 10), in windows that begin anywhere.

    values [n, p, s, ..] of which the first channels count, scores [n, p, s], slots int64 [n, s]
    -> S [n, p, 1, c], frames int32 [n, p] counted from the oldest
    """
    parts = scores.shape[1]
    numbers = torch.where(scores.isnan(), -torch.inf, scores)
    in_order = numbers.gather(2, slots.unsqueeze(1).expand(-1, parts, -1))
    frames = in_order.argmax(2)  # [n, p], the first of equals
    chosen = slots.gather(1, frames)[:, :, None, None].expand(-1, -1, 1, channels)
    return values.gather(2, chosen), frames.to(torch.int32)
