"""Encrypted galleries: nothing readable in any file, rows bound to their place, new keys."""

import os
import shutil
import signal
import sqlite3

import numpy as np
import pytest

from cstl_edge.errors import ConfigError, GalleryError, MissingPackage
from cstl_edge.gallery import keys
from cstl_edge.gallery.backups import restore
from cstl_edge.gallery.camera_means import CameraMean
from cstl_edge.gallery.cipher import CipherSeal
from cstl_edge.gallery.gallery import Gallery
from cstl_edge.gallery.keys import GalleryKey
from cstl_edge.gallery.sealing import BrokenSeal

KEY = GalleryKey(passphrase="correct horse battery")
OTHER = GalleryKey(passphrase="staple of another horse")
NEEDLES = [b"alice", b"note-of-alice", b"front door"]


@pytest.fixture(autouse=True)
def cheap_scrypt(monkeypatch):
    monkeypatch.setattr(keys, "SCRYPT", {"n": 2**4, "r": 8, "p": 1})
    for name in (keys.PASSPHRASE, keys.KEY_FILE):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def walk(walker):
    return walker()


def fill(gallery, walk):
    gallery.enroll("alice", walk, consent="note-of-alice")
    gallery.enroll("bob", walk + 5, consent="note-of-bob")
    mean = CameraMean.empty("front door", "a" * 64, 4, 4).with_walk(walk[0])
    gallery.camera_means.save(mean)


@pytest.fixture
def encrypted(path, model, walk):
    with Gallery.open(path, model, key=KEY, encrypt=True) as gallery:
        fill(gallery, walk)
    return path


def readable(folder, walk):
    """Return what of alice can be read in the files of a folder."""
    held = b"".join(file.read_bytes() for file in sorted(folder.iterdir()) if file.is_file())
    needles = [*NEEDLES, walk[0].astype("<f2").tobytes()[:16]]
    return [needle for needle in needles if needle in held]


def check(path, model, key, walk):
    with Gallery.open(path, model, key=key) as gallery:
        assert [person.name for person in gallery.people()] == ["alice", "bob"]
        assert gallery.identify(walk, threshold=0.5).name == "alice"
        assert gallery.camera_means.load("front door", "a" * 64).walks == 1
        assert gallery.verify() == []


def test_nothing_can_be_read_without_the_key(path, model, walk):
    with Gallery.open(path, model, key=KEY, encrypt=True) as gallery:
        fill(gallery, walk)
        assert readable(path.parent, walk) == []  # the log, too
        gallery.backup(path.with_name("copy.db"))
    assert readable(path.parent, walk) == []
    check(path, model, KEY, walk)
    check(path.with_name("copy.db"), model, KEY, walk)


def test_a_plain_gallery_can_be_read(path, model, walk):
    with Gallery.open(path, model) as gallery:
        fill(gallery, walk)
    assert len(readable(path.parent, walk)) == 4  # what the test above looks for


def test_without_its_key_it_is_refused_and_says_which(encrypted, model, monkeypatch):
    with pytest.raises(
        GalleryError, match=r"is encrypted \(key [0-9a-f]{8}\): give its passphrase"
    ):
        Gallery.open(encrypted, model)
    with pytest.raises(GalleryError, match="this is not its passphrase"):
        Gallery.open(encrypted, model, key=OTHER)
    monkeypatch.setenv(keys.PASSPHRASE, KEY.passphrase)
    Gallery.open(encrypted, model).close()


def test_a_key_file_opens_it(path, model, walk, tmp_path):
    key = GalleryKey(file=tmp_path / "secret" / "gallery.key")
    key.file.parent.mkdir()
    with Gallery.open(path, model, key=key, encrypt=True) as gallery:
        fill(gallery, walk)
    assert key.file.stat().st_mode & 0o777 == 0o600
    check(path, model, key, walk)
    key.file.write_bytes(b"another key file of 32 bytes....")
    with pytest.raises(GalleryError, match="not its passphrase or key file"):
        Gallery.open(path, key=key)


@pytest.mark.parametrize("content", [None, b"", b"short", bytes(2**16 + 1)])
def test_key_files_that_cannot_be_used_are_refused(tmp_path, content):
    path = tmp_path / "gallery.key"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigError, match="key file"):
        keys.read_key_file(path)


def test_short_passphrases_and_missing_ones_are_refused(path, model):
    with pytest.raises(ConfigError, match="shorter than 8"):
        Gallery.open(path, model, key=GalleryKey(passphrase="1234567"), encrypt=True)
    with pytest.raises(ConfigError, match="needs a passphrase"):
        Gallery.open(path, model, encrypt=True)
    assert not path.exists()


def test_a_plain_gallery_is_not_taken_for_an_encrypted_one(path, model, alice):
    with pytest.raises(GalleryError, match="is not encrypted: encrypt it first"):
        Gallery.open(path, model, key=KEY, encrypt=True)


def test_without_cryptography_it_says_what_to_install(encrypted, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "cryptography", None)
    name = "cryptography.hazmat.primitives.ciphers.aead"
    monkeypatch.setitem(__import__("sys").modules, name, None)
    with pytest.raises(MissingPackage, match="needs cryptography"):
        Gallery.open(encrypted, key=KEY)


