"""Embedded sequences with their labels, and the distances between them in blocks.

Letters: `m` sequences, `s` frames, `p` parts, `d` embedding dimensions.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from cstl_edge.arrays import Floats, Indices, Silhouettes, Vectors

BLOCK_BYTES = 512 * 2**20

GALLERY = ("nm-01", "nm-02", "nm-03", "nm-04")
PROBES = {"nm": ("nm-05", "nm-06"), "bg": ("bg-01", "bg-02"), "cl": ("cl-01", "cl-02")}


@dataclass(frozen=True)
class LabelledEmbeddings:
    """Embedded sequences with the labels of each: person, sequence name (`nm-05`), view [deg].

    A sequence whose embedding has a NaN or an infinity failed to enrol: it matches nobody.
    """

    embeddings: Vectors  # [m, p, d]
    people: Indices  # [m]
    sequences: npt.NDArray[np.str_]  # [m]
    views_deg: Indices  # [m]

    def __getitem__(self, keep: Any) -> LabelledEmbeddings:
        """Return the sequences that `keep` (an index or a mask over m) selects."""
        return LabelledEmbeddings(
            self.embeddings[keep], self.people[keep], self.sequences[keep], self.views_deg[keep]
        )


def gait_energy(silhouettes: Silhouettes) -> Floats:
    """Return gait energy images, the mean over frames, as embeddings of one part: [m, 1, h·w]."""
    mean = np.stack([sequence.mean(axis=0) for sequence in silhouettes]) / 255
    return np.asarray(mean.reshape(len(mean), 1, -1), np.float32)  # [m, 1, h·w]


def part_mean_distance(a: Vectors, b: Vectors) -> Floats:
    """Return the mean over parts of the Euclidean distance: [i, p, d] and [j, p, d] to [i, j].

    Computed in float32, where an embedding is up to a thousandth of its length away from itself.
    An embedding that is not finite is infinitely far from everything.
    """
    total = np.zeros((len(a), len(b)), np.float32)
    for part in range(a.shape[1]):
        x, y = (np.asarray(side[:, part], np.float32) for side in (a, b))  # [i, d], [j, d]
        with np.errstate(invalid="ignore"):  # infinity minus infinity
            square = x @ y.T
            square *= -2
            square += (x * x).sum(1)[:, None]
            square += (y * y).sum(1)[None]
            total += np.sqrt(np.maximum(square, 0, out=square), out=square)
    total /= a.shape[1]
    total[~np.isfinite(total)] = np.inf
    return total


def distance_rows(
    embeddings: Vectors, probes: Indices, gallery: Indices, limit_bytes: int = BLOCK_BYTES
) -> Iterator[tuple[slice, Floats]]:
    """Yield a slice of `probes` at a time, and distances [i, g] to the whole gallery.

    Args:
        embeddings: [m, p, d], in memory or a memory-mapped file.
        probes: [n], indices of the m sequences.
        gallery: [g], indices of the m sequences.
        limit_bytes: Memory of all blocks together.
    """
    parts, dims = embeddings.shape[1:]
    rows, columns = block_shape(len(gallery), parts, dims, limit_bytes)
    for top in range(0, len(probes), rows):
        block = slice(top, min(top + rows, len(probes)))
        a = embeddings[probes[block]]
        distance = np.empty((len(a), len(gallery)), np.float32)
        for left in range(0, len(gallery), columns):
            b = embeddings[gallery[left : left + columns]]
            distance[:, left : left + columns] = part_mean_distance(a, b)
        yield block, distance


def block_shape(
    gallery: int, parts: int, dims: int, limit_bytes: int = BLOCK_BYTES
) -> tuple[int, int]:
    """Return the numbers of probes and of gallery entries in memory at a time.

    Each takes its embedding (4 bytes a number at most) and a working copy of one part. A probe
    also has its distances, twice, since the caller still holds the last ones; each pair of the two
    has three working numbers. Probes get half of the limit, entries and pairs the other half.

    >>> block_shape(4767, 32, 512)
    (2444, 2657)

    Args:
        gallery: Number of gallery entries.
        parts: Number of parts p.
        dims: Embedding dimensions d.
        limit_bytes: Memory of all blocks together.
    """
    half, entry = limit_bytes // 2, 4 * parts * dims + 12 * dims  # bytes
    rows = max(1, half // (entry + 8 * gallery))
    return rows, max(1, half // (entry + 12 * rows))
