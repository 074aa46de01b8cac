"""Networks small enough for every test of the model, and what such tests feed them."""

from __future__ import annotations

import torch
from torch import Tensor

from cstl_edge.model import Cstl, CstlConfig
from cstl_edge.model.temporal import PartNorm

TINY = {"size": (8, 4), "widths": (2, 3, 4, 32), "parts": 2, "embedding": 6}


def fresh_network(seed: int = 0, **settings: object) -> Cstl:
    """Return a network as it is before training."""
    torch.manual_seed(seed)
    return Cstl(CstlConfig(**{**TINY, **settings}))


def disturb_norms(net: Cstl) -> Cstl:
    """Take the norms from identity, so that padding is lifted off zero; class heads from zero."""
    if net.class_head is not None:
        torch.nn.init.normal_(net.class_head.weight)
    for module in net.modules():
        if isinstance(module, PartNorm):
            for tensor in (module.running_mean, module.bias.data):
                tensor.normal_()
            for tensor in (module.running_var, module.weight.data):
                tensor.uniform_(0.5, 2.0)
    return net


def network(seed: int = 0, **settings: object) -> Cstl:
    """Return a network for inference whose norms do something."""
    return disturb_norms(fresh_network(seed, **settings)).eval()


def walk(n: int = 4, s: int = 6, h: int = 8, w: int = 4) -> Tensor:
    """Return random silhouettes [n, s, h, w], the same at every call."""
    generator = torch.Generator().manual_seed(1)
    return torch.randint(0, 256, (n, s, h, w), dtype=torch.uint8, generator=generator)


def int32(*values: int) -> Tensor:
    return torch.tensor(values, dtype=torch.int32)


def padded(features: Tensor, lengths: tuple[int, ...], garbage: float) -> Tensor:
    """Return features [n, s, ..] with `garbage` behind the length of each sequence."""
    filled = features.clone()
    for window, length in zip(filled, lengths, strict=True):
        window[length:] = garbage
    return filled
