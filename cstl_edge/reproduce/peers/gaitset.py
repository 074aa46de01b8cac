"""GaitSet (Chao et al., AAAI 2019): frames as a set, pooled by maximum, in a pyramid of strips.

Layers and their order from published configurations; code and names are ours. Letters as in
`blocks`.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from cstl_edge.reproduce.peers.blocks import (
    PYRAMID,
    PartMatrices,
    Peer,
    Stage,
    scaled,
    set_pool,
    strips,
)


class GaitSet(Peer):
    """Two columns of strips: of the pooled set, and of the multilayer global pipeline beside it."""

    def __init__(self, widths: tuple[int, int, int] = (32, 64, 128), embedding: int = 256) -> None:
        """Take channels of the three stages and the dimensions of an embedding."""
        super().__init__()
        first, second, third = widths
        self.parts, self.embedding = 2 * sum(PYRAMID), embedding
        self.stage1 = Stage(1, first, kernel=5)
        self.stage2 = Stage(first, second)
        self.stage3 = Stage(second, third)
        self.set2 = Stage(first, second)
        self.set3 = Stage(second, third)
        self.matrices = PartMatrices(self.parts, third, embedding)

    def frames(self, silhouettes: Tensor) -> tuple[Tensor, ...]:
        """Return the maps of the three stages, the first two of them after their pooling."""
        one = F.max_pool2d(self.stage1(scaled(self, silhouettes)), 2)
        two = F.max_pool2d(self.stage2(one), 2)
        return one, two, self.stage3(two)

    def answer(self, kept: Sequence[Tensor]) -> Tensor:
        """Return the embedding of sets of frames, in whatever order they are."""
        one, two, three = (set_pool(maps) for maps in kept)
        collected = F.max_pool2d(self.set2(one), 2) + two
        collected = self.set3(collected) + three
        columns = torch.cat([strips(three, PYRAMID), strips(collected, PYRAMID)], 1)  # [n, p, c]
        embedding: Tensor = self.matrices(columns)
        return embedding
