"""Losses of the paper: separate batch-all triplet (BA+) and the cross-entropy of Eq. 8.

A third, the triplet loss of the parts' mean distance, is not the paper's. All are vectorised over
the parts. Letters: `n` sequences of a batch, `p` parts, `d` embedding dimensions, `m` pairs of the
same person.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from statistics import fmean
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

MARGIN = 0.2  # of the paper, in units of the embedding


@dataclass(frozen=True)
class Losses:
    """Losses of one batch over all processes; `total` is minimised.

    What a network without that class head does not have, and what was not measured, is None.
    """

    total: float
    triplet: float
    nonzero: float  # share of the triplets above zero
    cross_entropy: float | None = None  # of Eq. 8
    class_accuracy: float | None = None  # share of parts whose largest logit is the person's
    embedding_cross_entropy: float | None = None  # of the class head on the embedding
    embedding_class_accuracy: float | None = None
    gradient_triplet: float | None = None  # norms at the trunk's output, as weighted in `total`
    gradient_class: float | None = None  # of both cross-entropies together
    gradient_cosine: float | None = None  # between the two

    @classmethod
    def mean(cls, batches: Sequence[Losses]) -> Losses:
        """Return the means over the batches of one iteration."""
        means = {}
        for name in (field.name for field in fields(cls)):
            values = [x for losses in batches if (x := getattr(losses, name)) is not None]
            means[name] = fmean(values) if values else None
        return cls(**means)  # type: ignore[arg-type]  # the first three are always there


class TripletLoss(NamedTuple):
    """Triplet loss of a batch, and the share of its triplets that are above zero."""

    loss: Tensor  # scalar
    nonzero: Tensor  # scalar, 0..1, no gradient


def triplet_loss(
    embedding: Tensor,
    labels: Tensor,
    *,
    margin: float = MARGIN,
    self_pairs: bool = False,
    joint: bool = False,
) -> TripletLoss:
    """Compute the mean over the triplets above zero of each part, then the mean over parts.

    Distances are Euclidean, not squared. A part without a triplet above zero contributes 0.

    Args:
        embedding: [n, p, d] float32.
        labels: [n] integers, the person of each sequence.
        margin: Margin of the hinge, in units of the embedding.
        self_pairs: True to count a sequence as its own positive at distance 0. The released code
            does, the batch-all loss the paper cites does not; the default follows the citation.
        joint: True to take the mean of the parts' distances, by which sequences are matched, for
            one part; the loss of each part alone requires every band of a body to separate people
            by itself.
    """
    distance = part_distances(embedding)  # [p, n, n]
    if joint:
        distance = distance.mean(0, keepdim=True)  # [1, n, n]
    same = labels[:, None] == labels[None]  # [n, n]
    if not self_pairs:
        same = same & ~torch.eye(len(labels), dtype=torch.bool, device=labels.device)
    anchor, positive = same.nonzero(as_tuple=True)  # of all pairs of one person: [m] each
    to_positive = distance[:, anchor, positive]  # [p, m]
    to_all = distance.index_select(1, anchor)  # [p, m, n]
    negative = labels[anchor, None] != labels[None]  # [m, n]
    # Only pairs of one person are spread over all others: k/n of the n³ cube.
    hinge = functional.relu(to_positive[:, :, None] + margin - to_all) * negative  # [p, m, n]
    above = torch.count_nonzero(hinge.detach(), dim=(1, 2))  # [p]
    loss = hinge.sum(dim=(1, 2)) / above.clamp(min=1)  # [p]
    triplets = max(int(negative.sum()), 1)
    return TripletLoss(loss.mean(), above.sum() / (triplets * max(len(above), 1)))


def part_distances(embedding: Tensor) -> Tensor:
    """Compute Euclidean distances between all sequences, part by part: [n, p, d] to [p, n, n]."""
    x = embedding.transpose(0, 1)  # [p, n, d]
    norm = x.square().sum(2)  # [p, n]
    square = norm[:, :, None] + norm[:, None] - 2 * x @ x.transpose(1, 2)
    # The diagonal is zero by definition; rounding would give it a root and a wild gradient.
    diagonal = torch.eye(len(embedding), dtype=torch.bool, device=embedding.device)
    square = square.masked_fill(diagonal, 0)
    # The relu stops the gradient where the root has none; without it 0 · inf would be NaN.
    return functional.relu(square).sqrt()


def cross_entropy(logits: Tensor, labels: Tensor, smoothing: float = 0.0) -> Tensor:
    """Compute Eq. 8 as the mean over sequences and parts (the paper's sum divided by B·K).

    Args:
        logits: [n, p, classes].
        labels: [n] integers, 0..classes-1.
        smoothing: Share of every label that is spread over all classes; the paper has none.
    """
    repeated = labels.repeat_interleave(logits.shape[1])
    return functional.cross_entropy(logits.flatten(0, 1), repeated, label_smoothing=smoothing)


def class_accuracy(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the share of sequences and parts whose largest logit is that of the person.

    logits: [n, p, classes]
    labels: [n] integers, 0..classes-1
    """
    return (logits.detach().argmax(2) == labels[:, None]).float().mean()
