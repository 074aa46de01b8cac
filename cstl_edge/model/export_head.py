"""The fused head for export: `Cstl.head` of the paper's whole network in fewer, larger steps.

Equal up to rounding, and a third cheaper in ONNX Runtime: the products by T_f of four layers are
one product, those by the sums of Eq. 2 another; the three scales of Eq. 5 are one tensor; channels
come last, so that what is the same for all frames is added by the row; and the padding of shorter
windows costs a column in two small products instead of passes over all features.

Letters: n sequences, s frames, p parts, c channels, h hidden units, d embedding dimensions.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cstl_edge.model.config import SCALES
from cstl_edge.model.cstl import Cstl
from cstl_edge.model.head_matrices import HiddenMatrices, gate_matrices, has_fast_heads, matrix
from cstl_edge.model.part_gather import part_gather
from cstl_edge.model.temporal import KERNEL, PartLinear

SHUT = -6e4
"""Logit of a gate in the padding, which float16 still holds: exp(SHUT) is zero in every type."""


class ExportHead(nn.Module):
    """features [n, s, p, c], lengths int32 [n] in 1..s -> as `Cstl.head`; it shares the weights.

    For a network of which `has_fast_heads` is true, its norms folded (`Cstl.fused`); raises
    ValueError for others.
    """

    def __init__(self, network: Cstl) -> None:
        super().__init__()
        if not has_fast_heads(network.config) or network.short is None or len(network.short.norms):
            raise ValueError(
                f"expected the paper's whole network with folded norms; got {network.config}"
            )
        assert network.long is not None
        assert network.aggregation is not None
        assert network.scores is not None
        self.feature_shape, self.short, self.embed = (
            network.feature_shape,
            network.short,
            network.embed,
        )
        self.long, self.aggregation, self.scores = network.long, network.aggregation, network.scores

    def forward(self, features: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Return the embedding [n, p, d] and the salient frames int32 [n, p]."""
        frames = torch.arange(features.shape[1], dtype=torch.int32, device=features.device)
        valid = frames < lengths.unsqueeze(1)  # [n, s]
        x = torch.where(valid[:, :, None, None], features, 0.0).permute(2, 0, 1, 3)  # [p, n, s, c]
        sums = self._sums(x, _around(frames, lengths))
        shut = torch.where(valid, 0.0, SHUT).to(x.dtype).reshape(1, -1, 1)  # [1, n*s, 1]
        temporal, scoring = self._temporal(x, sums, shut.expand(self.feature_shape[0], -1, -1))
        logits = F.relu(scoring) @ matrix(self.scores.second)  # [p, n*s, 1]
        logits = logits.reshape(self.feature_shape[0], -1, x.shape[2]).transpose(0, 1)  # [n, p, s]
        salient, chosen = part_gather(features, logits, lengths)  # the padding is never chosen
        joined = torch.cat((salient.transpose(0, 1), temporal), 2)  # [p, n, 2c]
        embedding = joined @ matrix(self.embed)  # [p, n, d]
        return embedding.transpose(0, 1), chosen

    def _sums(self, x: Tensor, around: Tensor) -> Tensor:
        """T_f + T_s (section 3.2, Eq. 2), void in the padding: [p, n, s, c] -> [p, n, s, c]."""
        first = self._convolve(0, x, around)
        return x + first + self._convolve(1, first, around)

    def _convolve(self, index: int, x: Tensor, around: Tensor) -> Tensor:
        """One layer of `ShortTerm`: [p, n, s, c] -> [p, n, s, c]."""
        parts, channels = self.feature_shape
        conv = self.short.convs[index]
        assert isinstance(conv, PartLinear)
        assert conv.bias is not None
        rows = F.pad(x, (0, 0, 1, 0)).reshape(parts, -1, channels)  # [p, n*(1 + s), c]
        windows = rows.index_select(1, around).reshape(parts, -1, KERNEL * channels)
        y = windows @ matrix(conv) + conv.bias.transpose(1, 2)  # [p, n*s, c]
        return y.reshape(parts, -1, x.shape[2], channels)

    def _temporal(self, x: Tensor, sums: Tensor, shut: Tensor) -> tuple[Tensor, Tensor]:
        """Eq. 1 and 3 to 5 from T_f, T_f + T_s [p, n, s, c] and the logits `shut` [p, n*s, 1].

        Returns T [p, n, c] and the hidden layer of Eq. 6 [p, n*s, h].
        """
        (parts, channels), s = self.feature_shape, x.shape[2]
        hidden_layers = HiddenMatrices(self.aggregation, self.scores)
        on_frame = torch.cat((*hidden_layers.on_frame(), matrix(self.long.first)), 2)
        on_sums = torch.cat(hidden_layers.on_sums(), 2)  # [p, c, 2h]
        on_long = torch.cat(hidden_layers.on_long(), 2)
        width = on_sums.shape[2]
        by_frame = x.reshape(parts, -1, channels) @ on_frame  # [p, n*s, 2h + h of Eq. 1]
        squeezed = F.relu(by_frame[:, :, width:])
        weights = _gates(squeezed, shut, [matrix(self.long.second)], s)  # [p, n, s, c]
        long = (weights * x).sum(2) / weights.sum(2)  # [p, n, c]
        hidden = by_frame[:, :, :width] + sums.reshape(parts, -1, channels) @ on_sums
        hidden = hidden.reshape(parts, -1, s, width) + (long @ on_long).unsqueeze(2)
        mixed, scoring = hidden.reshape(parts, -1, width).chunk(2, 2)  # [p, n*s, h]
        weights = _gates(mixed, shut, gate_matrices(self.aggregation), s)  # [p, n, s*3, c]
        scales = torch.cat((x, sums, sums + long.unsqueeze(2)), 3)  # [p, n, s, 3c]
        scales = scales.reshape(parts, -1, len(SCALES) * s, channels)
        return (weights * scales).sum(2) / weights.sum(2), scoring


def _around(frames: Tensor, lengths: Tensor) -> Tensor:
    """Return the rows of each frame and its two neighbours among n sequences of 1 + s: [n*s*3].

    frames int32 [s] 0..s-1, lengths int32 [n]; the row before each sequence is zero, and stands for
    the frames outside of it
    """
    steps = frames.unsqueeze(1) + frames.new_tensor(range(KERNEL))  # [s, 3], 0 the zero row
    starts = torch.arange(lengths.shape[0], dtype=torch.int32, device=frames.device)
    starts = (starts * (frames.shape[0] + 1))[:, None, None]
    return torch.where(steps <= lengths[:, None, None], starts + steps, 0).reshape(-1)


def _gates(hidden: Tensor, shut: Tensor, layers: Sequence[Tensor], s: int) -> Tensor:
    """Compute the sigmoids of one ratio, up to a factor, as `temporal.gates`; 0 in the padding.

    hidden [p, n*s, h], `shut` [p, n*s, 1] as a hidden unit that every logit takes whole, layers
    [p, h, c] each -> [p, n, s*layers, c]
    A gate that is more than exp(88) times smaller than the largest may become zero here: no
    gradient comes by.
    """
    weight = torch.cat(tuple(layers), 2)  # [p, h, layers*c]
    weight = torch.cat((weight, torch.ones_like(weight[:, :1])), 1)
    logits = torch.cat((hidden, shut), 2) @ weight  # [p, n*s, layers*c]
    parts, _, channels = layers[0].shape
    logits = logits.reshape(parts, -1, len(layers) * s, channels)
    shift = logits.amax(2, keepdim=True).clamp_max(0)
    return 1 / ((shift - logits).exp() + shift.exp())
