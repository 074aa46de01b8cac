"""The small person network: the trunk of BlazePose lite at half its resolution.

BlazePose lite sees 256 x 256 pixels; here its layers see 128 x 128, so that each costs a quarter.
Its weights are the start of the training: what an edge, a leg or a head looks like carries over,
only the scale is another one. Two of its deepest blocks are left out, the last doubling of the mask
is a rearrangement of channels, and presence is read from the mean of the deepest features. Letters:
`m` crops, `c` channels, `h w` pixels of the level.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import numpy_helper
from torch import Tensor, nn
from torch.nn import functional

from cstl_edge.errors import ModelError, one_line

SIDE = 128  # pixels of a crop
# layers of lite, by their number, that the student lacks: two deep blocks, presence, the last rows
LEFT_OUT = {*range(45, 50), 52, *range(55, 72), *range(80, 85)}


def relu6(x: Tensor) -> Tensor:
    """Return the activation of all layers."""
    return torch.clamp(x, 0, 6)


class Depthwise(nn.Conv2d):
    """A filter per channel, without activation."""

    def __init__(self, channels: int, kernel: int = 3, stride: int = 1) -> None:
        super().__init__(channels, channels, kernel, stride, kernel // 2, groups=channels)


class Inverted(nn.Module):
    """Inverted residual: wide in the middle; with a sum where `residual`."""

    def __init__(
        self, inside: int, wide: int, out: int, kernel: int, stride: int = 1, *,
        residual: bool = False,
    ) -> None:  # fmt: skip
        super().__init__()
        self.expand = nn.Conv2d(inside, wide, 1)
        self.filter = Depthwise(wide, kernel, stride)
        self.project = nn.Conv2d(wide, out, 1)
        self.residual = residual

    def forward(self, x: Tensor) -> Tensor:
        """Return [m, out, h, w]."""
        y: Tensor = self.project(relu6(self.filter(relu6(self.expand(x)))))
        return x + y if self.residual else y


class Separable(nn.Module):
    """A depthwise filter and a mixture of channels, without activation at the end."""

    def __init__(self, inside: int, out: int) -> None:
        super().__init__()
        self.filter, self.mix = Depthwise(inside), nn.Conv2d(inside, out, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Return [m, out, h, w]."""
        y: Tensor = self.mix(relu6(self.filter(x)))
        return y


class PersonMaskNetwork(nn.Module):
    """Crops in, mask logits and a presence logit out."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.stem_filter = nn.Conv2d(3, 24, 3, 2, 1), Depthwise(24)
        self.stem_mix, self.side_2 = nn.Conv2d(24, 8, 1), Separable(8, 8)
        self.level_4 = nn.Sequential(
            Inverted(8, 32, 16, 3, 2), Inverted(16, 96, 16, 3, residual=True)
        )
        self.level_8 = nn.Sequential(
            Inverted(16, 96, 24, 5, 2), Inverted(24, 144, 24, 5, residual=True)
        )
        self.level_16 = nn.Sequential(
            Inverted(24, 144, 40, 3, 2),
            *(Inverted(40, 240, 40, 3, residual=True) for _ in range(2)),
            Inverted(40, 240, 56, 5),
            *(Inverted(56, 336, 56, 5, residual=True) for _ in range(2)),
        )
        self.level_32 = nn.Sequential(
            Inverted(56, 336, 96, 5, 2), Inverted(96, 576, 96, 5, residual=True)
        )
        self.side_4, self.side_8, self.side_16 = (Separable(c, 32) for c in (16, 24, 56))
        self.top_expand, self.top_filter = nn.Conv2d(96, 576, 1), Depthwise(576)
        self.top = Separable(576, 32)
        self.mask_4, self.mask_2 = Separable(32, 8), Separable(8, 8)
        self.mask_2b, self.mask_1 = Separable(8, 8), Separable(8, 16)
        self.mask = nn.Conv2d(16, 4, 3, padding=1)
        self.presence = nn.Linear(576, 1)

    def forward(self, crops: Tensor) -> tuple[Tensor, Tensor]:
        """Return mask logits [m, 1, SIDE, SIDE] and presence logits [m, 1].

        crops: float32 [m, 3, SIDE, SIDE], RGB, 0..1
        """
        x = relu6(self.stem(crops))
        x = self.stem_mix(relu6(self.stem_filter(x)))
        side_2 = relu6(x + self.side_2(x))
        x = self.level_4(x)
        side_4 = relu6(self.side_4(x))
        x = self.level_8(x)
        side_8 = relu6(self.side_8(x))
        x = self.level_16(x)
        side_16 = relu6(self.side_16(x))
        deep = relu6(self.top_filter(relu6(self.top_expand(self.level_32(x)))))
        y = relu6(self.top(deep))
        for side in (side_16, side_8, side_4):
            y = doubled(y) + side
        y = doubled(relu6(self.mask_4(y))) + side_2
        y = relu6(y + self.mask_2(y))
        y = relu6(y + self.mask_2b(y))
        logits = functional.pixel_shuffle(self.mask(relu6(self.mask_1(y))), 2)
        return logits, self.presence(deep.mean((2, 3)))

    def start(self) -> None:
        """Set the layers that BlazePose lite does not have."""
        for layer in (self.mask_1.filter, self.mask_1.mix, self.mask):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            assert layer.bias is not None
            nn.init.zeros_(layer.bias)
        with torch.no_grad():
            self.mask.weight.mul_(0.3)
            self.presence.weight.zero_()


def doubled(x: Tensor) -> Tensor:
    """Return [m, c, 2h, 2w], between the pixels linear."""
    return functional.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)


def read_lite(network: PersonMaskNetwork, path: Path) -> None:
    """Take the weights of BlazePose lite for all layers that both networks have (ModelError).

    Args:
        network: The student.
        path: `person_mask.onnx` of the package.
    """
    layers, convs = list(_layers(network)), list(_shared_convs(path))
    if len(layers) != len(convs):
        raise ModelError(
            f"{one_line(path)}: expected {len(layers)} layers of BlazePose lite; got {len(convs)}"
        )
    for layer, (weight, bias) in zip(layers, convs, strict=True):
        if layer.weight.shape != weight.shape or layer.bias is None:
            raise ModelError(
                f"{one_line(path)}: expected BlazePose lite, a layer {list(layer.weight.shape)}; "
                f"got {list(weight.shape)}"
            )
        layer.weight.data, layer.bias.data = weight, bias


def _layers(network: PersonMaskNetwork) -> Iterator[nn.Conv2d]:
    """Yield the student's layers in the order of lite's graph."""
    n = network
    inverted = [*n.level_4, *n.level_8]
    parts: list[nn.Module] = [n.stem, n.stem_filter, n.stem_mix, n.side_2, *inverted]
    parts += [n.side_8, *n.level_16, n.side_16, *n.level_32, n.side_4, n.top_expand, n.top_filter]
    parts += [n.top, n.mask_4, n.mask_2, n.mask_2b]
    for part in parts:
        yield from (m for m in part.modules() if isinstance(m, nn.Conv2d))


def _shared_convs(path: Path) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield weights and biases of lite's layers that the student has, in the graph's order."""
    graph = onnx.load(str(path)).graph
    arrays = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    for node in graph.node:
        if node.op_type == "Cast" and node.input[0] in arrays:
            arrays[node.output[0]] = arrays[node.input[0]]
    convs = [node for node in graph.node if node.op_type == "Conv"]
    for node in (n for i, n in enumerate(convs) if i not in LEFT_OUT):
        weight, bias = (torch.tensor(arrays[name].astype(np.float32)) for name in node.input[1:3])
        yield weight, bias
