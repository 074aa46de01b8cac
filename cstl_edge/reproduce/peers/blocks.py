"""Building blocks of the peers: interface, trunk stages, set pooling, strips, last matrices.

A peer is divided as CSTL is: `frames` sees single frames, `answer` the kept results of a window,
and `forward` is their composition. Letters: n sequences, s frames, m frames of any sequences, c
channels, h w pixels, p parts (strips), d embedding dimensions.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cstl_edge.model.backbone import LEAK, WHITE, part_pool
from cstl_edge.model.cstl import TrainingOutputs
from cstl_edge.model.temporal import as_float32

SIZE = (64, 44)  # height and width of a silhouette [pixels]
PYRAMID = (16, 8, 4, 2, 1)  # strips of each scale


class Peer(nn.Module):
    """A network that turns silhouettes into one embedding per part.

    First weights of all convolutions and matrices are drawn as CSTL's are, so that a comparison
    under one short budget is not one of initialisers.
    """

    per_frame: ClassVar[bool] = True
    """Whether `frames` sees single frames only, so that a live walker's are computed once."""
    memory_format: ClassVar[torch.memory_format] = torch.channels_last
    parts: int
    embedding: int

    def frames(self, silhouettes: Tensor) -> tuple[Tensor, ...]:
        """Turn silhouettes uint8 [m, h, w] into the kept results of each frame, [m, ...] each."""
        raise NotImplementedError

    def answer(self, kept: Sequence[Tensor]) -> Tensor:
        """Turn the kept results of windows, [n, s, ...] each, into embeddings float32 [n, p, d]."""
        raise NotImplementedError

    def forward(self, silhouettes: Tensor) -> Tensor:
        """Turn silhouettes uint8 [n, s, h, w], 0..255, into the embedding float32 [n, p, d]."""
        n, s = silhouettes.shape[:2]
        kept = self.frames(silhouettes.flatten(0, 1))
        return self.answer([x.reshape(n, s, *x.shape[1:]) for x in kept])

    def training_outputs(self, silhouettes: Tensor, _lengths: Tensor) -> TrainingOutputs:
        """Return the embedding of full sequences, as `Cstl.training_outputs`; no class head."""
        return TrainingOutputs(self(silhouettes), None)


class Stage(nn.Module):
    """Two convolutions, each with Leaky ReLU, bias-free and at stride 1.

    kernel: Size of the first kernel; the second has 3.
    strips: Number of strips of the height, each convolved by itself with zeros at its edges
        (focal convolution).
    """

    def __init__(self, inputs: int, outputs: int, kernel: int = 3, strips: int = 1) -> None:
        super().__init__()
        self.strips = strips
        self.first = conv(inputs, outputs, kernel)
        self.second = conv(outputs, outputs, 3)

    def forward(self, x: Tensor) -> Tensor:
        """[m, c, h, w] -> [m, outputs, h, w]."""
        m, c, h, w = x.shape
        rows = h // self.strips
        if self.strips == 1:
            return self._layers(x)
        cut = x.reshape(m, c, self.strips, rows, w).transpose(1, 2).flatten(0, 1)
        y = self._layers(cut)  # [m*strips, outputs, rows, w]
        return y.reshape(m, self.strips, -1, rows, w).transpose(1, 2).flatten(2, 3)

    def _layers(self, x: Tensor) -> Tensor:
        for layer in (self.first, self.second):
            x = F.leaky_relu(layer(x), LEAK, inplace=True)
        return x


class PartMatrices(nn.Module):
    """One bias-free matrix for each part: the last layer of all of them ("separate FC")."""

    def __init__(self, parts: int, inputs: int, outputs: int) -> None:
        super().__init__()
        # As CSTL's last layer: 1/sqrt(d) keeps norms near what the margin of 0.2 means.
        bound = math.sqrt(3 / inputs / outputs)
        self.weight = nn.Parameter(torch.empty(parts, inputs, outputs).uniform_(-bound, bound))

    def forward(self, x: Tensor) -> Tensor:
        """[n, p, c] -> float32 [n, p, d]; in float32 under autocast too, at next to no cost."""
        with torch.autocast(x.device.type, enabled=False):
            y = x.transpose(0, 1).to(self.weight.dtype) @ self.weight  # [p, n, d]
        return as_float32(y.transpose(0, 1))


def conv(inputs: int, outputs: int, kernel: int) -> nn.Conv2d:
    """Return a bias-free convolution that keeps height and width, initialised as CSTL's.

    Args:
        inputs: Number of input channels.
        outputs: Number of output channels.
        kernel: Odd height and width of the kernel.
    """
    layer = nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, bias=False)
    nn.init.kaiming_uniform_(layer.weight, a=LEAK, nonlinearity="leaky_relu")
    return layer


def scaled(module: nn.Module, silhouettes: Tensor) -> Tensor:
    """Return silhouettes uint8 [m, h, w] as numbers 0..1 of the module's type, [m, 1, h, w]."""
    return silhouettes.unsqueeze(1).to(next(module.parameters()).dtype) / WHITE


def set_pool(maps: Tensor) -> Tensor:
    """Return the maximum over frames, whatever their order: [n, s, ...] -> [n, ...]."""
    return maps.max(1).values  # the gradient goes to one frame, not to all that share the maximum


def strips(maps: Tensor, counts: Sequence[int]) -> Tensor:
    """Divide maps into strips of equal height, max + mean of each: [m, c, h, w] -> [m, p, c]."""
    height, width = maps.shape[2:]
    pooled = [part_pool(maps, (height // count, width)) for count in counts]  # [m, c, count, 1]
    return torch.cat(pooled, 2)[..., 0].transpose(1, 2)
