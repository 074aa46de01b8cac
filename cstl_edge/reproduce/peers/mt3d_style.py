"""An MT3D-style reconstruction: 3-D convolutions at two scales of time. It is not MT3D.

The layers of MT3D (Lin, Zhang, Bao, ACM MM 2020) are not public. Known are its outlines: branches
of small and large scale in time, built alike; a local transformation that makes the large one from
short intervals and feeds it again later; pooling over frames; strips by mean and max. Widths,
wiring of the blocks, strips and last layer are ours, so nothing here speaks for MT3D's accuracy.
Letters as in `blocks`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cstl_edge.model.backbone import LEAK
from cstl_edge.reproduce.peers.blocks import PartMatrices, Peer, scaled, strips

INTERVAL = 3  # frames that one step of the large scale sees
STRIPS = 16  # of each scale
KERNELS = (3, 3, 3), (1, 3, 3), (3, 1, 1)  # frames, rows, columns


class Mt3dStyle(Peer):
    """Both scales see frames together from the first layer on: no frame can be kept alone."""

    per_frame: ClassVar[bool] = False
    memory_format: ClassVar[torch.memory_format] = torch.channels_last_3d

    def __init__(self, widths: tuple[int, int, int] = (32, 64, 128), embedding: int = 128) -> None:
        """Take channels of the three depths and the dimensions of an embedding."""
        super().__init__()
        first, second, third = widths
        self.parts, self.embedding = 2 * STRIPS, embedding
        self.stem = _conv3d(1, first, (3, 3, 3))
        self.transforms = nn.ModuleList(_interval(c) for c in widths)
        self.small, self.large = (
            nn.ModuleList([Block(first, second), Block(second, third), Block(third, third)])
            for _ in range(2)
        )
        self.matrices = PartMatrices(self.parts, third, embedding)

    def forward(self, silhouettes: Tensor) -> Tensor:
        """Turn silhouettes uint8 [n, s, h, w], 0..255, into the embedding float32 [n, p, d]."""
        small, large = self.maps(silhouettes)  # [n, c, s, h, w], [n, c, s/3, h, w]
        pooled = [x.mean(2) + x.max(2).values for x in (small, large)]
        embedding: Tensor = self.matrices(torch.cat([strips(x, (STRIPS,)) for x in pooled], 1))
        return embedding

    def maps(self, silhouettes: Tensor) -> tuple[Tensor, Tensor]:
        """Return the maps of both scales before frames are pooled."""
        n = len(silhouettes)
        x = scaled(self, repeated(silhouettes).flatten(0, 1))  # [n*s, 1, h, w]
        x = x.reshape(n, -1, *x.shape[1:]).transpose(1, 2)  # [n, 1, s, h, w]
        small = _leaky(self.stem(x))
        large = _leaky(self.transforms[0](small))
        small, large = (
            F.max_pool3d(branch[0](x), (1, 2, 2))
            for branch, x in ((self.small, small), (self.large, large))
        )
        large = large + _leaky(self.transforms[1](small))
        for block, wide in zip(self.small[1:], self.large[1:], strict=True):
            small, large = block(small), wide(large)
        return small, large + _leaky(self.transforms[2](small))


class Block(nn.Module):
    """The sum of convolutions over time and space, space alone and time alone."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.convs = nn.ModuleList(_conv3d(inputs, outputs, kernel) for kernel in KERNELS)
        for layer in self.convs.parameters():
            layer.data /= len(KERNELS) ** 0.5  # a sum of three is then as large as one

    def forward(self, x: Tensor) -> Tensor:
        """[n, c, s, h, w] -> [n, outputs, s, h, w]."""
        return _leaky(sum((conv(x) for conv in self.convs[1:]), self.convs[0](x)))


def repeated(silhouettes: Tensor) -> Tensor:
    """Play a sequence again until it has four frames, [n, s, h, w]; longer ones stay as they are.

    Shorter ones would leave the large scale without a step.
    """
    times = -(-4 // silhouettes.shape[1])
    return silhouettes if times == 1 else silhouettes.repeat(1, times, 1, 1)


def _conv3d(inputs: int, outputs: int, kernel: Sequence[int]) -> nn.Conv3d:
    size = (kernel[0], kernel[1], kernel[2])
    padding = (size[0] // 2, size[1] // 2, size[2] // 2)
    layer = nn.Conv3d(inputs, outputs, size, padding=padding, bias=False)
    nn.init.kaiming_uniform_(layer.weight, a=LEAK, nonlinearity="leaky_relu")
    return layer


def _interval(channels: int) -> nn.Conv3d:
    """Return the local transformation: one step for each three frames, none shared, learnt."""
    layer = nn.Conv3d(channels, channels, (INTERVAL, 1, 1), (INTERVAL, 1, 1), bias=False)
    nn.init.kaiming_uniform_(layer.weight, a=LEAK, nonlinearity="leaky_relu")
    return layer


def _leaky(x: Tensor) -> Tensor:
    return F.leaky_relu(x, LEAK, inplace=True)
