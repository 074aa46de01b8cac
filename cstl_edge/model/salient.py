"""Salient spatial feature learning (Eq. 6 to 10) and the class head that supervises it.

Layouts and `mask` as in `temporal`. Letters: n sequences, s frames, p parts, c channels.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cstl_edge.model.part_gather import part_gather
from cstl_edge.model.temporal import SQUEEZE, ConcatLinear, PartLinear, PartNorm, gates, widened


class PartScores(nn.Module):
    """How clearly each frame shows each part: the MLP of Eq. 6 up to its logit."""

    def __init__(self, parts: int, channels: int, scales: tuple[str, ...]) -> None:
        super().__init__()
        hidden = max(1, channels * len(scales) // SQUEEZE)
        self.first = ConcatLinear(parts, channels, scales, hidden, gain=math.sqrt(2))
        self.second = PartLinear(parts, hidden, 1)

    def forward(self, features: Mapping[str, Tensor], frames: int) -> Tensor:
        """{scale: [p, c, n, s or 1]} -> logits [p, n, s]."""
        logits: Tensor = self.second(F.relu(self.first(features)))[:, 0]
        alone = set(features) == {"long"}  # then all frames are equal and come as one
        return logits.expand(-1, -1, frames) if alone else logits


class ClassHead(nn.Module):
    """The supervision of the scores, in training only: Eq. 7, without its softmax.

    A batch norm per part, then one bias-free matrix for all parts, as the released code has it;
    Eq. 7 itself says no more than "FC".
    """

    def __init__(self, parts: int, channels: int, classes: int) -> None:
        super().__init__()
        self.norm = PartNorm(parts, channels)
        bound = math.sqrt(3 / channels)
        self.weight = nn.Parameter(torch.empty(channels, classes).uniform_(-bound, bound))

    def forward(self, x: Tensor, logits: Tensor, mask: Tensor | None) -> Tensor:
        """T_f [p, c, n, s] and the scores' logits [p, n, s] -> class logits [n, p, classes]."""
        with torch.autocast(x.device.type, enabled=False):
            (scores,) = gates([logits], mask)  # [p, n, s]
            scores = scores / scores.sum(2, keepdim=True)
            weighted = (x * scores.unsqueeze(1)).sum(3, keepdim=True)  # [p, c, n, 1]
            normed: Tensor = self.norm(weighted)[..., 0].permute(2, 0, 1)  # [n, p, c]
            return widened(normed @ self.weight)


def recombine(features: Tensor, logits: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
    """Choose each part's most salient frame (Eq. 9 and 10).

    features [n, s, p, c] as they came in, logits [p, n, s], lengths int32 [n]
    -> S [n, p, c] and frames int32 [n, p]
    """
    by_part = features.transpose(1, 2)  # [n, p, s, c]
    scores = logits.transpose(0, 1).to(features.dtype)  # [n, p, s]
    salient, frames = part_gather(by_part, scores, lengths)
    return salient, frames
