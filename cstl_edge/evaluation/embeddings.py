"""Embedded sequences with their labels, and the distances between them in blocks.

Letters: `m` sequences, `s` frames, `p` parts, `d` embedding dimensions.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from cstl_edge.arrays import Floats, Indices, Silhouettes, Vectors
from cstl_edge.distance import EUCLIDEAN, Distance

BLOCK_BYTES = 512 * 2**20
PROJECTED = 3  # copies in float32 that `cosine` makes of embeddings

GALLERY = ("nm-01", "nm-02", "nm-03", "nm-04")
PROBES = {"nm": ("nm-05", "nm-06"), "bg": ("bg-01", "bg-02"), "cl": ("cl-01", "cl-02")}


@dataclass(frozen=True)
class LabelledEmbeddings:
    """Embedded sequences with the labels of each: person, sequence name (`nm-05`), view [deg].

    A sequence whose embedding has a NaN or an infinity failed to enroll: it matches nobody.
    """

    embeddings: Vectors  # [m, p, d]
    people: Indices  # [m]
    sequences: npt.NDArray[np.str_]  # [m]
    views_deg: Indices  # [m]
    distance: Distance = EUCLIDEAN  # by which they are compared
    mean: Floats | None = None  # [p, d], subtracted by `cosine`; None: the model's own

    def __getitem__(self, keep: Any) -> LabelledEmbeddings:
        """Return the sequences that `keep` (an index or a mask over m) selects."""
        return replace(
            self,
            embeddings=self.embeddings[keep],
            people=self.people[keep],
            sequences=self.sequences[keep],
            views_deg=self.views_deg[keep],
        )

    def compared_by(self, distance: Distance) -> LabelledEmbeddings:
        """Return the same under a distance; `cosine` subtracts their mean, as that of a camera."""
        finite = np.isfinite(self.embeddings).all(axis=(1, 2))
        mean = None
        if distance.name == "cosine" and finite.any():
            mean = np.asarray(self.embeddings[finite].mean(axis=0, dtype=np.float64), np.float32)
        return replace(self, distance=distance, mean=mean)


def gait_energy(silhouettes: Silhouettes) -> Floats:
    """Return gait energy images, the mean over frames, as embeddings of one part: [m, 1, h·w]."""
    mean = np.stack([sequence.mean(axis=0) for sequence in silhouettes]) / 255
    return np.asarray(mean.reshape(len(mean), 1, -1), np.float32)  # [m, 1, h·w]


def distance_rows(
    labelled: LabelledEmbeddings,
    probes: Indices,
    gallery: Indices,
    limit_bytes: int = BLOCK_BYTES,
) -> Iterator[tuple[slice, Floats]]:
    """Yield a slice of `probes` at a time, and distances [i, g] to the whole gallery.

    Args:
        labelled: m embedded sequences, in memory or in a memory-mapped file, and their distance.
        probes: [n], indices of the m sequences.
        gallery: [g], indices of the m sequences.
        limit_bytes: Memory of all blocks together.
    """
    embeddings, distance = labelled.embeddings, labelled.distance
    parts, dims = embeddings.shape[1:]
    copies = 1 if distance.name == "euclidean" else PROJECTED  # of the embeddings of a block
    rows, columns = block_shape(len(gallery), parts, dims, limit_bytes // copies)
    for top in range(0, len(probes), rows):
        block = slice(top, min(top + rows, len(probes)))
        a = embeddings[probes[block]]
        distances = np.empty((len(a), len(gallery)), np.float32)
        for left in range(0, len(gallery), columns):
            b = embeddings[gallery[left : left + columns]]
            distances[:, left : left + columns] = distance.pairwise(a, b, labelled.mean)
        yield block, distances


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
