"""Stand-in model of the gallery tests: small, fast, identified by its sha256."""

from dataclasses import dataclass, field
from types import SimpleNamespace

import numpy as np
import pytest

from cstl_edge.distance import EUCLIDEAN, Distance
from cstl_edge.gallery.gallery import Gallery

PARTS, DIMENSIONS = 4, 4


@dataclass
class StandIn:
    """Embeds a window as the mean brightness of 4 x 4 fields; remembers what it was given."""

    weights_sha256: str = "a" * 64
    impostors: dict | None = None
    distance: Distance = EUCLIDEAN
    confidence: dict | None = None
    shapes: list = field(default_factory=list)

    @property
    def info(self):
        return self

    def encode(self, silhouettes, lengths=None):
        self.shapes.append(silhouettes.shape)
        n, s, h, w = silhouettes.shape
        fields = silhouettes.reshape(n, s, PARTS, h // PARTS, DIMENSIONS, w // DIMENSIONS)
        return SimpleNamespace(embedding=fields.mean(axis=(1, 3, 5), dtype=np.float32) / 25)


@pytest.fixture
def model():
    return StandIn()


@pytest.fixture
def other_model():
    return StandIn(weights_sha256="b" * 64)


@pytest.fixture
def rng():
    return np.random.default_rng(7)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "people.db"


@pytest.fixture
def walker(rng):
    """Make embeddings [k, p, d] of one more person."""

    def make(k=3, spread=0.1):
        centre = rng.standard_normal((1, PARTS, DIMENSIONS))
        return (centre + spread * rng.standard_normal((k, PARTS, DIMENSIONS))).astype(np.float32)

    return make


@pytest.fixture
def alice(path, model, walker):
    """Make a gallery at `path` with the three templates of one person, which are returned."""
    walk = walker()
    with Gallery.open(path, model) as gallery:
        gallery.enroll("alice", walk, consent="yes")
    return walk
