"""The head cut once more, for a window that slides over a walk.

`Local` is what sees a frame and its neighbours, `Slide` what sees the window as a whole; the one
after the other is `Cstl.head`. What `Local` says of a frame stays true while the window slides,
except within two frames of its ends, where the convolutions over time meet the zeros outside; so
only those frames and the new ones go through it again.

Channels come last here: what is the same for all frames is then added and multiplied by the row,
for which ONNX Runtime needs a third of the time. Letters: n sequences, s frames, p parts,
c channels, h hidden units, d embedding dimensions.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cstl_edge.model.config import SCALES, CstlConfig
from cstl_edge.model.cstl import Cstl
from cstl_edge.model.temporal import PartLinear, PartNorm, gates


class Kept(NamedTuple):
    """What is kept of frames while the window slides."""

    features: Tensor
    """T_f [n, p, s, c]"""
    sums: Tensor
    """T_f + T_s [n, p, s, c] (Eq. 2)"""
    gates: Tensor
    """Logits of Eq. 1 [n, p, s, c]"""
    hidden: Tensor
    """Hidden layers of Eq. 3, then of Eq. 6, without the share of T_l: [n, p, s, 2h]"""


def slides(config: CstlConfig) -> bool:
    """Tell whether a network has this form: the paper's, whole. The ablations have none."""
    whole = config.scales == SCALES and config.aggregation == "adaptive" and config.salient
    return whole and config.variant == "paper"


class _Cut(nn.Module):
    """The layers of a network's head, its very own."""

    def __init__(self, network: Cstl) -> None:
        """Share the weights of a network that `slides` (ValueError)."""
        super().__init__()
        if not slides(network.config):
            raise ValueError(
                "only the paper's whole network has a sliding form, with scales "
                f"{SCALES}, aggregation 'adaptive', salient and variant 'paper'; "
                f"got {network.config}"
            )
        assert network.short is not None
        assert network.long is not None
        assert network.aggregation is not None
        assert network.scores is not None
        self.short, self.long, self.embed = network.short, network.long, network.embed
        self.aggregation, self.scores = network.aggregation, network.scores


class Local(_Cut):
    """features [n, s, p, c], lengths int32 [n] in 1..s -> `Kept`; what it says of padding is void.

    Equal to the head's own numbers up to rounding: the shares of the scales in the hidden layers of
    Eq. 3 and 6 are added up in another order.
    """

    def forward(self, features: Tensor, lengths: Tensor) -> Kept:
        """Run what sees two frames to either side and no more."""
        frames = torch.arange(features.shape[1], dtype=torch.int32, device=features.device)
        valid = (frames < lengths.unsqueeze(1)).unsqueeze(2)  # [n, s, 1]
        x = torch.where(valid, features.permute(2, 0, 1, 3), 0.0)  # [p, n, s, c]
        first = torch.where(valid, self._convolve(0, x), 0.0)
        short = first + self._convolve(1, first)
        logits = _once(F.relu(_once(x, self.long.first.weight)), self.long.second.weight)
        on_frame, on_short = self._hidden_weights()
        hidden = _once(x, on_frame) + _once(short, on_short)  # [p, n, s, 2h]
        return Kept(*(t.transpose(0, 1) for t in (x, x + short, logits, hidden)))

    def _convolve(self, index: int, x: Tensor) -> Tensor:
        """One layer of `ShortTerm` with its norm: [p, n, s, c] -> [p, n, s, c]."""
        conv = self.short.convs[index]
        assert isinstance(conv, PartLinear)
        padded = F.pad(x, (0, 0, 1, 1))
        windows = torch.cat((padded[:, :, :-2], x, padded[:, :, 2:]), 3)  # [p, n, s, 3c]
        y = _once(windows, conv.weight)
        if conv.bias is not None:
            return y + conv.bias.unsqueeze(1).transpose(2, 3)  # [p, 1, 1, c]
        norm = self.short.norms[index]
        assert isinstance(norm, PartNorm)
        scale, shift = norm.affine()  # [p, c]
        return y * scale[:, None, None] + shift[:, None, None]

    def _hidden_weights(self) -> tuple[Tensor, Tensor]:
        """Return what T_f and T_s are multiplied by in Eq. 3, all of whose sums hold both, and 6.

        [p, 2h, c] each: one product for three scales and two layers
        """
        mixing, judging = self.aggregation.first, self.scores.first
        summed = _weight(mixing["short"]) + _weight(mixing["long"])
        on_frame = torch.cat((_weight(mixing["frame"]) + summed, _weight(judging["frame"])), 1)
        return on_frame, torch.cat((summed, _weight(judging["short"])), 1)


