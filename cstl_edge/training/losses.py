"""The two losses of the paper: separate batch-all triplet (BA+) and the cross-entropy of Eq. 8.

Beside them a triplet loss of the whole walker, which is not the paper's. All are vectorised over
the parts. Letters: `n` sequences of a batch, `p` parts, `d` embedding
dimensions, `m` pairs of the same person.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional


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


MARGIN = 0.2  # of the paper, in units of the embedding


class Triplet(NamedTuple):
    """The triplet loss of a batch and the share of its triplets that still cost something."""

    loss: Tensor  # scalar
    nonzero: Tensor  # scalar, 0..1, no gradient


def triplet_loss(
    embedding: Tensor, labels: Tensor, *, margin: float = MARGIN, self_pairs: bool = False
) -> Triplet:
    """Return the mean over the triplets above zero of each part, then the mean over parts.

    embedding: [n, p, d] float32
    labels: [n] integers, the person of each sequence
    self_pairs: count a sequence as its own positive at distance 0. The released code does, the
        batch-all loss the paper cites does not; the default follows the citation.

    Distances are Euclidean, not squared. A part without a triplet above zero contributes 0.
    """
    return _batch_all(part_distances(embedding), labels, margin, self_pairs)


def joint_triplet_loss(
    embedding: Tensor, labels: Tensor, *, margin: float = MARGIN, self_pairs: bool = False
) -> Triplet:
    """Return the batch-all triplet loss of the mean of the parts' distances.

    Arguments as for `triplet_loss`. That mean is the distance by which walkers are matched; alone,
    the loss of each part asks every band of a body to tell people apart by itself.
    """
    mean = part_distances(embedding).mean(0, keepdim=True)  # [1, n, n]
    return _batch_all(mean, labels, margin, self_pairs)


def _batch_all(distance: Tensor, labels: Tensor, margin: float, self_pairs: bool) -> Triplet:
    """Return the loss over all triplets of distances [p, n, n]."""
    anchor, positive = _same_person(labels, self_pairs)  # [m] each
    to_positive = distance[:, anchor, positive]  # [p, m]
    to_all = distance.index_select(1, anchor)  # [p, m, n]
    negative = labels[anchor, None] != labels[None]  # [m, n]
    # Only pairs of one person are spread over all others: k/n of the n³ cube.
    hinge = functional.relu(to_positive[:, :, None] + margin - to_all) * negative  # [p, m, n]
    above = torch.count_nonzero(hinge.detach(), dim=(1, 2))  # [p]
    loss = hinge.sum(dim=(1, 2)) / above.clamp(min=1)  # [p]
    triplets = max(int(negative.sum()), 1)
    return Triplet(loss.mean(), above.sum() / (triplets * max(len(above), 1)))


def part_distances(embedding: Tensor) -> Tensor:
    """Return Euclidean distances between all sequences, part by part: [n, p, d] to [p, n, n]."""
    x = embedding.transpose(0, 1)  # [p, n, d]
    norm = x.square().sum(2)  # [p, n]
    square = norm[:, :, None] + norm[:, None] - 2 * x @ x.transpose(1, 2)
    # The diagonal is zero by definition; rounding would give it a root and a wild gradient.
    itself = torch.eye(len(embedding), dtype=torch.bool, device=embedding.device)
    square = square.masked_fill(itself, 0)
    # The relu stops the gradient where the root has none; without it 0 · inf would be NaN.
    return functional.relu(square).sqrt()


def cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Return Eq. 8 as the mean over sequences and parts (the paper's sum divided by B·K).

    logits: [n, p, classes]
    labels: [n] integers, 0..classes-1
    """
    parts = logits.shape[1]
    return functional.cross_entropy(logits.flatten(0, 1), labels.repeat_interleave(parts))


def _same_person(labels: Tensor, self_pairs: bool) -> tuple[Tensor, Tensor]:
    same = labels[:, None] == labels[None]  # [n, n]
    if not self_pairs:
        same = same & ~torch.eye(len(labels), dtype=torch.bool, device=labels.device)
    anchor, positive = same.nonzero(as_tuple=True)
    return anchor, positive
