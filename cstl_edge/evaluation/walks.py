"""Embedded sequences with what is known of them, and CASIA-B's names of gallery and probes.

Letters of this room: `m` sequences, `s` frames, `p` parts, `d` embedding dimensions.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
Vectors = npt.NDArray[np.floating[Any]]  # float32, or float16 of a file that is mapped
Rows = npt.NDArray[np.int64]  # indices of sequences
Bools = npt.NDArray[np.bool_]

GALLERY = ("nm-01", "nm-02", "nm-03", "nm-04")
PROBES = {"nm": ("nm-05", "nm-06"), "bg": ("bg-01", "bg-02"), "cl": ("cl-01", "cl-02")}


@dataclass(frozen=True)
class Walks:
    """Embedded sequences and what is known of each: person, sequence name (`nm-05`), view [deg].

    A sequence whose embedding has a NaN or an infinity failed to enrol: it matches nobody.
    """

    embeddings: Vectors  # [m, p, d]
    people: npt.NDArray[np.int64]  # [m]
    sequences: npt.NDArray[np.str_]  # [m]
    views_deg: npt.NDArray[np.int64]  # [m]

    def __getitem__(self, keep: Any) -> Walks:
        """Return the sequences that `keep` (an index or a mask over m) selects."""
        return Walks(
            self.embeddings[keep], self.people[keep], self.sequences[keep], self.views_deg[keep]
        )


def gait_energy(silhouettes: npt.NDArray[np.uint8]) -> Floats:
    """Return gait energy images, the mean over frames, as embeddings of one part: [m, 1, h·w]."""
    mean = np.stack([sequence.mean(axis=0) for sequence in silhouettes]) / 255
    return np.asarray(mean.reshape(len(mean), 1, -1), np.float32)  # [m, 1, h·w]
