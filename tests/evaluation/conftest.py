"""Stand-in sequences and embeddings, and a small encoder sensitive to every frame and its order."""

import numpy as np
import pytest

from cstl_edge.evaluation.closed_set import evaluate_closed_set
from cstl_edge.evaluation.embeddings import GALLERY, PROBES, LabelledEmbeddings
from cstl_edge.evaluation.protocols import select_trials
from cstl_edge.runtime.base import Embedded, EncoderInfo

CASIA_B_NAMES = (*GALLERY, *(name for names in PROBES.values() for name in names))


class Standin:
    """Embedding of a part: sums of the frames' bands, weighted by position; NaN for 251."""

    def __init__(self, size=(4, 3), parts=2, embedding=3, sha256="0" * 64):
        self.info = EncoderInfo(
            "standin", "numpy", "float32", 1, "stand/in", sha256, size, parts, 1, embedding
        )
        self.batches = []  # lengths of each call
        self.stop_after = None

    def encode(self, silhouettes, lengths=None):
        if self.stop_after is not None and len(self.batches) >= self.stop_after:
            raise KeyboardInterrupt
        assert silhouettes.dtype == np.uint8
        self.batches.append(lengths.tolist())
        out = np.zeros((len(silhouettes), self.info.parts, self.info.embedding), np.float32)
        for row, length in enumerate(lengths):
            frames = silhouettes[row, :length].astype(np.float32)  # [s, h, w]
            bands = frames.reshape(length, self.info.parts, -1).sum(2)  # [s, p]
            for k in range(self.info.embedding):
                out[row, :, k] = np.cos(np.arange(length) * (k + 1)).astype(np.float32) @ bands
            if (frames == 251).all():
                out[row] = np.nan
            if (frames == 252).all():
                out[row, 0, 0] = 1e6  # beyond float16
        return Embedded(out, np.zeros(out.shape[:2], np.int32))

    def close(self):
        pass


class Recordings:
    """Silhouettes of several lengths in memory, as a dataset would give them."""

    def __init__(self, lengths, size=(4, 3), seed=0):
        rng = np.random.default_rng(seed)
        m = len(lengths)
        self.lengths = np.array(lengths, np.int64)
        self.people = np.arange(m, dtype=np.int64) % 3
        self.views_deg = np.zeros(m, np.int64)
        self.sequences = np.array([f"nm-{k:02d}" for k in range(m)])
        self.silhouettes = [rng.integers(0, 250, (s, *size), dtype=np.uint8) for s in lengths]

    def read(self, sequence):
        return self.silhouettes[sequence]


def draw_labelled(
    people=6, views=(0, 90), names=CASIA_B_NAMES, spread=0.5, parts=2, dims=4, seed=0, missing=0.0
):
    """Draw a point of each person, add an offset by view and noise; leave out a share `missing`."""
    rng = np.random.default_rng(seed)
    rows = [(p, n, v) for p in range(people) for n in names for v in views]
    rows = [row for row in rows if rng.random() >= missing]
    ids = np.array([p for p, _, _ in rows])
    views_deg = np.array([v for _, _, v in rows])
    own = rng.normal(size=(people, parts, dims))[ids]
    by_view = 0.3 * rng.normal(size=(len(views), parts, dims))[np.searchsorted(views, views_deg)]
    noise = spread * rng.normal(size=(len(rows), parts, dims))
    embeddings = (own + by_view + noise).astype(np.float32)
    return LabelledEmbeddings(embeddings, 10 + ids, np.array([n for _, n, _ in rows]), views_deg)


def closed_set_record(labelled, protocol="casia-b", *, draws=5, **options):
    """Evaluate a closed-set protocol."""
    return evaluate_closed_set(labelled, select_trials(labelled, protocol, **options), draws=draws)


def plain_distance(labelled, i, j):
    """Distance of two sequences by its definition, in float64."""
    a, b = labelled.embeddings[i].astype(np.float64), labelled.embeddings[j].astype(np.float64)
    value = np.mean([np.sqrt(((x - y) ** 2).sum()) for x, y in zip(a, b, strict=True)])
    return value if np.isfinite(value) else np.inf


@pytest.fixture
def standin():
    return Standin()
