"""The index of a large gallery is a cache: whatever befalls it, answers are those of the store."""

import os
import signal
import subprocess
import sys
from datetime import datetime, timezone

import numpy as np
import pytest

from cstl_edge.distance import Distance
from cstl_edge.gallery import large_index
from cstl_edge.gallery.gallery import Gallery
from cstl_edge.gallery.index_cache import cache_path
from cstl_edge.gallery.keys import GalleryKey

pytest.importorskip("faiss", reason="the extra index is not installed")
PEOPLE = 48

CHILD = """
import os, signal, sys
from types import SimpleNamespace
import numpy as np
from cstl_edge import output
from cstl_edge.distance import Distance
from cstl_edge.gallery import large_index
from cstl_edge.gallery.gallery import Gallery
from cstl_edge.gallery.large_gallery import LargeGallery
path, where = sys.argv[1:]
large_index.LARGE_FROM, large_index._CHUNK, large_index.SAVE_FROM = 40, 16, 1
calls = [0]
def killed(*_):
    calls[0] += 1
    if calls[0] > (2 if where == "add" else 0):
        os.kill(os.getpid(), signal.SIGKILL)
    return read(*_) if where == "add" else None
read = LargeGallery._read
if where == "add":
    LargeGallery._read = killed
else:
    setattr(*{"write": (os, "fsync"), "rename": (output, "sync_folder")}[where], killed)
model = SimpleNamespace(info=SimpleNamespace(weights_sha256="a" * 64, impostors=None,
    confidence=None, distance=Distance("cosine", None, np.ones((4, 4), np.float32))))
with Gallery.open(path, model) as gallery:
    gallery.identify(np.ones((4, 4), np.float32), threshold=0.1, learn=False)
"""


@pytest.fixture(autouse=True)
def large(monkeypatch):
    monkeypatch.setattr(large_index, "LARGE_FROM", 40)
    monkeypatch.setattr(large_index, "WALKS", 8)


@pytest.fixture
def model(model):
    model.distance = Distance("cosine", None, np.ones((4, 4), np.float32))
    return model


@pytest.fixture
def walks(rng):
    centres = rng.normal(1, 1, (PEOPLE, 1, 4, 4))
    return (centres + 0.1 * rng.normal(size=(PEOPLE, 2, 4, 4))).astype(np.float32)


def enroll_all(path, model, walks, **options):
    with Gallery.open(path, model, **options) as gallery:
        for i, walk in enumerate(walks):
            gallery.enroll(f"person {i}", walk, consent="yes", force=True)
    return path


def check_answers(path, model, walks, gone=(), **options):
    """Ask for everybody, and return the index."""
    with Gallery.open(path, model, **options) as gallery:
        for i, walk in enumerate(walks):
            wanted = None if i in gone else f"person {i}"
            assert gallery.identify(walk, threshold=0.02, learn=False).name == wanted
        return gallery._large.search.short


@pytest.mark.parametrize("where", ["add", "write", "rename"])
def test_kill_9_while_the_index_is_made(path, model, walks, where):
    enroll_all(path, model, walks)
    cache = cache_path(path)
    child = subprocess.run([sys.executable, "-c", CHILD, path, where], timeout=300, check=False)
    assert child.returncode == -signal.SIGKILL
    assert cache.exists() == (where == "rename")
    check_answers(path, model, walks)
    content = cache.read_bytes()
    subprocess.run([sys.executable, "-c", CHILD, path, "write"], timeout=300, check=False)
    assert cache.read_bytes() == content  # nothing was new
    part = cache.with_name(f".{cache.name}.{'a' * 16}.part")  # of a process that was killed
    part.write_bytes(content)
    with Gallery.open(path, model) as gallery:
        gallery.remove("person 5")
        assert {x.name for x in path.parent.iterdir() if "index" in x.name} == set()
    check_answers(path, model, walks, gone=[5])


def test_a_damaged_cache_or_one_of_another_gallery_is_made_anew(path, model, walks, caplog):
    enroll_all(path, model, walks)
    check_answers(path, model, walks)
    cache = cache_path(path)
    good = cache.read_bytes()
    other = enroll_all(path.with_name("other.db"), model, walks[::-1])
    check_answers(other, model, walks[::-1])
    flips = [0, 7, len(good) // 3, len(good) - 1]
    damaged = [good[:i] + bytes([good[i] ^ 0x10]) + good[i + 1 :] for i in flips]
    for content in (*damaged, b"", good[: len(good) // 2], cache_path(other).read_bytes()):
        cache.write_bytes(content)
        caplog.clear()
        check_answers(path, model, walks)
        assert "is made anew: it does not fit" in caplog.text
    model.distance = Distance("cosine", None, np.zeros((4, 4), np.float32))  # of another model
    caplog.clear()
    check_answers(path, model, walks)
    assert "is made anew" in caplog.text


def test_a_store_that_has_shrunk_since_is_right(path, model, walks):
    enroll_all(path, model, walks)
    check_answers(path, model, walks)
    old = cache_path(path).read_bytes()
    gone = range(0, PEOPLE, 3)
    with Gallery.open(path, model) as gallery:
        for i in gone:
            gallery.remove(f"person {i}")
    cache_path(path).write_bytes(old)  # as a copy of the file from elsewhere would bring it
    short = check_answers(path, model, walks, gone)
    assert len(short.walks) == 2 * (PEOPLE - len(gone))
    assert len(cache_path(path).read_bytes()) < len(old)  # written again without them
    with Gallery.open(path, model) as gallery:
        gallery.enroll("person 0", walks[0], consent="yes")
        assert gallery.identify(walks[0], threshold=0.02, learn=False).name == "person 0"


def test_who_is_enrolled_in_the_second_in_which_another_was_erased_is_found(path, model, walks):
    moment = datetime(2026, 11, 30, tzinfo=timezone.utc)
    enroll_all(path, model, walks)
    with Gallery.open(path, model, clock=lambda: moment) as gallery:
        for walk in (3 + walks[0], 9 - walks[1]):
            gallery.enroll("Ada", walk, consent="yes", force=True)
            assert gallery.identify(walk, threshold=0.02, learn=False).name == "Ada"
            gallery.remove("Ada")


def test_a_cache_holds_nothing_readable_of_an_encrypted_gallery(path, model, walks):
    short = check_answers(enroll_all(path, model, walks), model, walks)
    needles = [short.integers[i].tobytes() for i in (0, PEOPLE)]
    assert all(needle in cache_path(path).read_bytes() for needle in needles)
    key = GalleryKey(passphrase="correct horse")
    with Gallery.open(path, model) as gallery:
        gallery.rekey(key)
    short = check_answers(path, model, walks, key=key)
    content = cache_path(path).read_bytes()
    needles += [row.tobytes() for row in short.integers]
    needles += [row.astype("<f2").tobytes() for row in walks.reshape(-1, 16)]
    needles += [b"person 1", b"integers", short.components[0].tobytes()]
    for file in (path, cache_path(path), path.with_name(path.name + "-wal")):
        content = file.read_bytes() if file.exists() else b""
        assert not any(needle in content for needle in needles), file
    assert os.stat(cache_path(path)).st_mode & 0o777 == 0o600
