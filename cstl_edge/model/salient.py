"""Salient spatial feature learning (Eq. 6 to 10) and the class heads of the training.

Layouts, `mask` and constructors' arguments as in `temporal`. Letters: n sequences, s frames,
p parts, c channels.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cstl_edge.model.part_gather import part_gather
from cstl_edge.model.temporal import (
    SQUEEZE,
    ConcatLinear,
    Normed,
    PartLinear,
    PartNorm,
    as_float32,
    gates,
)


class PartScores(Normed):
    """How clearly each frame shows each part: the MLP of Eq. 6 up to its logit."""

    def __init__(self, parts: int, channels: int, scales: tuple[str, ...]) -> None:
        super().__init__()
        hidden = max(1, channels * len(scales) // SQUEEZE)
        self.first = ConcatLinear(parts, channels, scales, hidden, gain=math.sqrt(2))
        self.second = PartLinear(parts, hidden, 1)

    def forward(
        self, features: Mapping[str, Tensor], frames: int, mask: Tensor | None = None
    ) -> Tensor:
        """Return the logits [p, n, s].

        Args:
            features: {scale: [p, c, n, s or 1]}.
            frames: Number of frames s.
            mask: Valid frames [n, s], or None when all are valid.
        """
        logits: Tensor = self.second(self._hidden_activation(self.first(features), mask))[:, 0]
        alone = set(features) == {"long"}  # then all frames are equal and come as one
        return logits.expand(-1, -1, frames) if alone else logits

    def _hidden_activation(self, hidden: Tensor, _mask: Tensor | None) -> Tensor:
        return F.relu(hidden)


class ClassHead(nn.Module):
    """Class head that supervises the scores, in training only: Eq. 7, without its softmax.

    A batch norm per part, then a bias-free matrix per part. The released form projects every part
    by itself before (`released.ScoredContext`) and has one matrix for all of them (`shared`); one
    matrix without such a projection does not learn. It starts at zero, so that it sends nothing
    into the trunk before it knows something: at the start its gradient was 13 times that of the
    triplet loss.
    """

    def __init__(self, parts: int, channels: int, classes: int, *, shared: bool = False) -> None:
        super().__init__()
        self.norm = PartNorm(parts, channels)
        leading = () if shared else (parts,)
        self.weight = nn.Parameter(torch.zeros(*leading, channels, classes))

    def forward(self, x: Tensor, logits: Tensor, mask: Tensor | None) -> Tensor:
        """Return the class logits [n, p, classes].

        Args:
            x: T_f [p, c, n, s].
            logits: Logits of the scores [p, n, s].
            mask: Valid frames [n, s], or None when all are valid.
        """
        (weighted,) = score_means([x], logits, mask)
        return self.classify(weighted)

    def classify(self, weighted: Tensor) -> Tensor:
        """Means weighted by the scores, [p, c, n, 1] -> class logits [n, p, classes]."""
        with torch.autocast(weighted.device.type, enabled=False):
            normed: Tensor = self.norm(weighted)[..., 0].transpose(1, 2)  # [p, n, c]
            return as_float32((normed @ self.weight).transpose(0, 1))

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        """Spread one matrix for all parts, as checkpoints had it until 2026-11, over the parts."""
        weight = state_dict.get(f"{prefix}weight")
        if weight is not None and weight.ndim == self.weight.ndim - 1:
            state_dict[f"{prefix}weight"] = weight.expand_as(self.weight).clone()
        super()._load_from_state_dict(state_dict, prefix, *args)


class EmbeddingClassHead(nn.Module):
    """Class head on the embedding, in training only; not the paper's.

    A batch norm per part, then the cosine to a vector per part and class, times `SCALE`: of all
    class heads tried this one helped most (`docs/decisions/`, 2026-11-30).
    """

    SCALE = 16.0

    def __init__(self, parts: int, embedding: int, classes: int) -> None:
        super().__init__()
        self.norm = PartNorm(parts, embedding)
        # Only directions count; short vectors turn faster at Adam's steps of one length.
        spread = 1 / math.sqrt(embedding)
        self.weight = nn.Parameter(torch.empty(parts, embedding, classes).normal_(std=spread))

    def forward(self, embedding: Tensor) -> Tensor:
        """[n, p, d] -> class logits [n, p, classes], in float32 under autocast too."""
        with torch.autocast(embedding.device.type, enabled=False):
            normed: Tensor = self.norm(embedding.permute(1, 2, 0)[..., None])  # [p, d, n, 1]
            directions = F.normalize(normed[..., 0].transpose(1, 2), dim=2)  # [p, n, d]
            cosines = directions @ F.normalize(self.weight, dim=1)  # [p, n, classes]
            return as_float32(self.SCALE * cosines.transpose(0, 1))


def score_means(xs: Sequence[Tensor], logits: Tensor, mask: Tensor | None) -> list[Tensor]:
    """Return the mean over frames of each [p, c, n, s], weighted by the scores: [p, c, n, 1].

    Dividing last keeps what is below float16 out of the sums.

    Args:
        xs: Features [p, c, n, s] each.
        logits: Logits of Eq. 6, [p, n, s].
        mask: Valid frames [n, s], or None when all are valid.
    """
    (scores,) = gates([logits], mask)  # [p, n, s]
    weights = scores.unsqueeze(1)  # [p, 1, n, s]
    whole = weights.sum(3, keepdim=True)
    return [(weights * x).sum(3, keepdim=True) / whole for x in xs]


def recombine(features: Tensor, logits: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
    """Choose each part's most salient frame (Eq. 9 and 10).

    Args:
        features: [n, s, p, c], as they came in.
        logits: [p, n, s] of Eq. 6.
        lengths: Int32 [n], valid frames of each sequence.

    Returns:
        S [n, p, c] and frames int32 [n, p].
    """
    scores = logits.transpose(0, 1).to(features.dtype)  # [n, p, s]
    return part_gather(features, scores, lengths)
