"""Backups: consistent while others write, erased in step, restored without whoever was erased."""

import os
import signal
import threading

import numpy as np
import pytest

from cstl_edge.errors import GalleryError, StorageError
from cstl_edge.gallery.backups import restore
from cstl_edge.gallery.gallery import Gallery
from cstl_edge.gallery.keys import GalleryKey

NOW = "2026-11-30T12:00:00Z"


@pytest.fixture
def copy(tmp_path):
    return tmp_path / "elsewhere" / "copy.db"


@pytest.fixture
def gallery(path, model, walker):
    with Gallery.open(path, model) as opened:
        for name in ("alice", "bob", "carol"):
            opened.enroll(name, walker(), consent=f"note-of-{name}")
        yield opened


def put_back(copy, path, force=False):
    return restore(copy, path, GalleryKey(), NOW, force=force)


def names(path):
    with Gallery.open(path) as opened:
        assert opened.verify() == []
        return [person.name for person in opened.people()]


def test_a_backup_is_a_gallery(gallery, copy):
    gallery.backup(copy)
    assert copy.stat().st_mode & 0o777 == 0o600
    assert names(copy) == ["alice", "bob", "carol"]
    assert gallery.backups() == (str(copy),)
    assert {file.name for file in copy.parent.iterdir()} == {"copy.db", "copy.db-reserve"}


def test_a_backup_while_another_thread_writes_is_one_state(gallery, copy, path, model, walker):
    stop = threading.Event()

    def write():
        with Gallery.open(path, model) as other:
            for i in range(200):
                if stop.is_set():
                    return
                other.enroll(f"p{i}", walker(), consent="yes", force=True)

    thread = threading.Thread(target=write)
    thread.start()
    try:
        for i in range(5):
            gallery.backup(copy.with_name(f"copy{i}.db"))
    finally:
        stop.set()
        thread.join()
    counts = [len(names(copy.with_name(f"copy{i}.db"))) for i in range(5)]
    assert counts == sorted(counts)


def test_whoever_is_removed_is_removed_from_backups(gallery, copy):
    gallery.backup(copy)
    gallery.remove("bob")
    assert gallery.unfinished == ()
    held = b"".join(file.read_bytes() for file in copy.parent.iterdir())
    assert b"note-of-bob" not in held
    assert b"note-of-carol" in held
    assert names(copy) == ["alice", "carol"]


def test_a_backup_that_is_away_is_erased_when_it_is_back(gallery, copy, path, caplog):
    gallery.backup(copy)
    away = copy.with_name("drawer.db")
    copy.rename(away)
    gallery.remove("bob")
    assert f"the backup '{copy}' is not there" in gallery.unfinished[0]
    away.rename(copy)
    with Gallery.open(path) as opened:
        assert opened.unfinished == ()
    assert names(copy) == ["alice", "carol"]


def test_a_backup_that_is_gone_can_be_forgotten(gallery, copy):
    gallery.backup(copy)
    copy.unlink()
    gallery.forget_backup(copy)
    gallery.remove("bob")
    assert gallery.unfinished == ()
    with pytest.raises(GalleryError, match="is no known backup"):
        gallery.forget_backup(copy)


def test_a_restore_does_not_bring_erased_people_back(gallery, copy, path):
    gallery.backup(copy)
    away = copy.with_name("drawer.db")
    copy.rename(away)
    gallery.remove("bob")
    done = put_back(away, path)
    assert (done.people, done.left_out) == (2, 1)
    assert names(path) == ["alice", "carol"]
    assert b"note-of-bob" not in b"".join(f.read_bytes() for f in path.parent.glob("people.db*"))
    assert [person.name for person in gallery.people()] == ["alice", "carol"]  # was open meanwhile


def test_a_lost_gallery_is_restored(gallery, copy, path):
    gallery.backup(copy)
    gallery.close()
    path.unlink()
    assert put_back(copy, path).people == 3
    assert names(path) == ["alice", "bob", "carol"]


def test_a_damaged_gallery_is_put_aside(gallery, copy, path):
    gallery.remove("carol")
    gallery.backup(copy)
    gallery.close()
    ruined = bytearray(path.read_bytes())
    ruined[4096 * 3 : 4096 * 4] = os.urandom(4096)
    path.write_bytes(ruined)
    done = put_back(copy, path)
    assert done.moved.read_bytes() == bytes(ruined)
    assert names(path) == ["alice", "bob"]


def test_a_restore_that_would_lose_people_says_so(gallery, copy, path, walker):
    gallery.backup(copy)
    gallery.enroll("dora", walker(), consent="yes")
    with pytest.raises(GalleryError, match=r"1 people.*\(dora\).*--force"):
        put_back(copy, path)
    assert len(gallery.people()) == 4
    put_back(copy, path, force=True)
    assert names(path) == ["alice", "bob", "carol"]


def test_another_gallery_is_not_replaced(gallery, copy, tmp_path, model, walker):
    gallery.backup(copy)
    other = tmp_path / "other.db"
    with Gallery.open(other, model) as opened:
        opened.enroll("eve", walker(), consent="yes")
    with pytest.raises(GalleryError, match="is not the one that the backup was made of"):
        put_back(copy, other)
    assert names(other) == ["eve"]


def test_a_damaged_backup_changes_nothing(gallery, copy, path):
    gallery.backup(copy)
    content = bytearray(copy.read_bytes())
    content[content.index(b"note-of-bob") + 2] ^= 1
    copy.write_bytes(content)
    with pytest.raises(GalleryError, match="damaged"):
        put_back(copy, path)
    with pytest.raises(GalleryError, match="does not exist"):
        put_back(copy.with_name("none.db"), path)
    assert names(path) == ["alice", "bob", "carol"]
    assert [file.name for file in path.parent.glob(".*")] == []


def test_a_backup_goes_to_a_file_of_its_own(gallery, path, tmp_path):
    with pytest.raises(GalleryError, match="is the gallery itself"):
        gallery.backup(path)
    with pytest.raises(StorageError, match="is a folder"):
        gallery.backup(tmp_path)
    assert gallery.backups() == ()


def test_killed_at_every_step_a_restore_leaves_one_of_both(gallery, copy, path, walker, model):
    gallery.backup(copy)
    gallery.enroll("dora", walker(), consent="yes")
    gallery.close()
    original, outcomes = path.read_bytes(), set()
    for delay in np.linspace(0, 0.15, 15):
        for file in path.parent.glob("people.db*"):
            file.unlink()
        path.write_bytes(original)
        child = os.fork()
        if child == 0:
            signal.setitimer(signal.ITIMER_REAL, max(delay, 1e-4))
            signal.signal(signal.SIGALRM, lambda *_: os.kill(os.getpid(), signal.SIGKILL))
            put_back(copy, path, force=True)
            os._exit(0)
        os.waitpid(child, 0)
        outcomes.add(tuple(names(path)))
    assert outcomes <= {("alice", "bob", "carol", "dora"), ("alice", "bob", "carol")}
