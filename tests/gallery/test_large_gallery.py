"""Two-stage search gives the exact answer, follows changes, and its cache is only a cache."""

from dataclasses import replace

import numpy as np
import pytest

from cstl_edge.distance import Distance, whitening_of
from cstl_edge.errors import GalleryError, MissingPackage
from cstl_edge.gallery import gallery as gallery_module
from cstl_edge.gallery import large_index
from cstl_edge.gallery.gallery import Gallery
from cstl_edge.gallery.index_cache import cache_path
from cstl_edge.gallery.keys import GalleryKey
from cstl_edge.gallery.large_index import LargeSearch
from cstl_edge.gallery.records import WalkOrigin

pytest.importorskip("faiss", reason="the extra index is not installed")
PEOPLE = 60


@pytest.fixture
def model(model, rng):
    sample = rng.normal(size=(60, 4, 4)) * np.linspace(0.5, 2, 4)
    whitening = whitening_of(sample, np.repeat(np.arange(20), 3))
    joint = rng.normal(size=(4, 4, 4)).astype(np.float32)
    model.distance = Distance("cosine", None, np.ones((4, 4), np.float32), whitening, joint)
    return model


@pytest.fixture
def walks(rng):
    centres = rng.normal(1, 1, (PEOPLE, 1, 4, 4))
    return (centres + 0.2 * rng.normal(size=(PEOPLE, 3, 4, 4))).astype(np.float32)


@pytest.fixture
def full(path, model, walks):
    with Gallery.open(path, model) as gallery:
        for i, walk in enumerate(walks):
            origin = WalkOrigin(camera="ab"[i % 2])
            gallery.enroll(f"p{i}", walk, consent="yes", origin=origin, force=True)
    return path


@pytest.fixture
def large(monkeypatch):
    monkeypatch.setattr(large_index, "LARGE_FROM", 40)
    monkeypatch.setattr(large_index, "WALKS", 8)
    monkeypatch.setattr(large_index, "_CHUNK", 16)


def added(monkeypatch):
    """Count the entries whose short vectors are made."""
    counts, add = [0], LargeSearch.add

    def counted(self, *args):
        before = 0 if self.short is None else len(self.short.walks)
        add(self, *args)
        counts[0] += len(self.short.walks) - before

    monkeypatch.setattr(LargeSearch, "add", counted)
    return counts


def visits(rng, walks):
    return (walks[:, 0] + 0.2 * rng.normal(size=walks[:, 0].shape)).astype(np.float32)


def test_answers_are_those_of_the_exact_search(full, model, walks, rng, monkeypatch):
    seen = visits(rng, walks)
    strangers = rng.normal(1, 1, (10, 4, 4)).astype(np.float32)
    how = {"threshold": 0.2, "camera": "a", "learn": False}
    with Gallery.open(full, model) as gallery:
        exact = [gallery.identify(x, **how) for x in [*seen, *strangers]]
        distances = gallery.distances(seen[0], camera="a")
    monkeypatch.setattr(large_index, "LARGE_FROM", 40)
    monkeypatch.setattr(large_index, "WALKS", 20)
    monkeypatch.setattr(large_index, "PROBES", 1000)
    with Gallery.open(full, model) as gallery:
        for walk, wanted in zip([*seen, *strangers], exact, strict=True):
            found = gallery.identify(walk, **how)
            assert (found.name, found.nearest, found.people) == (
                wanted.name, wanted.nearest, wanted.people
            )  # fmt: skip
            assert found.distance == pytest.approx(wanted.distance, abs=0.02)
        every = gallery.distances(seen[0], camera="a")
    assert every.keys() == distances.keys()
    np.testing.assert_allclose([*every.values()], [*distances.values()], atol=0.02)


def test_people_with_several_walks_are_compared_with_all_of_them(
    path, model, walks, rng, monkeypatch
):
    """The walks that the first stage chooses are a part of each person's."""
    model.distance = replace(model.distance, fused_walks=2)
    with Gallery.open(path, model) as gallery:
        for i, walk in enumerate(walks):
            for one in walk[:2]:  # two walks of one template each
                gallery.enroll(f"p{i}", one[None], consent="yes", force=True)
        seen = visits(rng, walks)
        exact = [gallery.distances(x) for x in seen]
        together = gallery.identify(seen[2], threshold=0.2, learn=False)
    monkeypatch.setattr(large_index, "LARGE_FROM", 40)
    monkeypatch.setattr(large_index, "WALKS", 20)
    monkeypatch.setattr(large_index, "CANDIDATES", 3)
    with Gallery.open(path, model) as gallery:
        for walk, wanted in zip(seen, exact, strict=True):
            found = gallery.identify(walk, threshold=0.2, learn=False)
            nearest = min(wanted, key=wanted.get)
            assert found.nearest == nearest
            assert found.distance == pytest.approx(wanted[nearest], abs=0.02)
        again = gallery.distances(seen[0])
        np.testing.assert_allclose([*again.values()], [*exact[0].values()], atol=0.02)
    assert together.nearest == "p2"


