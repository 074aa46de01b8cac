"""Temporal features: T_s (section 3.2), T_l (Eq. 1) and ATA (Eq. 2 to 5).

Everything works on [p, c, n, s]: parts first, because each part has weights of its own and a
batched matrix product then reads them once for all sequences and frames. `mask` [n, s] is 1 for
valid frames and 0 for padding, or None when every frame is valid. The padding holds finite numbers
(`Cstl.head` zeroes it); each sum over frames masks it out. Letters: n sequences,
s frames, p parts, c channels.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

SQUEEZE = 16  # an MLP's hidden layer has 1/16 of its input's channels (section 4.2)
KERNEL = 3  # frames seen by one short-term convolution
LARGEST_EXPONENT = 60.0  # its exponential, squared in the gradient, still fits a float32's inverse


class PartLinear(nn.Module):
    """A matrix of its own for every part.

    Initialised uniformly with variance gain²/inputs, as if each part were a linear layer: the usual
    initialisers take the part axis of a 3-D weight for a channel axis and come out an order of
    magnitude too small.

    Args:
        parts: Number of parts p.
        inputs: Input channels.
        outputs: Output channels.
        gain: Factor of the standard deviation of the initial weights.
        fan: Number of inputs that the variance counts, where this is a slice of a wider layer.
    """

    bias: Tensor | None

    def __init__(
        self, parts: int, inputs: int, outputs: int, gain: float = 1.0, fan: int | None = None
    ) -> None:
        super().__init__()
        self.inputs, self.outputs = (parts, inputs), (parts, outputs)  # leading axes
        bound = gain * math.sqrt(3 / (fan or inputs))
        self.weight = nn.Parameter(torch.empty(parts, outputs, inputs).uniform_(-bound, bound))
        self.register_parameter("bias", None)  # comes with `ShortTerm.fold_norms`

    def forward(self, x: Tensor) -> Tensor:
        """[p, inputs, n, s] -> [p, outputs, n, s]."""
        y = self.weight @ x.reshape(*self.inputs, -1)  # [p, outputs, n*s]
        if self.bias is not None:
            y = y + self.bias
        return y.reshape(*self.outputs, -1, x.shape[3])


class ConcatLinear(nn.ModuleDict):
    """A `PartLinear` on the concatenation of several scales, as the sum of one product per scale.

    The same numbers without the copy; and the long-term feature, equal in all frames, is multiplied
    once per sequence. Arguments as of `PartLinear`, the inputs being `channels` of each of `scales`
    """

    def __init__(
        self, parts: int, channels: int, scales: tuple[str, ...], outputs: int, gain: float = 1.0
    ) -> None:
        fan = channels * len(scales)
        super().__init__({name: PartLinear(parts, channels, outputs, gain, fan) for name in scales})

    def forward(self, features: Mapping[str, Tensor]) -> Tensor:
        """{scale: [p, c, n, s or 1]} -> [p, outputs, n, s]."""
        return total([self[name](x) for name, x in features.items()])


class PartNorm(nn.Module):
    """Batch normalisation over sequences and frames, per part and channel, without the padding."""

    EPSILON = 1e-5
    MOMENTUM = 0.1  # share of the newest batch in the running statistics

    running_mean: Tensor
    running_var: Tensor

    def __init__(self, parts: int, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(parts, channels))
        self.bias = nn.Parameter(torch.zeros(parts, channels))
        self.register_buffer("running_mean", torch.zeros(parts, channels))
        self.register_buffer("running_var", torch.ones(parts, channels))

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """[p, c, n, s] -> [p, c, n, s], in float32 or wider under autocast."""
        wide = x.to(self.weight.dtype)
        if self.training and mask is not None:
            return self._masked(wide, mask)
        flat = wide.reshape(1, self.weight.numel(), -1)  # [1, p*c, n*s]
        state = (self.running_mean, self.running_var, self.weight, self.bias)
        mean, var, weight, bias = (tensor.view(-1) for tensor in state)
        settings = (self.training, self.MOMENTUM, self.EPSILON)
        y = F.batch_norm(flat, mean, var, weight, bias, *settings)
        return y.reshape(*self.weight.shape, -1, x.shape[3])

    def _masked(self, x: Tensor, mask: Tensor) -> Tensor:
        count = self.over_batch(mask.sum())
        mean = self.over_batch((x * mask).sum((2, 3))) / count  # [p, c]
        centred = x - mean[:, :, None, None]
        var = self.over_batch((centred.square() * mask).sum((2, 3))) / count
        with torch.no_grad():
            unbiased = var * count / (count - 1).clamp_min(1)
            self.running_mean.lerp_(mean, self.MOMENTUM)
            self.running_var.lerp_(unbiased, self.MOMENTUM)
        scale = self.weight * torch.rsqrt(var + self.EPSILON)
        return centred * scale[:, :, None, None] + self.bias[:, :, None, None]

    def over_batch(self, part: Tensor) -> Tensor:
        """Return the sum over the whole batch, where `part` is that over the sequences here."""
        return part  # all are here, unless processes share a batch (training.distributed)

    def affine(self) -> tuple[Tensor, Tensor]:
        """Return the norm of eval mode as scale [p, c] and shift [p, c]."""
        scale = self.weight * torch.rsqrt(self.running_var + self.EPSILON)
        return scale, self.bias - self.running_mean * scale


class Normed(nn.Module):
    """A module that has batch norms right behind products."""

    def norms_with_layers(self) -> list[tuple[PartNorm, list[PartLinear]]]:
        """Return each norm and the layers whose sum it takes."""
        return []

    def drop_norms(self) -> None:
        """Remove the norms."""

    @torch.no_grad()
    def fold_norms(self) -> None:
        """Fold the norms, as they are in eval mode, into the layers."""
        for norm, layers in self.norms_with_layers():
            scale, shift = norm.affine()
            for layer in layers:
                layer.weight.mul_(scale[:, :, None])
            layers[-1].bias = nn.Parameter(shift[:, :, None])
        self.drop_norms()


class ShortTerm(Normed):
    """T_s: two serial convolutions of kernel 3 over time, their outputs added (section 3.2)."""

    def __init__(self, parts: int, channels: int) -> None:
        super().__init__()
        self.convs = nn.ModuleList(PartLinear(parts, KERNEL * channels, channels) for _ in range(2))
        self.norms = nn.ModuleList(PartNorm(parts, channels) for _ in range(2))

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        """[p, c, n, s], zero in the padding -> [p, c, n, s]."""
        first = self._layer(0, x, mask)
        if mask is not None:  # the norm has lifted the padding off zero; the next conv sees it
            first = first * mask
        return first + self._layer(1, first, mask)

    def _layer(self, index: int, x: Tensor, mask: Tensor | None) -> Tensor:
        y: Tensor = self.convs[index](_windows(x))
        return self.norms[index](y, mask) if len(self.norms) else y

    def norms_with_layers(self) -> list[tuple[PartNorm, list[PartLinear]]]:
        """Return both norms, each with its convolution."""
        pairs = []
        for norm, conv in zip(self.norms, self.convs, strict=True):
            assert isinstance(norm, PartNorm)
            assert isinstance(conv, PartLinear)
            pairs.append((norm, [conv]))
        return pairs

    def drop_norms(self) -> None:
        """Keep the convolutions alone."""
        self.norms = nn.ModuleList()


class LongTerm(Normed):
    """T_l: the mean of all frames, weighted per part and channel (Eq. 1)."""

    def __init__(self, parts: int, channels: int) -> None:
        super().__init__()
        hidden = max(1, channels // SQUEEZE)
        self.first = PartLinear(parts, channels, hidden, gain=math.sqrt(2))
        self.second = PartLinear(parts, hidden, channels)

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        """[p, c, n, s] -> [p, c, n, 1], the same for all frames of a sequence."""
        (weights,) = gates([self.second(self._hidden_activation(self.first(x), mask))], mask)
        ratio: Tensor = (weights * x).sum(3, keepdim=True) / weights.sum(3, keepdim=True)
        return ratio.to(x.dtype)

    def _hidden_activation(self, hidden: Tensor, _mask: Tensor | None) -> Tensor:
        return F.relu(hidden)


class AdaptiveAggregation(nn.Module):
    """ATA: weigh every scale, frame and channel by gates that read all scales (Eq. 3 to 5)."""

    def __init__(self, parts: int, channels: int, scales: tuple[str, ...]) -> None:
        super().__init__()
        hidden = max(1, channels * len(scales) // SQUEEZE)
        self.first = ConcatLinear(parts, channels, scales, hidden)
        self.second = nn.ModuleDict({name: PartLinear(parts, hidden, channels) for name in scales})

    def forward(self, summed: Mapping[str, Tensor], mask: Tensor | None) -> Tensor:
        """The sums of Eq. 2, {scale: [p, c, n, s or 1]} -> T [p, c, n], float32 or wider."""
        hidden = self._hidden_activation(self.first(summed))  # [p, 3c/16, n, s]
        weights = gates([self.second[name](hidden) for name in summed], mask)
        numerators = [(w * x).sum(3) for w, x in zip(weights, summed.values(), strict=True)]
        return total(numerators) / total([w.sum(3) for w in weights])

    def _hidden_activation(self, hidden: Tensor) -> Tensor:
        return hidden


def running_sums(features: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Add up the scales from frame to long, each sum a scale of its own (Eq. 2)."""
    sums: dict[str, Tensor] = {}
    for name, x in features.items():
        sums[name] = x if not sums else next(reversed(sums.values())) + x
    return sums


