"""Training of a joint projection: one more row for matching, linear in all parts of an embedding.

The network stays as it is: its embeddings of many walks are given. A part tells people apart by
itself; what only several parts together tell, such as proportions, is for the joint row. Trained by
the batch-all triplet loss on unit vectors and a cross-entropy on cosines, after a batch norm that
ends up in the matrix. Letters: n walks, b walks of a batch, p parts, d dimensions.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from cstl_edge.arrays import Floats, Indices, Vectors
from cstl_edge.errors import DataError
from cstl_edge.training.losses import triplet_loss

SCALE = 16.0  # of the cosines in the cross-entropy
LOG_EVERY = 500  # steps


@dataclass(frozen=True)
class JointSettings:
    """Settings of the training."""

    steps: int = 2500
    people: int = 32  # of a batch
    walks: int = 4  # of each
    rate: float = 1e-3  # largest learning rate of Adam's one cycle
    dropout: float = 0.2  # of the embedding's numbers
    noise: float = 0.1  # added to them, in their standard deviations
    class_weight: float = 0.1  # of the cross-entropy
    seed: int = 0


def fit_joint(
    embeddings: Vectors,
    people: Indices,
    groups: Indices,
    settings: JointSettings | None = None,
    progress: Callable[[str], None] = print,
) -> Floats:
    """Train a joint projection and return its matrix [d, p, d].

    Args:
        embeddings: [n, p, d], one window of each walk.
        people: [n], who walks.
        groups: [n], where the walks come from: the mean of each group is subtracted, as that of a
            camera is in matching.
        settings: Steps, batches and rates.
        progress: Receiver of a line now and then.

    Raises:
        DataError: There are fewer people, or walks of one, than a batch takes.
    """
    settings = settings or JointSettings()
    torch.manual_seed(settings.seed)
    rows, scale = _normalised(embeddings, groups)
    drawn = _Batches(people, settings)
    dimensions = embeddings.shape[2]
    layer = _Layer(rows.shape[1], dimensions, drawn.count)
    optimiser = torch.optim.Adam(layer.parameters(), lr=settings.rate)
    cycle = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, settings.rate, total_steps=settings.steps, pct_start=0.05
    )
    for step in range(settings.steps):
        places, labels = drawn.next()
        x = rows[places].float()
        x = functional.dropout(x + settings.noise * torch.randn_like(x), settings.dropout)
        unit, logits = layer(x)
        entropy = functional.cross_entropy(logits, labels, label_smoothing=0.1)
        triplet = triplet_loss(unit[:, None], labels).loss
        optimiser.zero_grad()
        (triplet + settings.class_weight * entropy).backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        cycle.step()
        if (step + 1) % LOG_EVERY == 0:
            values = f"triplet {float(triplet):.3f}, cross-entropy {float(entropy):.3f}"
            progress(f"step {step + 1} of {settings.steps}: {values}")
    matrix = layer.matrix() / scale  # [d, p * d]
    return np.asarray(matrix.reshape(dimensions, -1, dimensions).numpy(), np.float32)


class _Layer(nn.Module):
    """The projection, its norm, and a unit vector for each person."""

    def __init__(self, inputs: int, dimensions: int, people: int) -> None:
        super().__init__()
        self.linear = nn.Linear(inputs, dimensions, bias=False)
        self.norm = nn.BatchNorm1d(dimensions)
        self.classes = nn.Parameter(torch.zeros(people, dimensions))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return unit vectors [b, d] and logits [b, people]."""
        unit = functional.normalize(self.norm(self.linear(x)), dim=1)
        return unit, SCALE * unit @ functional.normalize(self.classes + 1e-8, dim=1).T

    @torch.no_grad()
    def matrix(self) -> Tensor:
        """Return the projection with its norm, whose constant part centring takes away."""
        variance = self.norm.running_var
        assert variance is not None
        gain = self.norm.weight / torch.sqrt(variance + self.norm.eps)
        return self.linear.weight * gain[:, None]


class _Batches:
    """Batches of a few walks of some people each."""

    def __init__(self, people: Indices, settings: JointSettings) -> None:
        _, self._labels = np.unique(people, return_inverse=True)
        self.count = int(self._labels.max(initial=-1)) + 1
        self._of = [np.flatnonzero(self._labels == i) for i in range(self.count)]
        self._settings, self._rng = settings, np.random.default_rng(settings.seed)
        fewest = min(map(len, self._of), default=0)
        if self.count < settings.people or fewest < settings.walks:
            raise DataError(
                f"expected {settings.people} people of {settings.walks} walks each or more; got "
                f"{self.count} people, one of them with {fewest} walks"
            )

    def next(self) -> tuple[Tensor, Tensor]:
        """Return the places of a batch's walks and their labels, [b] each."""
        who = self._rng.choice(self.count, self._settings.people, replace=False)
        places = np.concatenate(
            [self._rng.choice(self._of[i], self._settings.walks, replace=False) for i in who]
        )
        return torch.from_numpy(places), torch.from_numpy(self._labels[places])


def _normalised(embeddings: Vectors, groups: Indices) -> tuple[Tensor, Tensor]:
    """Return embeddings less their group's mean by their deviation, float16 [n, p * d]; and it."""
    rows = np.array(embeddings.reshape(len(embeddings), -1), np.float32)
    for group in np.unique(groups):
        own = groups == group
        rows[own] -= rows[own].mean(axis=0, dtype=np.float64)
    scale = np.maximum(rows.std(axis=0, dtype=np.float64), 1e-6).astype(np.float32)
    rows /= scale
    return torch.from_numpy(rows.astype(np.float16)), torch.from_numpy(scale)
