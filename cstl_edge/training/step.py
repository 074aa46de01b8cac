"""One batch forward and backward, in the arithmetic and on the processes of the configuration.

Letters: `n` sequences, `s` frames, `h w` pixels.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from cstl_edge.data.sampling import Batch
from cstl_edge.errors import ModelError
from cstl_edge.training.distributed import gathered, parallel
from cstl_edge.training.losses import cross_entropy, joint_triplet_loss, triplet_loss
from cstl_edge.training.resume import Run

TYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


@dataclass(frozen=True)
class Losses:
    """The losses of one batch, of all processes: `total` is what is minimised."""

    total: float
    triplet: float
    classes: float | None  # None without a class head
    nonzero: float  # share of the triplets that still cost something

    @classmethod
    def mean(cls, batches: Sequence[Losses]) -> Losses:
        """Return the means over the batches of one iteration."""
        heads = [losses.classes for losses in batches if losses.classes is not None]
        return cls(
            fmean(losses.total for losses in batches),
            fmean(losses.triplet for losses in batches),
            fmean(heads) if heads else None,
            fmean(losses.nonzero for losses in batches),
        )


class Step:
    """Losses and gradients of a run's network, batch by batch."""

    def __init__(self, run: Run, last_good: Path) -> None:
        """Prepare for a run.

        last_good: the checkpoint that remains when a loss is not finite
        """
        self.run, self.settings, self.last_good = run, run.config.optimiser, last_good
        self.model = parallel(run.model, run.ranks)
        self.type = TYPES[run.config.run.precision]

    def learn(self, batch: Batch, *, last: bool) -> Losses:
        """Add the gradient of this rank's share of a batch to those there are.

        last: whether it is the last batch of the iteration, at which the processes meet
        Raises ModelError where the loss is not finite.
        """
        shared = self.model if isinstance(self.model, DistributedDataParallel) else None
        with nullcontext() if shared is None or last else shared.no_sync():
            total, losses = self._losses(batch)
            self._refuse_nonfinite(losses, batch)
            total = total / self.run.config.run.accumulate
            self.run.scaler.scale(total).backward()  # type: ignore[no-untyped-call]
        return losses

    def update(self) -> None:
        """Change the weights by the gradients that have been added up, and forget these."""
        optimiser, scaler = self.run.optimiser, self.run.scaler
        if self.settings.clip_norm:
            scaler.unscale_(optimiser)
            nn.utils.clip_grad_norm_(self.run.model.parameters(), self.settings.clip_norm)
        scaler.step(optimiser)
        scaler.update()
        optimiser.zero_grad(set_to_none=True)

    def _losses(self, batch: Batch) -> tuple[Tensor, Losses]:
        device = self.run.device
        silhouettes = torch.from_numpy(batch.silhouettes).to(device)  # [n, s, h, w] uint8
        labels = torch.from_numpy(batch.labels).to(device)  # [n]
        n, s = silhouettes.shape[:2]
        lengths = torch.full((n,), s, dtype=torch.int32, device=device)
        with torch.autocast(device.type, self.type, enabled=self.type != torch.float32):
            outputs = self.model(silhouettes, lengths)
        everybody = gathered(outputs.embedding), gathered(labels)
        margin, self_pairs = self.settings.margin, self.settings.self_pairs
        triplet, nonzero = triplet_loss(*everybody, margin=margin, self_pairs=self_pairs)
        total = self.settings.triplet_weight * triplet
        if self.settings.joint_weight:
            joint, _ = joint_triplet_loss(*everybody, margin=margin, self_pairs=self_pairs)
            total = total + self.settings.joint_weight * joint
        numbers = [triplet.detach(), nonzero]
        if outputs.logits is not None:
            classes = cross_entropy(outputs.logits, labels)
            total = total + self.settings.class_weight * classes
            numbers.append(classes.detach())
        told = self.run.ranks.mean(torch.stack([total.detach(), *numbers])).tolist()
        return total, Losses(told[0], told[1], told[3] if len(told) > 3 else None, told[2])

    def _refuse_nonfinite(self, losses: Losses, batch: Batch) -> None:
        if math.isfinite(losses.total):
            return
        there = self.last_good.exists()
        kept = f"the last good checkpoint is {self.last_good}" if there else "no checkpoint yet"
        raise ModelError(
            f"the loss is {losses.total} at batch {batch.number} (sequences "
            f"{batch.rows.tolist()}); {kept}. Lower optimiser.rate or set optimiser.clip_norm, "
            "then resume"
        )
