"""The trunk: four 3x3 convolutions on single frames, and the pooling of their maps into parts.

Sections 3.1 and 4.2 of the paper. Nothing here knows of time, so a live walker pays for each frame
once. Letters: m frames, h w pixels, c channels, p parts.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

LEAK = 0.01  # slope of Leaky ReLU below zero
FOLD = 2  # pixels of a side that become channels in the unshuffled trunk
WHITE = 255.0  # value of a silhouette's inside


class Backbone(nn.Module):
    """Silhouettes to feature maps: conv, conv, max pool, conv, conv, each with Leaky ReLU.

    `unshuffled`: every 2x2 pixels become four channels before the first convolution (space to
    depth), which is not the paper's: maps of a quarter of the pixels, a third of the cost.
    """

    def __init__(self, widths: Sequence[int], *, unshuffled: bool = False) -> None:
        super().__init__()
        self.unshuffled = unshuffled
        inputs = (FOLD * FOLD if unshuffled else 1, *widths[:-1])
        self.convs = nn.ModuleList(
            nn.Conv2d(i, o, 3, padding=1, bias=False) for i, o in zip(inputs, widths, strict=True)
        )
        for parameter in self.parameters():
            nn.init.kaiming_uniform_(parameter, a=LEAK, nonlinearity="leaky_relu")

    def forward(self, silhouettes: Tensor) -> Tensor:
        """Map silhouettes [m, h, w], 0..255, to [m, c, h/2, w/2], or h/4, w/4 unshuffled."""
        dtype = next(self.parameters()).dtype
        x = silhouettes.unsqueeze(1).to(dtype) / WHITE  # [m, 1, h, w]
        if self.unshuffled:
            x = F.pixel_unshuffle(x, FOLD)  # [m, 4, h/2, w/2]
        for layer, conv in enumerate(self.convs):
            x = F.leaky_relu(conv(x), LEAK, inplace=True)
            if layer == 1:
                x = F.max_pool2d(x, 2)
        return x


def part_pool(maps: Tensor, band: tuple[int, int]) -> Tensor:
    """Pool each band of (rows, columns) by max + mean: [m, c, h, w] -> [m, c, p, 1].

    Written with pooling windows, not reductions: ONNX Runtime keeps its blocked channel layout
    through them, and the gradient of a maximum goes to one pixel, not to all that share it.
    """
    return F.max_pool2d(maps, band) + F.avg_pool2d(maps, band)
