"""What is damaged is taken out, and the rest goes on."""

import sqlite3

import numpy as np
import pytest

from cstl_edge.errors import GalleryError
from cstl_edge.gallery.camera_means import CameraMean
from cstl_edge.gallery.gallery import Gallery

SECOND = "SELECT id FROM enrolments ORDER BY id LIMIT 1 OFFSET 1"


@pytest.fixture
def three(path, model, walker):
    with Gallery.open(path, model) as gallery:
        for name in ("alice", "bob", "carol"):
            gallery.enroll(name, walker(), consent=f"note-of-{name}")
        gallery.camera_means.save(CameraMean.empty("door", "a" * 64, 4, 4))
        gallery.camera_means.save(CameraMean.empty("gate", "a" * 64, 4, 4))
    return path


def damage(path, *statements):
    with sqlite3.connect(path) as db:
        for statement in statements:
            db.execute(statement)
    db.close()


@pytest.mark.parametrize(
    ("statement", "names", "cameras"),
    [
        ("UPDATE templates SET body = zeroblob(48) WHERE id = 4", ["alice", "carol"], 2),
        ("DELETE FROM templates WHERE id = 5", ["alice", "carol"], 2),
        (f"UPDATE enrolments SET body = zeroblob(90) WHERE id = ({SECOND})", ["alice", "carol"], 2),
        ("UPDATE head SET body = zeroblob(90)", ["alice", "bob", "carol"], 2),
        ("DELETE FROM head", ["alice", "bob", "carol"], 2),
        ("UPDATE camera_means SET body = x'00' WHERE id = 1", ["alice", "bob", "carol"], 1),
        ("DELETE FROM camera_means WHERE id = 1", ["alice", "bob", "carol"], 1),
    ],
)
def test_what_is_damaged_is_taken_out(three, model, statement, names, cameras):
    damage(three, "PRAGMA foreign_keys = ON", statement)
    with Gallery.open(three) as gallery:
        assert gallery.verify() != []
        gallery.repair()
        assert gallery.verify() == []
        assert [person.name for person in gallery.people()] == names
        assert len(gallery.camera_means.all()) == cameras
    with Gallery.open(three, model) as gallery:
        gallery.enroll("dora", np.ones((2, 4, 4)), consent="yes", force=True)


def test_a_person_whose_record_is_damaged_is_taken_out(three):
    damage(three, "UPDATE people SET body = zeroblob(60) WHERE id = (SELECT min(id) FROM people)")
    with Gallery.open(three) as gallery:
        with pytest.raises(GalleryError, match=r"the record of a person .*verify --repair"):
            gallery.people()
        (done,) = gallery.repair()
        assert done.startswith("deleted a person")
        assert len(gallery.people()) == 2
