"""Networks between GaitSet and CSTL, which say which piece of the one is ahead of the other.

Trained and evaluated like the peers, at the channels of GaitSet at the common cost; never timed.
Letters as in `cstl_edge.reproduce.peers.blocks`.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from cstl_edge.model import Cstl, CstlConfig
from cstl_edge.model.backbone import part_pool
from cstl_edge.reproduce.peers.blocks import (
    PartMatrices,
    Peer,
    Stage,
    scaled,
    set_pool,
    strips,
)

WIDTHS = (11, 22, 44)
PARTS, COLUMNS = 16, 11  # rows and columns of the last maps
EMBEDDING = 64


class GaitSetTrunk(nn.Module):
    """The three stages of GaitSet: six convolutions, the first of 5x5, and two poolings."""

    def __init__(self) -> None:
        super().__init__()
        first, second, third = WIDTHS
        self.stage1 = Stage(1, first, kernel=5)
        self.stage2 = Stage(first, second)
        self.stage3 = Stage(second, third)

    def forward(self, silhouettes: Tensor) -> Tensor:
        """Map silhouettes uint8 [m, h, w] to [m, c, h/4, w/4]."""
        one = F.max_pool2d(self.stage1(scaled(self, silhouettes)), 2)
        maps: Tensor = self.stage3(F.max_pool2d(self.stage2(one), 2))
        return maps


class OneColumn(Peer):
    """GaitSet's trunk, the maximum over frames, 16 strips: no pyramid, no global pipeline."""

    def __init__(self) -> None:
        super().__init__()
        self.parts, self.embedding = PARTS, EMBEDDING
        self.trunk = GaitSetTrunk()
        self.matrices = PartMatrices(PARTS, WIDTHS[-1], EMBEDDING)

    def frames(self, silhouettes: Tensor) -> tuple[Tensor, ...]:
        """Return the maps of every frame."""
        return (self.trunk(silhouettes),)

    def answer(self, kept: Sequence[Tensor]) -> Tensor:
        """Return the embedding of sets of frames."""
        embedding: Tensor = self.matrices(strips(set_pool(kept[0]), (PARTS,)))
        return embedding


class CstlOnGaitSet(Cstl):
    """CSTL's temporal part, selection and class head on GaitSet's trunk, in the same 16 strips."""

    def __init__(self, people: int) -> None:
        """Take the number of people, for the class head."""
        widths = (*WIDTHS, WIDTHS[-1])
        super().__init__(
            CstlConfig(widths=widths, parts=PARTS, embedding=EMBEDDING, classes=people)
        )
        self.backbone = GaitSetTrunk()  # type: ignore[assignment]

    def frame_features(self, silhouettes: Tensor) -> Tensor:
        """Turn silhouettes uint8 [m, h, w] into part features [m, p, c]."""
        pooled = part_pool(self.backbone(silhouettes), (1, COLUMNS))
        return pooled.transpose(1, 2).reshape(-1, *self.feature_shape)
