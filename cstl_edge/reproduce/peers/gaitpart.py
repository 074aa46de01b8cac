"""GaitPart (Fan et al., CVPR 2020): convolutions inside strips, short-range motion of each part.

Layers and their order from published configurations; code and names are ours. Letters as in
`blocks`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cstl_edge.model.backbone import LEAK
from cstl_edge.reproduce.peers.blocks import PartMatrices, Peer, Stage, scaled, set_pool, strips

PARTS = 16
SQUEEZE = 4  # an attention's hidden layer has a quarter of the channels


class GaitPart(Peer):
    """Each part has its own motion features; only the maximum over frames ignores their order."""

    def __init__(self, widths: tuple[int, int, int] = (32, 64, 128), embedding: int = 128) -> None:
        """Take channels of the three stages and the dimensions of an embedding."""
        super().__init__()
        first, second, third = widths
        self.parts, self.embedding = PARTS, embedding
        self.stage1 = Stage(1, first, kernel=5)
        self.stage2 = Stage(first, second, strips=4)
        self.stage3 = Stage(second, third, strips=8)
        self.motion3 = Motion(third, reach=3, gate_kernel=1)
        self.motion5 = Motion(third, reach=5, gate_kernel=3)
        self.matrices = PartMatrices(PARTS, third, embedding)

    def frames(self, silhouettes: Tensor) -> tuple[Tensor, ...]:
        """Return the parts of every frame, [m, p, c]."""
        one = F.max_pool2d(self.stage1(scaled(self, silhouettes)), 2)
        two = F.max_pool2d(self.stage2(one), 2)
        return (strips(self.stage3(two), (PARTS,)),)

    def answer(self, kept: Sequence[Tensor]) -> Tensor:
        """Return the embedding of frames in their order."""
        (parts,) = kept  # [n, s, p, c]
        n, s = parts.shape[:2]
        x = parts.permute(0, 2, 3, 1).reshape(n, -1, s)  # [n, p*c, s]
        moved = self.motion3(x) + self.motion5(x)
        strongest = set_pool(moved.transpose(1, 2)).reshape(n, PARTS, -1)  # [n, p, c]
        embedding: Tensor = self.matrices(strongest)
        return embedding


class Motion(nn.Module):
    """Short-range motion within `reach` frames, weighted by an attention; weights per part."""

    def __init__(self, channels: int, reach: int, gate_kernel: int) -> None:
        super().__init__()
        self.reach = reach
        hidden = channels // SQUEEZE
        self.squeeze = _per_part(channels, hidden, 3)
        self.gate = _per_part(hidden, channels, gate_kernel)

    def forward(self, x: Tensor) -> Tensor:
        """[n, p*c, s] -> [n, p*c, s]."""
        gate = torch.sigmoid(self.gate(F.leaky_relu(self.squeeze(x), LEAK)))
        # Averages count the zeros beyond both ends; maxima do not see them.
        around = (self.reach, 1, self.reach // 2)
        return gate * (F.avg_pool1d(x, *around) + F.max_pool1d(x, *around))


def _per_part(inputs: int, outputs: int, kernel: int) -> nn.Conv1d:
    """Return a bias-free convolution over time with weights of its own for every part."""
    layer = nn.Conv1d(
        PARTS * inputs, PARTS * outputs, kernel, padding=kernel // 2, groups=PARTS, bias=False
    )
    bound = math.sqrt(3 / (inputs * kernel))  # as if each part were a layer by itself
    nn.init.uniform_(layer.weight, -bound, bound)
    return layer