class Slide(_Cut):
    """`Kept` of full windows, each in any rotation, oldest int32 [n] in 0..s-1 -> as `Cstl.head`.

    A window begins with the frame `oldest` and ends with the one before it. Sums do not mind, so a
    ring need not be put in order.
    """

    def forward(
        self, features: Tensor, sums: Tensor, logits: Tensor, hidden: Tensor, oldest: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return the embedding [n, p, d] and the salient frames int32 [n, p], 0 the oldest."""
        (weights,) = gates([logits], axis=2)
        long = (weights * features).sum(2, keepdim=True) / weights.sum(2, keepdim=True)  # Eq. 1
        mixed, judged = torch.chunk(hidden, 2, 3)  # [n, p, s, h]
        mixed = mixed + _each(long, self.aggregation.first["long"])
        judged = judged + _each(long, self.scores.first["long"])
        temporal = self._aggregate(features, sums, long, mixed)  # [n, p, c]
        scores = _each(F.relu(judged), self.scores.second)[..., 0]  # [n, p, s]
        salient, frames = _recombine(features, scores, oldest)
        joined = torch.cat((salient, temporal), 2).transpose(0, 1)  # [p, n, 2c]
        embedding = joined @ self.embed.weight.transpose(1, 2)  # [p, n, d]
        return embedding.transpose(0, 1), frames

    def _aggregate(self, x: Tensor, sums: Tensor, long: Tensor, hidden: Tensor) -> Tensor:
        """Eq. 3 to 5 from T_f, T_f + T_s, T_l [n, p, 1, c] and the hidden layer -> T [n, p, c].

        The sum of all scales is T_f + T_s + T_l: the first two share their factor with the sum of
        two scales, and T_l is the same in all frames.
        """
        logits = [_each(hidden, self.aggregation.second[name]) for name in SCALES]
        on_frame, on_short, on_long = gates(logits, axis=2)  # [n, p, s, c]
        on_sums = on_short + on_long
        numerator = (on_frame * x + on_sums * sums).sum(2) + long[:, :, 0] * on_long.sum(2)
        return numerator / (on_frame + on_sums).sum(2)


def _once(x: Tensor, weight: Tensor) -> Tensor:
    """[p, n, s, inputs] by [p, outputs, inputs]; the weights are read once for all sequences."""
    parts, n, s, inputs = x.shape
    y = x.reshape(parts, -1, inputs) @ weight.transpose(1, 2)  # [p, n*s, outputs]
    return y.reshape(parts, n, s, -1)


def _each(x: Tensor, layer: nn.Module) -> Tensor:
    """[n, p, s, inputs] -> [n, p, s, outputs], for layers whose weights are small."""
    return x @ _weight(layer).transpose(1, 2)


def _weight(layer: nn.Module) -> Tensor:
    assert isinstance(layer, PartLinear)
    return layer.weight


def _recombine(features: Tensor, scores: Tensor, oldest: Tensor) -> tuple[Tensor, Tensor]:
    """Eq. 9 and 10 as in `part_gather`, in windows that begin anywhere.

    features [n, p, s, c], scores [n, p, s], oldest int32 [n]
    -> S [n, p, c], frames int32 [n, p] counted from the oldest
    """
    parts, s, channels = features.shape[1:]
    count = torch.arange(s, device=features.device)
    slots = (oldest.long().unsqueeze(1) + count) % s  # [n, s], from the oldest to the newest
    numbers = torch.where(scores.isnan(), -torch.inf, scores)
    in_order = numbers.gather(2, slots.unsqueeze(1).expand(-1, parts, -1))
    frames = in_order.argmax(2)  # [n, p], the first of equals
    chosen = slots.gather(1, frames)[:, :, None, None].expand(-1, -1, 1, channels)
    return features.gather(2, chosen).squeeze(2), frames.to(torch.int32)
