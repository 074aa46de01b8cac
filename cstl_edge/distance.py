"""Distance between embeddings, by its name in a model's manifest: the one place that computes it.

`euclidean`, the paper's, is the weighted mean over parts of the Euclidean distance. `cosine` is the
weighted mean over parts of 1 - cos, after a mean is subtracted from both sides and each part is
multiplied by the model's whitening matrix. A model may ship a joint projection beside: all parts
together give one more row, which is compared as a part is. Neither is ever the distance of the
flattened vector. Gallery, evaluation, accuracy gates and benchmarks use this module;
`gallery.index` is its fast path for one query against many templates. Letters: n, i, j embeddings,
p parts (rows of an embedding), r rows that are compared (the parts, and the joint one), d
dimensions.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from cstl_edge.arrays import Doubles, Floats, Indices, Vectors

DistanceName = Literal["euclidean", "cosine"]
SHRINKAGE = 0.5
"""Share of the identity in the scatter that is inverted: .3 and .5 were alike on real people."""
PRIOR_PEOPLE = 2
"""People that a prior counts for in a blended mean: the ratio of the variances of people and of
cameras' means on real walkers is 1.3 (area under the ROC curve with the mean of 0, 3, 5, 8, 12
people: .844, .905, .922, .934, .941), and more on synthetic ones."""
_TINY = np.float32(1e-12)


@dataclass(frozen=True, eq=False)
class Distance:
    """A distance between embeddings [p, d], with what the model ships for it."""

    name: DistanceName = "euclidean"
    weights: Floats | None = None  # [r] above 0, of the rows in the mean; None: all equal
    mean: Floats | None = None  # [p, d], of the model's synthetic people; `cosine` only
    whitening: Floats | None = None  # [p, d, d], symmetric; `cosine` only
    joint: Floats | None = None
    """[d, p, d], `cosine` only: from all parts of an embedding to one more row."""
    fused_walks: int = 0
    """Walks of a person that are compared together too (`gallery.fusion`), `cosine` only; 0: a
    person is as near as their nearest entry."""

    def part_weights(self, rows: int) -> Floats:
        """Return the weights of the rows that are compared, with a sum of 1: [r]."""
        if self.weights is None:
            return np.full(rows, 1 / rows, np.float32)
        return np.asarray(self.weights / self.weights.sum(), np.float32)

    def whiten(self, embeddings: Vectors) -> Floats:
        """Return the whitened parts of embeddings [n, p, d], and their joint row: [n, r, d].

        It is linear. The joint row has been trained for the spread within people already.
        """
        rows = with_joint(np.asarray(embeddings, np.float32), self.joint)
        if self.whitening is None:
            return rows
        by_part = rows.transpose(1, 0, 2)  # [r, n, d]
        parts = len(self.whitening)
        whitened = [np.matmul(by_part[:parts], self.whitening), by_part[parts:]]
        return np.ascontiguousarray(np.concatenate(whitened).transpose(1, 0, 2))

    def project(self, embeddings: Vectors, mean: Floats | None = None) -> Floats:
        """Return the form of embeddings in which `between` compares them: [n, r, d].

        Args:
            embeddings: [n, p, d], as the head gives them.
            mean: [p, d] to subtract, such as a camera's; by default the model's own.
        """
        rows = np.asarray(embeddings, np.float32)
        if self.name == "euclidean":
            return rows * self.part_weights(rows.shape[1])[:, None]
        centre = self.mean if mean is None else mean
        return self.scaled(self.whiten(rows if centre is None else rows - centre))

    def scaled(self, whitened: Floats) -> Floats:
        """Return centred and whitened rows [n, r, d] with the lengths of their weights' roots."""
        weights = self.part_weights(whitened.shape[1])[:, None]
        lengths = np.sqrt(np.einsum("nrd,nrd->nr", whitened, whitened))[..., None]
        return np.asarray(whitened * (np.sqrt(weights) / np.maximum(lengths, _TINY)), np.float32)

    def between(self, a: Floats, b: Floats) -> Floats:
        """Return the distances of projected embeddings [i, r, d] and [j, r, d]: [i, j].

        Computed in float32, where Euclidean distances are right to a thousandth of an embedding's
        length. What is not finite is infinitely far from everything.
        """
        if self.name == "euclidean":
            return _part_sums(a, b, np.ones(a.shape[1], np.float32))
        with np.errstate(invalid="ignore", over="ignore"):
            total = np.maximum(1 - a.reshape(len(a), -1) @ b.reshape(len(b), -1).T, 0)
        return _infinite_where_not_finite(total)

    def pairwise(self, a: Vectors, b: Vectors, mean: Floats | None = None) -> Floats:
        """Return the distances of embeddings [i, p, d] and [j, p, d] under one mean: [i, j].

        Args:
            a: Embeddings [i, p, d].
            b: Embeddings [j, p, d].
            mean: [p, d] to subtract from both; by default the model's own.
        """
        if self.name == "euclidean":  # one part at a time: the embeddings may be a mapped file
            return _part_sums(a, b, self.part_weights(a.shape[1]))
        with np.errstate(invalid="ignore", over="ignore"):
            return self.between(self.project(a, mean), self.project(b, mean))

    def adapted(self, scatter: Doubles, windows: float) -> Distance:
        """Return this distance with a whitening of parts that is half that of one's own walkers.

        Args:
            scatter: [p, d, d], sum over windows of the products of their deviations from the mean
                of their track, whose windows are of one person.
            windows: Number of windows in it, less one for each track.
        """
        if self.whitening is None or windows <= 0:
            return self
        dimensions = self.whitening.shape[-1]
        inverse = np.linalg.inv(self.whitening.astype(np.float64))
        identity = np.eye(dimensions)
        synthetic = (inverse @ inverse - SHRINKAGE * identity) / (1 - SHRINKAGE)
        own = _unit_trace(np.asarray(scatter, np.float64) / windows)
        return replace(self, whitening=_inverse_root((synthetic + own) / 2))


