"""Gallery file: permissions, erasure, damage, full disks."""

import os
import random
import sqlite3

import numpy as np
import pytest
from small_disk import small_disk

from cstl_edge.errors import GalleryError
from cstl_edge.gallery import database, schema
from cstl_edge.gallery.gallery import Gallery


def refusal(path, **options):
    """Return the one line with which the file is refused."""
    with pytest.raises(GalleryError) as caught:
        Gallery.open(path, **options)
    assert caught.value.exit_code == 6
    assert str(caught.value).isprintable()
    return str(caught.value)


def bytes_of(folder):
    return b"".join(file.read_bytes() for file in sorted(folder.iterdir()))


def test_only_the_owner_may_read_the_file(tmp_path, model, walker):
    old = os.umask(0)
    try:
        with Gallery.open(tmp_path / "new" / "people.db", model) as gallery:
            gallery.enroll("alice", walker(), consent="yes")
            modes = {file.name: file.stat().st_mode & 0o777 for file in tmp_path.glob("new/*")}
    finally:
        os.umask(old)
    suffixes = ("", "-wal", "-shm", "-reserve")
    assert modes == {f"people.db{suffix}": 0o600 for suffix in suffixes}
    assert (tmp_path / "new").stat().st_mode & 0o777 == 0o700


def test_a_file_that_others_may_read_is_logged(path, caplog):
    Gallery.open(path).close()
    path.chmod(0o644)
    Gallery.open(path).close()
    assert "chmod 600" in caplog.text


def test_the_database_has_its_mark_and_safe_settings(path):
    with Gallery.open(path) as gallery:
        execute = gallery._store.rows.database.execute
        expected = {"application_id": schema.APPLICATION_ID, "user_version": 2}
        expected |= {"journal_mode": "wal", "synchronous": 2, "secure_delete": 1}
        expected |= {"foreign_keys": 1, "busy_timeout": 30_000}
        assert {name: execute(f"PRAGMA {name}").fetchone()[0] for name in expected} == expected


def test_no_byte_of_an_erased_person_remains(path, model, rng):
    name, note = "Zacharias Quillfeather", "consented by carrier pigeon"
    marked = rng.uniform(-1, 1, (12, 32, 256)).astype(np.float16)
    needles = [name.encode(), note.encode()]
    raw = marked.tobytes()
    needles += [raw[i : i + 16] for i in range(0, len(raw), 1024)]
    with Gallery.open(path, model) as gallery, Gallery.open(path) as reader:
        for i in range(5):
            gallery.enroll(f"p{i}", rng.standard_normal((3, 32, 256)), consent="yes")
        gallery.enroll(name, marked.astype(np.float32), consent=note)
        gallery.enroll(name, marked[:3].astype(np.float32), consent=note, force=True)
        gallery.enroll("last", rng.standard_normal((3, 32, 256)), consent="yes")
        assert reader.identify(marked[0].astype(np.float32), threshold=1.0).name == name
        held = bytes_of(path.parent)
        assert all(needle in held for needle in needles)
        assert gallery.remove(name) == 15
        held = bytes_of(path.parent)  # .db, -wal and -shm, all still open
        assert not [needle for needle in needles if needle in held]
    assert not [needle for needle in needles if needle in bytes_of(path.parent)]


def test_a_reader_that_delays_erasure_is_logged(path, model, alice, caplog):
    with Gallery.open(path, model) as gallery:
        gallery._store.rows.database.execute("PRAGMA busy_timeout = 50")
        reader = sqlite3.connect(path, isolation_level=None)
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM people").fetchone()
        assert gallery.remove("alice") == 3
        assert "the log still holds it" in caplog.text
        reader.close()


@pytest.mark.parametrize(
    "content", [b"hello", b"SQLite format 3\x00", bytes(range(256)) * 64, b"\x89PNG" * 2000]
)
def test_other_files_are_refused_and_left_alone(path, content):
    path.write_bytes(content)
    assert "give another path" in refusal(path)
    assert path.read_bytes() == content
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_the_database_of_another_program_is_refused_and_left_alone(path):
    with sqlite3.connect(path) as foreign:
        foreign.execute("CREATE TABLE people (id INTEGER)")
    foreign.close()
    before = path.read_bytes()
    assert "another program" in refusal(path)
    assert path.read_bytes() == before


def test_a_newer_schema_is_refused(path):
    with Gallery.open(path) as gallery:
        gallery._store.rows.database.execute("PRAGMA user_version = 3")
    assert "has schema 3, this version reads 1 to 2: update cstl_edge" in refusal(path)


def test_impossible_paths_are_refused(path, tmp_path):
    assert "is not a file" in refusal(tmp_path)
    assert "does not exist: enroll somebody" in refusal(path, create=False)
    assert not path.exists()
    (tmp_path / "file").write_bytes(b"")
    refusal(tmp_path / "file" / "people.db")
    refusal(tmp_path / ("x" * 300))
    refusal("a\0b")


def test_an_empty_file_becomes_a_gallery(path, model, walker):
    path.touch()
    with Gallery.open(path, model) as gallery:
        gallery.enroll("alice", walker(), consent="yes")