@pytest.mark.parametrize("table", ["people", "enrolments", "templates", "camera_means", "head"])
def test_rows_that_are_swapped_or_changed_do_not_open(encrypted, model, walk, table):
    with sqlite3.connect(encrypted) as db:
        rows = db.execute(f"SELECT id, body FROM {table} ORDER BY id").fetchall()
        if len(rows) > 1:
            swapped = [(rows[1][1], rows[0][0]), (rows[0][1], rows[1][0])]
        else:
            swapped = [(rows[0][1][:-1] + bytes([rows[0][1][-1] ^ 1]), rows[0][0])]
        db.executemany(f"UPDATE {table} SET body = ? WHERE id = ?", swapped)
    db.close()

    def read_all():
        with Gallery.open(encrypted, model, key=KEY) as gallery:
            gallery.identify(walk, threshold=0.5)
            gallery.camera_means.all()

    with pytest.raises(GalleryError, match="damaged"):
        read_all()


def test_a_sealed_row_opens_in_its_place_alone():
    seal = CipherSeal(bytes(32))
    row = seal.close(b"content", b"templates|1|2|3")
    assert seal.open(row, b"templates|1|2|3") == b"content"
    for wrong in (row[:-1], row[1:], b"", bytes([row[0] ^ 1]) + row[1:]):
        with pytest.raises(BrokenSeal):
            seal.open(wrong, b"templates|1|2|3")
    with pytest.raises(BrokenSeal):
        seal.open(row, b"templates|1|2|4")
    assert row != seal.close(b"content", b"templates|1|2|3")  # another nonce


def test_a_new_key_opens_it_and_the_old_one_does_not(encrypted, model, walk):
    with Gallery.open(encrypted, model, key=KEY) as gallery:
        gallery.rekey(OTHER)
        assert gallery.identify(walk, threshold=0.5).name == "alice"
    check(encrypted, model, OTHER, walk)
    with pytest.raises(GalleryError, match="this is not its passphrase"):
        Gallery.open(encrypted, key=KEY)


def test_encryption_can_begin_and_end(path, model, walk):
    with Gallery.open(path, model) as gallery:
        fill(gallery, walk)
        gallery.rekey(KEY)
        assert readable(path.parent, walk) == []
    check(path, model, KEY, walk)
    with Gallery.open(path, model, key=KEY) as gallery:
        gallery.rekey(None)
    check(path, model, None, walk)


def test_a_process_that_has_it_open_goes_on_after_a_new_key(encrypted, model, walk):
    with Gallery.open(encrypted, model, key=KEY) as early:
        assert early.identify(walk, threshold=0.5).name == "alice"
        with Gallery.open(encrypted, model, key=KEY) as gallery:
            gallery.rekey(KEY)
        assert early.identify(walk, threshold=0.5).name == "alice"
        assert early.show("bob").templates == 3
        with Gallery.open(encrypted, model, key=KEY) as gallery:
            gallery.rekey(OTHER)
        with pytest.raises(GalleryError, match="this is not its passphrase"):
            early.identify(walk, threshold=0.5)


def test_a_damaged_row_keeps_the_old_key(encrypted, model, walk):
    with sqlite3.connect(encrypted) as db:
        db.execute("UPDATE templates SET body = zeroblob(60) WHERE id = 2")
    db.close()
    with (
        Gallery.open(encrypted, model, key=KEY) as gallery,
        pytest.raises(GalleryError, match="is damaged"),
    ):
        gallery.rekey(OTHER)
    with Gallery.open(encrypted, model, key=KEY) as gallery:
        assert len(gallery.people()) == 2


def test_killed_at_every_step_a_rekey_leaves_the_old_key_or_the_new_one(encrypted, model, walk):
    original, outcomes = encrypted.read_bytes(), []
    for statement in range(0, 400, 3):
        for file in encrypted.parent.glob("people.db*"):
            file.unlink()
        encrypted.write_bytes(original)
        child = os.fork()
        if child == 0:
            gallery, count = Gallery.open(encrypted, key=KEY), 0

            def count_down(_, statement=statement):
                nonlocal count
                count += 1
                if count > statement:
                    os.kill(os.getpid(), signal.SIGKILL)

            gallery._store.rows.database.set_trace_callback(count_down)
            gallery.rekey(OTHER)
            os._exit(0)
        killed = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
        try:
            check(encrypted, model, KEY, walk)
            outcomes.append("old")
        except GalleryError:
            check(encrypted, model, OTHER, walk)
            outcomes.append("new")
        if not killed:
            break
    assert outcomes == sorted(outcomes, reverse=True)
    assert set(outcomes) == {"old", "new"}
    assert len(outcomes) > 15


def test_a_backup_of_an_encrypted_gallery_is_restored_with_its_key(encrypted, model, walk):
    copy = encrypted.with_name("copy.db")
    with Gallery.open(encrypted, model, key=KEY) as gallery:
        gallery.backup(copy)
    shutil.move(encrypted, encrypted.with_name("lost.db"))
    with pytest.raises(GalleryError, match="this is not its passphrase"):
        restore(copy, encrypted, OTHER, "2026-11-22T00:00:00Z", force=False)
    assert restore(copy, encrypted, KEY, "2026-11-22T00:00:00Z", force=False).people == 2
    check(encrypted, model, KEY, walk)


def test_costs_beyond_reason_are_refused_before_they_are_paid(encrypted):
    record = keys.wrap(bytes(32), b"secret of eight")
    record.n = 2**40
    with pytest.raises(GalleryError, match="the record of its key is damaged"):
        keys.unwrap(record, KEY, encrypted)
    assert np.frombuffer(keys.new_key(), np.uint8).size == keys.KEY_BYTES


def test_a_passphrase_is_asked_for_once_where_several_files_need_it():
    questions = []
    key = GalleryKey(ask=lambda question: questions.append(question) or "correct horse")
    once = key.asking_once()
    assert once.secret("one?") == once.secret("another?") == b"correct horse"
    assert questions == ["one?"]
    assert GalleryKey(passphrase="correct horse").asking_once().ask is None
