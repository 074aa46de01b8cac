"""Modules of the released form: the network as the paper's authors published it.

It differs from the paper in the MLPs of Eq. 1 and 6 (batch norm and Leaky ReLU between the layers),
in ATA (Leaky ReLU between the layers and behind Eq. 5), and in a third block of the embedding: the
mean over frames of all scales, weighted by the scores of Eq. 6, which also feeds the class head in
place of Eq. 7 and so brings the triplet loss to the scores. Layouts and `mask` as in `temporal`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from cstl_edge.model.backbone import LEAK
from cstl_edge.model.salient import PartScores, score_means
from cstl_edge.model.temporal import (
    AdaptiveAggregation,
    ConcatLinear,
    LongTerm,
    Normed,
    PartLinear,
    PartNorm,
)


class NormedMlp(Normed):
    """An MLP of two layers, `first` and `second`, with batch norm and Leaky ReLU between them."""

    first: Any  # a `PartLinear`, or a `ConcatLinear` of one per scale
    second: Any

    def __init__(self, *shape: Any) -> None:
        super().__init__(*shape)
        self.norm: PartNorm | None = PartNorm(*self.second.inputs)

    def norms_with_layers(self) -> list[tuple[PartNorm, list[PartLinear]]]:
        """Return the norm with the first layer, which may have a block per scale."""
        blocks = [block for block in self.first.modules() if isinstance(block, PartLinear)]
        return [] if self.norm is None else [(self.norm, blocks)]

    def drop_norms(self) -> None:
        """Keep the layers alone."""
        self.norm = None

    def _hidden_activation(self, hidden: Tensor, mask: Tensor | None) -> Tensor:
        """Norm [p, c, n, s], unless that is folded already, then Leaky ReLU."""
        return F.leaky_relu(hidden if self.norm is None else self.norm(hidden, mask), LEAK)


class NormedLongTerm(NormedMlp, LongTerm):
    """T_l with batch norm and Leaky ReLU in its MLP."""


class NormedScores(NormedMlp, PartScores):
    """The MLP of Eq. 6 with batch norm and Leaky ReLU."""


class LeakyAggregation(AdaptiveAggregation):
    """ATA with Leaky ReLU between its two layers and behind Eq. 5."""

    def forward(self, summed: Mapping[str, Tensor], mask: Tensor | None) -> Tensor:
        """{scale: [p, c, n, s or 1]} -> T [p, c, n], float32 or wider."""
        return F.leaky_relu(super().forward(summed, mask), LEAK)

    def _hidden_activation(self, hidden: Tensor) -> Tensor:
        return F.leaky_relu(hidden, LEAK)


class ScoredContext(nn.Module):
    """The score-weighted mean over frames of a projection of all scales, 3c to c.

    The projection is linear, so it is taken of the mean, once per sequence: the same numbers for a
    share of 1/s of the products. The long-term feature, equal in all frames, is its own mean.
    """

    def __init__(self, parts: int, channels: int, scales: tuple[str, ...]) -> None:
        super().__init__()
        self.projection = ConcatLinear(parts, channels, scales, channels)

    def forward(
        self, features: Mapping[str, Tensor], logits: Tensor, mask: Tensor | None
    ) -> Tensor:
        """Return the projected means [p, c, n, 1].

        Args:
            features: {scale: [p, c, n, s or 1]}.
            logits: Logits of the scores [p, n, s].
            mask: Valid frames [n, s], or None when all are valid.
        """
        moving = [name for name in features if name != "long"]
        means = score_means([features[name] for name in moving], logits, mask)
        typed = [mean.to(logits.dtype) for mean in means]
        inputs = {**dict(zip(moving, typed, strict=True)), "long": features["long"]}
        projected: Tensor = self.projection(inputs)
        return projected
