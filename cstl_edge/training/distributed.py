"""Data-parallel training by several processes under torchrun: one per GPU, or on one CPU.

Their result is that of one process. Each takes its share of every batch; the triplet loss sees the
embeddings of all, the batch norms the statistics of all, and the mean of the processes' gradients
is the gradient of the whole batch. Run folder, cache and data must be visible to all of them.
Letters: `n` sequences, `s` frames, `p` parts, `c` channels.
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

# The others wait this long while the first process makes Walkers or evaluates. A process that dies
# ends the run at once, by torchrun.
TIMEOUT = timedelta(hours=3)


@dataclass(frozen=True)
class Ranks:
    """Rank of this process, and the number of processes that train."""

    rank: int = 0
    count: int = 1

    @classmethod
    def current(cls) -> Ranks:
        """Return the rank in the group that this process has joined, or that of a single one."""
        if not dist.is_available() or not dist.is_initialized():
            return cls()
        return cls(dist.get_rank(), dist.get_world_size())

    @property
    def is_first(self) -> bool:
        """True in the process that writes files and logs."""
        return self.rank == 0

    def mean(self, values: Tensor) -> Tensor:
        """Return the mean over the processes."""
        if self.count == 1:
            return values
        total = values.clone()
        dist.all_reduce(total)
        return total / self.count

    def synchronise(self, spent: float, stop: bool, device: torch.device) -> tuple[float, bool]:
        """Let all processes end at the same iteration.

        Returns the first process's share of the budget, and whether a stop of any was requested.

        Args:
            spent: Share of the budget that this process has spent, 0..1.
            stop: True where a stop of this process was requested.
            device: Device of the exchanged tensor.
        """
        if self.count == 1:
            return spent, stop
        largest = torch.tensor([spent if self.is_first else 0.0, float(stop)], device=device)
        dist.all_reduce(largest, dist.ReduceOp.MAX)
        return float(largest[0]), bool(largest[1])

    def wait(self) -> None:
        """Wait until all processes are here."""
        if self.count > 1:
            dist.barrier()


def resolve_device(setting: str) -> torch.device:
    """Return the device of this process for `cpu`, `cuda`, or `auto` (a GPU where there is one).

    Raises ConfigError when there is no GPU for this process.
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
def join_ranks(device: torch.device) -> Iterator[Ranks]:
    """Join the processes that torchrun has started, where it has; leave them at the end.

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
        yield Ranks.current()
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


def wrap_parallel(model: Cstl, ranks: Ranks) -> nn.Module:
    """Return the forward of a network, whose gradients are averaged over the processes."""
    forward = TrainingForward(model)
    if ranks.count == 1:
        return forward
    _sync_norms(model)
    return DistributedDataParallel(forward)


def gather_batch(part: Tensor) -> Tensor:
    """Gather the parts of all processes, in the order of their ranks: [n, ...] to [ranks·n, ...].

    Every process computes the same loss of the whole batch, and so knows the gradient of its part
    without another exchange. It is multiplied by the number of processes, by which the mean over
    their gradients divides.
    """
    if Ranks.current().count == 1:
        return part
    whole: Tensor = _Gather.apply(part)  # type: ignore[no-untyped-call]
    return whole


class SyncPartNorm(PartNorm):
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


def _sync_norms(model: nn.Module) -> None:
    for module in model.modules():
        if type(module) is PartNorm:
            module.__class__ = SyncPartNorm  # parameters, buffers and their names stay as they are


class _Gather(torch.autograd.Function):
    """Gather over processes that all compute the loss of the whole batch."""

    @staticmethod
    def forward(ctx: Any, part: Tensor) -> Tensor:
        ranks = Ranks.current()
        ctx.ranks, ctx.n = ranks, len(part)
        parts = [torch.empty_like(part) for _ in range(ranks.count)]
        dist.all_gather(parts, part.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        own: Tensor = grad[ctx.ranks.rank * ctx.n :][: ctx.n]
        return own.mul(ctx.ranks.count)


class _Sum(torch.autograd.Function):
    """Sum over processes, each of which has a loss of its own: their gradients add up too."""

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