def max_over_frames(x: Tensor, mask: Tensor | None) -> Tensor:
    """[p, c, n, s] -> [p, c, n], the maximum over valid frames."""
    return (x if mask is None else torch.where(mask > 0, x, -torch.inf)).amax(3)


def mean_over_frames(x: Tensor, mask: Tensor | None) -> Tensor:
    """[p, c, n, s] -> [p, c, n], the mean over valid frames, summed in float32."""
    if mask is None:
        return as_float32(x).mean(3)
    return (as_float32(x) * mask).sum(3) / as_float32(mask).sum(1)


def gates(logits: Sequence[Tensor], mask: Tensor | None = None, axis: int = -1) -> list[Tensor]:
    """Compute the sigmoids of one ratio's logits (Eq. 1, 5, 6), up to a factor; 0 in the padding.

    The factor is exp(-m), m the largest logit [.., 1] but at most 0: it cancels in the ratio, and a
    channel whose gates are closed in every frame keeps a gate that is not zero. Without it runtimes
    divide zero by zero, ONNX Runtime from logits of -18 on, float16 from -17 on.
    sigmoid(z) exp(-m) = 1 / (exp(m - z) + exp(m))

    Args:
        logits: Logits of one ratio, one tensor per scale, with the frames in `axis`.
        mask: Valid frames [n, s], or None when all are valid.
        axis: Axis of the frames; the last one where there is a mask.
    """
    wide = [as_float32(z) for z in logits]
    valid = wide if mask is None else [torch.where(mask > 0, z, -torch.inf) for z in wide]
    peaks = [z.detach().amax(axis, keepdim=True) for z in valid]
    shift = functools.reduce(torch.maximum, peaks).clamp_max(0)  # [.., 1]
    opened = [1 / ((shift - z).clamp_max(LARGEST_EXPONENT).exp() + shift.exp()) for z in valid]
    return opened if mask is None else [gate * mask for gate in opened]


def as_float32(x: Tensor) -> Tensor:
    """Return float16 and bfloat16 numbers as float32, all others as they are."""
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x


def total(terms: Sequence[Tensor]) -> Tensor:
    """Add up tensors that broadcast against each other."""
    return sum(terms[1:], terms[0])


def _windows(x: Tensor) -> Tensor:
    """Stack the frame before, each frame and the one after: [p, c, n, s] -> [p, 3c, n, s]."""
    padded = F.pad(x, (1, 1))
    return torch.cat((padded[..., :-2], x, padded[..., 2:]), 1)