@pytest.mark.usefixtures("large")
def test_changes_are_followed_without_making_the_rest_again(
    full, model, walks, rng, monkeypatch, walker
):
    counts = added(monkeypatch)
    new = 3 + walker()
    with Gallery.open(full, model) as gallery, Gallery.open(full, model) as other:
        assert gallery.identify(walks[7], threshold=0.1, learn=False).name == "p7"
        assert counts[0] == 3 * PEOPLE
        other.enroll("Ada", new, consent="yes", force=True)
        assert gallery.identify(new, threshold=0.1, learn=False).name == "Ada"
        assert counts[0] == 3 * PEOPLE + 3
        other.rename("p7", "Eve")
        other.merge("p8", "Ada")
        assert gallery.identify(walks[7], threshold=0.1, learn=False).name == "Eve"
        assert gallery.identify(new, threshold=0.1, learn=False).name == "p8"
        assert counts[0] == 3 * PEOPLE + 3
        other.remove("Eve")
        assert gallery.identify(walks[7], threshold=0.05, learn=False).name is None
        assert counts[0] == 3 * PEOPLE + 3


@pytest.mark.usefixtures("large")
def test_a_walk_that_is_enrolled_already_is_found(full, model, walks):
    with Gallery.open(full, model) as gallery:
        with pytest.raises(GalleryError, match="already p9"):
            gallery.enroll("Ada", walks[9][1:2], consent="yes")
        assert gallery.enroll("Ada", 5 - walks[9], consent="yes") == 3


@pytest.mark.usefixtures("large")
def test_the_cache_is_used_verified_and_erased(full, model, walks, monkeypatch, caplog):
    counts, cache = added(monkeypatch), cache_path(full)

    def answers(name="p5"):
        counts[0] = 0
        with Gallery.open(full, model) as gallery:
            assert gallery.identify(walks[5], threshold=0.1, learn=False).name == name

    answers()
    assert counts[0] == 3 * PEOPLE
    assert cache.stat().st_mode & 0o777 == 0o600
    answers()
    assert counts[0] == 0  # as it was kept
    content = bytearray(cache.read_bytes())
    content[len(content) // 2] ^= 1
    cache.write_bytes(content)
    answers()
    assert "is made anew" in caplog.text
    assert counts[0] == 3 * PEOPLE
    with Gallery.open(full, model) as gallery:
        gallery.rename("p5", "Ada")
        gallery.remove("p6")
        assert not cache.exists()
    answers("Ada")
    assert counts[0] == 3 * (PEOPLE - 1)
    other = whitening_of(np.random.default_rng(1).normal(size=(60, 4, 4)), np.arange(60) // 3)
    for changed in ("whitening", "joint"):  # both are [4, 4, 4] here
        model.distance = replace(model.distance, **{changed: other})
        answers("Ada")
        assert counts[0] == 3 * (PEOPLE - 1)


@pytest.mark.usefixtures("large")
def test_the_cache_of_an_encrypted_gallery_is_encrypted(full, model, walks, tmp_path):
    key = GalleryKey(passphrase="correct horse")
    with Gallery.open(full, model) as gallery:
        gallery.rekey(key)
    with Gallery.open(full, model, key=key) as gallery:
        assert gallery.identify(walks[5], threshold=0.1, learn=False).name == "p5"
    assert b"integers" not in cache_path(full).read_bytes()  # a name in the archive


@pytest.mark.usefixtures("large")
def test_without_faiss_the_search_is_exact_and_says_so(full, model, walks, monkeypatch, caplog):
    def missing():
        raise MissingPackage("a gallery of so many templates needs faiss-cpu, which is missing")

    monkeypatch.setattr(gallery_module, "import_faiss", missing)
    with Gallery.open(full, model) as gallery:
        assert gallery.identify(walks[5], threshold=0.1, learn=False).name == "p5"
    assert "needs faiss-cpu" in caplog.text


def test_every_code_carries_a_like_share_of_the_energy(rng):
    from cstl_edge.gallery.short_vectors import ShortVectors

    pytest.importorskip("faiss")
    falling = rng.standard_normal((600, 64)) / np.sqrt(np.arange(1, 65))
    sample = (falling / np.linalg.norm(falling, axis=1, keepdims=True)).astype(np.float32)
    energy = ((sample @ ShortVectors.learned(sample).components) ** 2).mean(axis=0)
    codes = energy.reshape(-1, 4).sum(axis=1)
    assert codes.max() < 6 * codes.min()  # 45 times before they were turned
    assert energy.sum() == pytest.approx(1, abs=1e-4)  # nothing is lost
