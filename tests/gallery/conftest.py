"""Stand-in model of the gallery tests: small, fast, identified by its sha256."""

import itertools
from dataclasses import dataclass, field
from types import SimpleNamespace

import numpy as np
import pytest

from cstl_edge.distance import EUCLIDEAN, Distance
from cstl_edge.gallery import server_link
from cstl_edge.gallery.gallery import Gallery

PARTS, DIMENSIONS = 4, 4
NUMBERS = itertools.count()  # of databases


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


@pytest.fixture(scope="module")
def server():
    """Run a PostgreSQL server."""
    from standin_postgres import postgres_server  # not where child processes import this file

    with postgres_server() as running:
        yield running


@pytest.fixture
def address(server, monkeypatch):
    """Return the address of an empty database; whoever follows it looks often."""
    from standin_postgres import database

    for name in ("POLL_S", "RETRY_S", "LOOK_S"):
        monkeypatch.setattr(server_link, name, 0.05)
    return database(server, f"gallery{next(NUMBERS)}")


@pytest.fixture
def box(address, model, tmp_path, monkeypatch):
    """Open the gallery as one of several boxes, each with a replica of its own."""
    opened = []

    def open_box(name="a", *, place=address, **options):
        monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / name))
        opened.append(Gallery.open(place, options.pop("model", model), **options))
        return opened[-1]

    yield open_box
    for gallery in opened:
        gallery.close()
