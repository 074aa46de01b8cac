"""Several processes that train one network, as torchrun starts them: one per GPU, or on one CPU.

What they compute is what one process would. Each takes its share of every batch; the triplet loss
sees the embeddings of all, the batch norms the statistics of all, and the mean of the processes'
gradients is the gradient of the whole batch. Run folder, cache and data must be visible to all of
them. Letters: `n` sequences, `s` frames, `p` parts, `c` channels.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from cstl_edge.errors import ConfigError, one_line
from cstl_edge.model import Cstl
from cstl_edge.model.cstl import TrainingOutputs
from cstl_edge.model.temporal import PartNorm

# The others wait while the first process makes Walkers or evaluates. One that dies ends the run at
# once: torchrun sees to it.
TIMEOUT = timedelta(hours=3)


@dataclass(frozen=True)
class Ranks:
    """Which process this is, and of how many."""

    rank: int = 0
    count: int = 1

    @classmethod
    def here(cls) -> Ranks:
        """Return those of the group that this process has joined, or the only one."""
        if not dist.is_available() or not dist.is_initialized():
            return cls()
        return cls(dist.get_rank(), dist.get_world_size())

    @property
    def first(self) -> bool:
        """Whether this is the process that writes files and speaks."""
        return self.rank == 0

    def mean(self, numbers: Tensor) -> Tensor:
        """Return the mean over the processes."""
        if self.count == 1:
            return numbers
        total = numbers.clone()
        dist.all_reduce(total)
        return total / self.count

    def agree(self, done: float, stop: bool, device: torch.device) -> tuple[float, bool]:
        """Return the first process's share of the budget, and whether any was asked to stop."""
        if self.count == 1:
            return done, stop
        told = torch.tensor([done if self.first else 0.0, float(stop)], device=device)
        dist.all_reduce(told, dist.ReduceOp.MAX)
        return float(told[0]), bool(told[1])

    def wait(self) -> None:
        """Wait until all processes are here."""
        if self.count > 1:
            dist.barrier()


def device_of(setting: str) -> torch.device:
    """Return the device of this process: `cpu`, `cuda`, or `auto`, which takes what there is.

    Raises ConfigError when there is no GPU for it.
    """
    gpus, local = torch.cuda.device_count(), int(os.environ.get("LOCAL_RANK", 0))
    if setting == "cpu" or (setting == "auto" and not gpus):
        return torch.device("cpu")
    if local >= gpus:
        raise ConfigError(
            f"expected a GPU for process {local} of this machine, torch finds {gpus}. Set "
            "run.device to cpu, start fewer processes, or install a torch built for CUDA"
        )
    torch.cuda.set_device(local)
    return torch.device("cuda", local)


@contextmanager
def joined(device: torch.device) -> Iterator[Ranks]:
    """Join the processes that torchrun has started, if it has, and leave them at the end.

    Raises ConfigError when the environment is not that of torchrun.
    """
    if int(os.environ.get("WORLD_SIZE", 1)) == 1:
        yield Ranks()
        return
    try:
        dist.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=TIMEOUT)
    except (ValueError, RuntimeError) as err:
        raise ConfigError(
            f"cannot join the other processes: {one_line(err)}. Start them by torchrun"
        ) from err
    try:
        yield Ranks.here()
    finally:
        dist.destroy_process_group()


class TrainingForward(nn.Module):
    """`Cstl.training_outputs` as a forward, which is what DistributedDataParallel wraps."""

    def __init__(self, model: Cstl) -> None:
        """Wrap a network, which stays the same object."""
        super().__init__()
        self.model = model

    def forward(self, silhouettes: Tensor, lengths: Tensor) -> TrainingOutputs:
        """Return embedding and class logits of uint8 [n, s, h, w]."""
        return self.model.training_outputs(silhouettes, lengths)


def parallel(model: Cstl, ranks: Ranks) -> nn.Module:
    """Return the forward of a network whose gradients are averaged over the processes."""
    forward = TrainingForward(model)
    if ranks.count == 1:
        return forward
    _share_norms(model)
    return DistributedDataParallel(forward)


def gathered(part: Tensor) -> Tensor:
    """Return the parts of all processes, in the order of their ranks: [n, ...] to [ranks·n, ...].

    Every process computes the same loss of the whole, and so knows the gradient of its part without
    asking the others. It comes back times the number of processes, by which the mean over their
    gradients divides.
    """
    if Ranks.here().count == 1:
        return part
    whole: Tensor = _Gather.apply(part)  # type: ignore[no-untyped-call]
    return whole


class SharedNorm(PartNorm):
    """Batch normalisation over the sequences and frames of all processes."""

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """[p, c, n, s] -> [p, c, n, s], in float32 or wider under autocast."""
        if self.training and mask is None:
            mask = torch.ones(x.shape[2:], device=x.device)  # [n, s]
        return super().forward(x, mask)

    def over_batch(self, part: Tensor) -> Tensor:
        """Return the sum over all processes."""
        total: Tensor = _Sum.apply(part)  # type: ignore[no-untyped-call]
        return total


def _share_norms(model: nn.Module) -> None:
    for module in model.modules():
        if type(module) is PartNorm:
            module.__class__ = SharedNorm  # parameters, buffers and their names stay as they are


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, part: Tensor) -> Tensor:
        ranks = Ranks.here()
        ctx.ranks, ctx.n = ranks, len(part)
        parts = [torch.empty_like(part) for _ in range(ranks.count)]
        dist.all_gather(parts, part.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        own: Tensor = grad[ctx.ranks.rank * ctx.n :][: ctx.n]
        return own.mul(ctx.ranks.count)


class _Sum(torch.autograd.Function):
    """A sum over processes, each of which has a loss of its own: their gradients add up too."""

    @staticmethod
    def forward(ctx: Any, part: Tensor) -> Tensor:
        total = part.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        total = grad.contiguous().clone()
        dist.all_reduce(total)
        return total
