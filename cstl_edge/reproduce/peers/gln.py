"""GLN (Hou et al., ECCV 2020): maps of three depths, joined from the top down.

Without its compact block (the toolbox's published figures are without it too). Layers and their
order from published configurations; code and names are ours. Letters as in `blocks`.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cstl_edge.reproduce.peers.blocks import (
    PYRAMID,
    PartMatrices,
    Peer,
    Stage,
    conv,
    scaled,
    set_pool,
    strips,
)


class Gln(Peer):
    """A pyramid of strips on each of three levels, of the pooled set and its branch."""

    def __init__(
        self, widths: tuple[int, int, int] = (32, 64, 128), lateral: int = 256, embedding: int = 256
    ) -> None:
        """Take channels of the three stages, of the joined levels, and an embedding's dimensions.

        lateral: Channels of every level after its 1x1 convolution.
        """
        super().__init__()
        first, second, third = widths
        self.parts, self.embedding = 3 * sum(PYRAMID), embedding
        self.stage1 = Stage(1, first, kernel=5)
        self.stage2 = Stage(first, second)
        self.stage3 = Stage(second, third)
        self.set2 = Stage(first, second)
        self.set3 = Stage(second, third)
        self.laterals = nn.ModuleList(conv(2 * c, lateral, 1) for c in widths)
        self.smooth = nn.ModuleList(conv(lateral, lateral, 3) for _ in widths)
        self.matrices = PartMatrices(self.parts, lateral, embedding)

    def frames(self, silhouettes: Tensor) -> tuple[Tensor, ...]:
        """Return the maps of the three stages; pooling lies between them."""
        one = self.stage1(scaled(self, silhouettes))
        two = self.stage2(F.max_pool2d(one, 2))
        return one, two, self.stage3(F.max_pool2d(two, 2))

    def answer(self, kept: Sequence[Tensor]) -> Tensor:
        """Return the embedding of sets of frames, in whatever order they are."""
        one, two, three = (set_pool(maps) for maps in kept)
        # A maximum over frames and one over pixels commute: no map is pooled a second time.
        set2 = self.set2(F.max_pool2d(one, 2)) + two
        set3 = self.set3(F.max_pool2d(set2, 2)) + three
        pairs = (one, one), (two, set2), (three, set3)  # the first level has no branch yet
        levels = [
            lateral(torch.cat(pair, 1)) for lateral, pair in zip(self.laterals, pairs, strict=True)
        ]
        joined = [levels[2]]
        for level in reversed(levels[:2]):
            joined.insert(0, level + F.interpolate(joined[0], scale_factor=2.0, mode="nearest"))
        smoothed = [conv3(level) for conv3, level in zip(self.smooth, joined, strict=True)]
        columns = torch.cat([strips(level, PYRAMID) for level in smoothed], 1)  # [n, p, c]
        embedding: Tensor = self.matrices(columns)
        return embedding
