"""Galleries of version 1: the file of commit 667fd8c opens, whole before or whole after a kill."""

import os
import shutil
import signal
import sqlite3
from pathlib import Path

import numpy as np
import pytest

from cstl_edge.errors import GalleryError
from cstl_edge.gallery import database, migrate
from cstl_edge.gallery.gallery import Gallery

OLD = Path(__file__).parent / "files" / "gallery_of_667fd8c.db"
NAMES = ["Ada Lovelace", "Expired", "Zo\u00eb", "\u5f20\u4e09"]


@pytest.fixture
def old_gallery(path):
    shutil.copy(OLD, path)
    return path


def vectors_of(old):
    """Return the templates of everybody in a file of version 1, [k, 4, 4] by name."""
    with sqlite3.connect(old.absolute().as_uri() + "?mode=ro&immutable=1", uri=True) as db:
        rows = db.execute(
            "SELECT name, vector FROM people JOIN enrolments ON person_id = people.id"
            " JOIN templates ON enrolment_id = enrolments.id ORDER BY templates.id"
        ).fetchall()
    db.close()
    vectors = {}
    for name, vector in rows:
        vectors.setdefault(name, []).append(np.frombuffer(vector, "<f2").reshape(4, 4))
    return {name: np.stack(walk).astype(np.float32) for name, walk in vectors.items()}


def check_whole(path):
    with Gallery.open(path) as gallery:
        people = {person.name: person for person in gallery.people()}
        assert sorted(people) == NAMES
        assert [person.templates for _, person in sorted(people.items())] == [5, 2, 2, 1]
        ada = people["Ada Lovelace"]
        assert [visit.consent for visit in ada.enrolments] == [
            "Ada Lovelace signed on paper",
            "second visit",
        ]
        assert people["Zo\u00eb"].expires_utc == "2027-11-22T12:00:00Z"
        assert ada.created_utc == "2026-11-22T12:00:00Z"
        assert ada.weights_sha256 == "a" * 64
        for name, walk in vectors_of(OLD).items():
            if not people[name].expired:
                assert gallery.identify(walk[-1:], threshold=0.1).name == name


def test_an_old_gallery_opens_and_says_that_it_was_migrated(old_gallery, caplog):
    check_whole(old_gallery)
    assert "brought to schema 2; its templates stay" in caplog.text
    with sqlite3.connect(old_gallery) as db:
        assert db.execute("PRAGMA user_version").fetchone() == (2,)
        assert db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        with pytest.raises(sqlite3.OperationalError, match="no such column"):
            db.execute("SELECT name, people.created_utc FROM people")  # of an open old process
    db.close()


def test_an_old_gallery_that_may_only_be_read_is_read(old_gallery, monkeypatch):
    before = old_gallery.read_bytes()
    monkeypatch.setattr(database.os, "access", lambda *_: False)
    check_whole(old_gallery)
    with Gallery.open(old_gallery) as gallery, pytest.raises(GalleryError, match="only be read"):
        gallery.remove("Ada Lovelace")
    assert old_gallery.read_bytes() == before


def killed_at(path, statement):
    """Open in a child process that is killed before its n-th statement; True when it was."""
    child = os.fork()
    if child == 0:
        count, really_open = 0, database._open

        def count_down(_):
            nonlocal count
            count += 1
            if count > statement:
                os.kill(os.getpid(), signal.SIGKILL)

        def traced(*arguments):
            connection = really_open(*arguments)
            connection.set_trace_callback(count_down)
            return connection

        database._open = traced
        Gallery.open(path)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL


@pytest.mark.slow
def test_killed_at_every_step_it_is_whole_before_or_whole_after(old_gallery):
    versions = []
    for statement in range(1000):
        for file in old_gallery.parent.glob("people.db*"):
            file.unlink()
        shutil.copy(OLD, old_gallery)
        killed = killed_at(old_gallery, statement)
        if not killed:
            break
        with sqlite3.connect(old_gallery) as db:
            versions.append(db.execute("PRAGMA user_version").fetchone()[0])
            assert db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        db.close()
        check_whole(old_gallery)
    assert len(versions) > 30
    assert versions == sorted(versions)
    assert set(versions) == {1, 2}


@pytest.mark.parametrize(
    "flip",
    [
        "UPDATE people SET name = 'Adb Lovelace' WHERE name = 'Ada Lovelace'",
        "UPDATE people SET name_key = 'adb lovelace' WHERE name = 'Ada Lovelace'",
    ],
)
def test_a_name_that_does_not_fit_its_key_is_damage(old_gallery, flip):
    with sqlite3.connect(old_gallery) as db:
        db.execute(flip)
    db.close()
    before = vectors_of(old_gallery)
    with pytest.raises(GalleryError, match="the file is damaged: restore a backup"):
        Gallery.open(old_gallery)
    assert vectors_of(old_gallery).keys() == before.keys()


def test_a_template_damaged_before_stays_damaged(old_gallery):
    with sqlite3.connect(old_gallery) as db:
        db.execute("UPDATE templates SET crc32 = crc32 + 1 WHERE id = 2")
    db.close()
    with Gallery.open(old_gallery) as gallery:
        with pytest.raises(GalleryError, match="a template of 'Ada Lovelace' is damaged"):
            gallery.identify(np.ones((4, 4)), threshold=0.1)
        gallery.remove("Ada Lovelace")
        assert gallery.identify(np.ones((4, 4)), threshold=0.1).reason == "nearest is too far"


def test_there_is_a_step_from_every_earlier_version():
    assert sorted(migrate.STEPS) == [*range(1, migrate.schema.VERSION)]