def test_paths_with_special_characters_work(tmp_path, model, walker):
    path = tmp_path / "a b?mode=memory#é%20" / "people & co.db"
    with Gallery.open(path, model) as gallery:
        gallery.enroll("alice", walker(), consent="yes")
    assert path.stat().st_size > 0


def test_a_damaged_file_works_or_is_a_one_line_error(path, model, rng):
    """Any ruined bytes leave a gallery that works or raises GalleryError."""
    with Gallery.open(path, model) as gallery:
        for i in range(6):
            gallery.enroll(f"p{i}", rng.standard_normal((2, 32, 256)), consent="yes")
    intact, dice, refusals = path.read_bytes(), random.Random(1), []
    for _ in range(60):
        ruined = bytearray(intact)
        for _ in range(dice.choice((1, 20, 400))):
            ruined[dice.randrange(len(ruined))] = dice.randrange(256)
        path.write_bytes(ruined[: dice.choice((len(ruined), dice.randrange(len(ruined))))])
        for leftover in path.parent.glob("people.db-*"):
            leftover.unlink()
        try:
            with Gallery.open(path, model) as gallery:
                gallery.people()
                gallery.identify(np.ones((32, 256)), threshold=0.1)
                gallery.enroll("new", np.ones((32, 256)), consent="yes")
        except GalleryError as err:
            refusals.append(str(err))
    assert len(refusals) > 30
    assert all(line.isprintable() for line in refusals)


def test_one_flipped_bit_of_a_template_is_an_error(path, model, alice):
    content = bytearray(path.read_bytes())
    content[content.index(alice[1].astype("<f2").tobytes()) + 5] ^= 1
    path.write_bytes(content)
    with Gallery.open(path, model) as gallery:
        with pytest.raises(GalleryError, match="a template of 'alice' is damaged"):
            gallery.identify(alice)
        gallery.remove("alice")  # the remedy works
        assert gallery.identify(alice).reason == "gallery is empty"


def test_a_read_only_file_can_be_read(path, model, alice, monkeypatch):
    monkeypatch.setattr(database.os, "access", lambda *_: False)
    with Gallery.open(path, model) as gallery:
        assert gallery.identify(alice, threshold=0.5).name == "alice"
        with pytest.raises(GalleryError, match="it may only be read"):
            gallery.enroll("bob", alice, consent="yes", force=True)
        with pytest.raises(GalleryError, match="it may only be read"):
            gallery.remove("alice")


def test_a_full_disk_stores_all_or_nothing(path, model):
    """The limit of file size stands in for the disk: SQLite sees the same failing writes."""
    stored = []

    def fill():
        with Gallery.open(path, model) as gallery:
            for i in range(1000):
                gallery.enroll(f"p{i}", np.ones((4, 32, 256)), consent="yes", force=True)
                stored.append(f"p{i}")

    with small_disk(400_000), pytest.raises(GalleryError, match="nothing was changed"):
        fill()
    assert len(stored) >= 1
    with Gallery.open(path, model) as gallery:
        people = [(person.name, person.templates) for person in gallery.people()]
        assert people == [(name, 4) for name in sorted(stored)]
        assert gallery.enroll("after", np.ones((4, 32, 256)), consent="yes", force=True) == 4


def test_a_full_database_stores_all_or_nothing(path, model):
    with Gallery.open(path, model) as gallery:
        execute = gallery._store.rows.database.execute
        pages = execute("PRAGMA page_count").fetchone()[0]
        execute(f"PRAGMA max_page_count = {pages + 10}")
        with pytest.raises(GalleryError, match="no space is left and nothing was changed"):
            gallery.enroll("alice", np.ones((4, 32, 256)), consent="yes")
        assert gallery.people() == ()
        assert gallery.enroll("alice", np.ones((1, 32, 256)), consent="yes") == 1


def test_a_writer_that_never_ends_is_an_error_for_others(path, model, walker):
    with Gallery.open(path, model) as gallery:
        gallery._store.rows.database.execute("PRAGMA busy_timeout = 50")
        other = sqlite3.connect(path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(GalleryError, match="another process has been writing"):
            gallery.enroll("alice", walker(), consent="yes")
        assert gallery.people() == ()  # reading goes on
        other.close()
        assert gallery.enroll("alice", walker(), consent="yes") == 3


def test_a_large_file_is_checked_in_the_background(path, model, alice, monkeypatch):
    with sqlite3.connect(path) as db:
        (root,) = db.execute(
            "SELECT rootpage FROM sqlite_master WHERE name = 'people_by_look'"
        ).fetchone()
    db.close()
    content = bytearray(path.read_bytes())
    content[4096 * root - 3] ^= 1  # within the digest of the index
    path.write_bytes(content)
    with pytest.raises(GalleryError, match="malformed"):
        Gallery.open(path, model)
    monkeypatch.setattr(database, "LARGE_BYTES", 0)

    def identify_after_the_check():
        with Gallery.open(path, model) as gallery:  # which refuses already, if the check is fast
            gallery._store.rows.check.wait(10)
            gallery.identify(alice, threshold=0.5)

    with pytest.raises(GalleryError, match="malformed"):
        identify_after_the_check()