EUCLIDEAN = Distance()


def with_joint(embeddings: Floats, joint: Floats | None) -> Floats:
    """Return embeddings [n, p, d] with the row that a joint projection makes of all their parts.

    Args:
        embeddings: [n, p, d].
        joint: [d, p, d]; None: there is none, and nothing is added.
    """
    if joint is None:
        return embeddings
    n, d = len(embeddings), len(joint)
    row = embeddings.reshape(n, -1) @ joint.reshape(d, -1).T  # [n, d]
    return np.concatenate([embeddings, row[:, None]], axis=1)


def weights_with_joint(parts: int) -> Floats:
    """Return weights by which a joint row counts as much as all parts together: [r].

    Each of the two finds people whom the other does not; the area under the curve changes by less
    than .007 where the joint row has from 30 to 70 % of the weight.
    """
    return np.array([1.0] * parts + [parts], np.float32)


def whitening_of(embeddings: Vectors, people: Indices) -> Floats:
    """Return the matrices that whiten each part by the spread within people: [p, d, d].

    The scatter within people, scaled to a mean variance of 1, is shrunk half-way to the identity;
    its inverse square root is returned.

    Args:
        embeddings: [n, p, d].
        people: [n], who each is of; at least one of them has two embeddings.
    """
    rows = np.array(embeddings, np.float64)
    ids = np.unique(people)
    for person in ids:
        rows[people == person] -= rows[people == person].mean(axis=0)
    scatter = np.einsum("npd,npe->pde", rows, rows) / max(1, len(rows) - len(ids))
    return _inverse_root(_unit_trace(scatter))


def blended_mean(mean: Floats | None, people: float, prior: Floats | None) -> Floats | None:
    """Return the mean of some people, blended with a prior that counts for PRIOR_PEOPLE of them.

    Args:
        mean: [p, d] of these people; None for nobody.
        people: How many they are.
        prior: [p, d], the mean of a larger or synthetic population; None for none.
    """
    if mean is None or people <= 0:
        return prior
    if prior is None:
        return mean
    share = np.float32(people / (people + PRIOR_PEOPLE))
    return np.asarray(share * mean + (1 - share) * prior, np.float32)


def _part_sums(a: Vectors, b: Vectors, weights: Floats) -> Floats:
    """Return the weighted sums over parts of the Euclidean distances: [i, p, d], [j, p, d]."""
    total = np.zeros((len(a), len(b)), np.float32)
    for part, weight in enumerate(weights):
        x, y = (np.asarray(side[:, part], np.float32) for side in (a, b))  # [i, d], [j, d]
        with np.errstate(invalid="ignore", over="ignore"):  # infinity minus infinity
            square = x @ y.T
            square *= -2
            square += (x * x).sum(1)[:, None]
            square += (y * y).sum(1)[None]
            np.sqrt(np.maximum(square, 0, out=square), out=square)
            square *= weight
        total += square
    return _infinite_where_not_finite(total)


def _infinite_where_not_finite(distances: Floats) -> Floats:
    distances[~np.isfinite(distances)] = np.inf
    return distances


def _unit_trace(scatter: Doubles) -> Doubles:
    """Scale matrices [p, d, d] to a mean diagonal of 1."""
    variance = np.trace(scatter, axis1=1, axis2=2)[:, None, None] / scatter.shape[-1]
    return np.asarray(scatter / np.maximum(variance, 1e-12), np.float64)


def _inverse_root(scatter: Doubles) -> Floats:
    """Return the inverse square roots of matrices [p, d, d], shrunk to the identity first."""
    shrunk = (1 - SHRINKAGE) * scatter + SHRINKAGE * np.eye(scatter.shape[-1])
    values, vectors = np.linalg.eigh(shrunk)
    scaled = vectors / np.sqrt(values)[:, None, :]
    return np.asarray(scaled @ vectors.transpose(0, 2, 1), np.float32)
