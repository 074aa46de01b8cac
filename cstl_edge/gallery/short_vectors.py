"""Short vectors of many templates: an index that finds the few whose distances are worth computing.

A template, centred and whitened as for `cosine`, is a unit vector; its DIMENSIONS principal
components, turned at random, are kept as 8-bit integers, and again as 4-bit product codes that
faiss scans (Jégou et al., Product quantization, 2011; 64 bytes each). Codes choose COARSE of them,
integers the best of these. Entries are added at the end; those of walks that are gone are left out
of answers and of what is stored. Letters: n entries, r components, D numbers of an embedding.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from cstl_edge.arrays import Array, Bools, Floats, Indices
from cstl_edge.extras import missing_package

if TYPE_CHECKING:
    import faiss

DIMENSIONS = 512  # principal components, fewer where an embedding has fewer
SAMPLE = 8192  # templates from which components and codes are learned
COARSE = 4096  # entries that 4-bit codes choose
_ROUNDS = 3  # of the subspace iteration


def import_faiss() -> Any:
    """Return the module faiss; raises MissingPackage."""
    try:
        import faiss
    except ImportError as err:
        raise missing_package("a gallery of so many templates needs faiss-cpu", "index") from err
    return faiss


def principal_components(sample: Floats, count: int) -> Floats:
    """Return orthonormal directions [D, r] of most of a sample's energy, by subspace iteration.

    sample: [m, D]
    count: r
    """
    rng = np.random.default_rng(0)
    basis = rng.standard_normal((sample.shape[1], count), dtype=np.float32)
    for _ in range(_ROUNDS):
        basis = np.linalg.qr(sample.T @ (sample @ basis))[0].astype(np.float32)
    return basis


def evenly_turned(components: Floats) -> Floats:
    """Return directions [D, r] of the same space, turned at random within it.

    Each code and each integer then carries as much energy as the others. The first components of
    embeddings hold most of it, and their codes' errors alone would decide which walks are chosen.
    """
    r = components.shape[1]
    turn = np.linalg.qr(np.random.default_rng(1).standard_normal((r, r)))[0]
    return np.asarray(components @ turn.astype(np.float32), np.float32)


@dataclass
class ShortVectors:
    """Short vectors of entries, each of which belongs to a walk."""

    components: Floats  # [D, r]
    codebook: Floats  # [r], 4-bit codewords of all product codes, as faiss lays them out
    walks: Indices  # [n], number that the owner gives to each entry's walk
    integers: npt.NDArray[np.int8]  # [n, r]
    scales: Floats  # [n]
    _codes: faiss.IndexPQFastScan = field(init=False, repr=False)
    _buffers: dict[str, Array] = field(init=False, repr=False, default_factory=dict)

    def __post_init__(self) -> None:
        """Make the codes, which follow from the integers."""
        faiss = import_faiss()
        r = self.components.shape[1]
        self._codes = faiss.IndexPQFastScan(r, r // 4, 4, faiss.METRIC_INNER_PRODUCT)
        faiss.copy_array_to_vector(self.codebook.ravel(), self._codes.pq.centroids)
        self._codes.is_trained = True
        for start in range(0, len(self.walks), SAMPLE):
            self._codes.add(self._restored(slice(start, start + SAMPLE)))

    @classmethod
    def learned(cls, sample: Floats) -> ShortVectors:
        """Return no vectors, with components and codes that fit a sample [m, D]."""
        faiss = import_faiss()
        r = min(DIMENSIONS, sample.shape[1]) // 8 * 8
        components = evenly_turned(principal_components(sample, r))
        coder = faiss.IndexPQFastScan(r, r // 4, 4, faiss.METRIC_INNER_PRODUCT)
        coder.train(np.ascontiguousarray(sample @ components))
        codebook = faiss.vector_to_array(coder.pq.centroids).copy()
        empty = np.empty((0, r), np.int8)
        return cls(components, codebook, np.empty(0, np.int64), empty, np.empty(0, np.float32))

    def add(self, walks: Iterable[int], vectors: Floats) -> None:
        """Add unit vectors [n, D] of the walks of these numbers."""
        short = vectors @ self.components
        scales = np.abs(short).max(axis=1) / np.float32(127)
        integers = np.rint(short / np.maximum(scales, 1e-30)[:, None]).astype(np.int8)
        new = np.fromiter(walks, np.int64, len(vectors))
        self.walks = self._longer("walks", self.walks, new)
        self.integers = self._longer("integers", self.integers, integers)
        self.scales = self._longer("scales", self.scales, scales)
        self._codes.add(np.ascontiguousarray(short))

    def nearest_walks(self, query: Floats, count: int, is_there: Bools) -> Indices:
        """Return the numbers of the walks nearest to a unit vector [D], nearest first.

        Args:
            query: [D].
            count: How many walks at most.
            is_there: Whether each walk is enrolled still, by its number.
        """
        short = np.ascontiguousarray(query[None] @ self.components)
        _, found = self._codes.search(short, min(COARSE, len(self.walks)))
        entries = found[0][found[0] >= 0]
        entries = entries[is_there[self.walks[entries]]]
        similarity = (self.integers[entries] @ short[0]) * self.scales[entries]
        ranked = self.walks[entries[np.argsort(-similarity, kind="stable")]]
        _, first = np.unique(ranked, return_index=True)
        return np.asarray(ranked[np.sort(first)[:count]], np.int64)

    def without(self, gone: Bools) -> ShortVectors:
        """Return the vectors without some entries, `gone` [n]."""
        stay = ~gone
        return ShortVectors(
            self.components,
            self.codebook,
            self.walks[stay],
            self.integers[stay],
            self.scales[stay],
        )

    def _longer(self, name: str, present: Array, new: Array) -> Array:
        """Return an array with rows at its end, in a buffer that doubles when it is full."""
        count = len(present) + len(new)
        buffer = self._buffers.get(name)
        if buffer is None or len(buffer) < count:
            buffer = np.empty((max(2 * len(present), count), *present.shape[1:]), present.dtype)
            buffer[: len(present)] = present
            self._buffers[name] = buffer
        buffer[len(present) : count] = new
        return buffer[:count]

    def _restored(self, entries: slice) -> Floats:
        """Return short vectors as they are known from integers, [m, r]."""
        return self.integers[entries] * self.scales[entries, None]
