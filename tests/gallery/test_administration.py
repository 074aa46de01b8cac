"""Renaming, merging, exporting, sums of cameras, and what an erasure leaves for later."""

import json
import sqlite3
import threading
import zipfile

import numpy as np
import pytest
from PIL import Image

from cstl_edge.errors import ConfigError, GalleryError
from cstl_edge.gallery.advice import missing, seen_from
from cstl_edge.gallery.camera_means import CameraMean, CameraScatter
from cstl_edge.gallery.erasure import _bury
from cstl_edge.gallery.gallery import Gallery
from cstl_edge.gallery.records import WalkOrigin

SHA256 = "a" * 64


@pytest.fixture
def gallery(path, model, alice):
    with Gallery.open(path, model) as opened:
        yield opened


def bytes_of(path):
    return b"".join(file.read_bytes() for file in path.parent.iterdir())


def test_a_new_name_leaves_no_trace_of_the_old_one(gallery, alice, path):
    assert gallery.rename("ALICE", " Eve ") == "Eve"
    assert gallery.identify(alice, threshold=0.5).name == "Eve"
    assert b"alice" not in bytes_of(path)
    with pytest.raises(GalleryError, match="nobody is enrolled as 'alice'"):
        gallery.show("alice")


def test_a_name_can_be_spelt_otherwise_but_not_be_anothers(gallery, walker):
    gallery.enroll("bob", walker(), consent="yes")
    assert gallery.rename("alice", "Alice") == "Alice"
    with pytest.raises(GalleryError, match="'BOB' is enrolled already"):
        gallery.rename("alice", "BOB")
    with pytest.raises(GalleryError, match="looks like 'bob'"):
        gallery.rename("alice", "b\u043eb")
    assert gallery.rename("alice", "b\u043eb", force=True) == "b\u043eb"
    with pytest.raises(ConfigError):
        gallery.rename("bob", "unknown")


def test_two_people_become_one(gallery, walker, alice, path):
    walk = walker()
    gallery.enroll("twin", walk, consent="note-of-twin", retention_days=30)
    assert gallery.merge("alice", "Twin") == 3
    person = gallery.show("alice")
    assert (person.templates, len(person.enrolments)) == (6, 2)
    assert person.expires_utc is not None  # the earlier end of both
    for seen in (walk, alice):
        assert gallery.identify(seen, threshold=0.5).name == "alice"
    assert gallery.verify() == []
    assert b'"twin"' not in bytes_of(path)
    with pytest.raises(GalleryError, match="are one person"):
        gallery.merge("alice", "Alice")
    with pytest.raises(GalleryError, match="nobody is enrolled as 'twin'"):
        gallery.merge("alice", "twin")


def test_all_that_is_kept_about_a_person_is_exported(gallery, rng, tmp_path):
    frames = rng.integers(0, 2, (5, 64, 44), dtype=np.uint8) * 255
    walk = rng.standard_normal((2, 4, 4)).astype(np.float32)
    origin = WalkOrigin(camera="door", view="left", frames_per_second=25.0, seconds=2.5)
    gallery.enroll("Zo\u00eb", walk, consent="paper", origin=origin, silhouettes=frames)
    out = tmp_path / "zoe.zip"
    assert gallery.export("zo\u00eb", out) == 3 + 5
    assert out.stat().st_mode & 0o777 == 0o600
    with zipfile.ZipFile(out) as pack:
        person = json.loads(pack.read("person.json"))
        assert (person["name"], person["walks"][0]["consent"]) == ("Zo\u00eb", "paper")
        assert person["walks"][0]["camera"] == "door"
        np.testing.assert_array_equal(
            json.loads(pack.read("templates/1.json")), walk.astype(np.float16)
        )
        with pack.open("pictures/1/0003.png") as picture:
            np.testing.assert_array_equal(np.asarray(Image.open(picture)), frames[3])
        assert b"alice" not in b"".join(pack.read(name) for name in pack.namelist())
    assert gallery.merge("alice", "Zo\u00eb") == 2
    assert gallery.verify() == []
    gallery.remove("alice")
    assert gallery._store.count() == 0
    assert gallery._store.rows.one("SELECT count(*) FROM silhouettes") == (0,)


def test_what_is_missing_of_a_person_is_said(gallery, walker):
    gallery.enroll("bob", walker(), consent="yes", origin=WalkOrigin(view="left"))
    assert missing(gallery.show("bob"))[0].startswith(
        "seen from one side only: enroll a walk to the"
    )
    for view in ("right", "left", "right"):
        origin = WalkOrigin(view=view, frames_per_second=24.9)
        gallery.enroll("bob", walker(), consent="yes", origin=origin)
    assert missing(gallery.show("bob")) == []
    assert seen_from(gallery.show("bob")) == "walking left, right, at 25 frames per second"
    assert "directions not known" in seen_from(gallery.show("alice"))


def test_sums_of_a_camera_are_kept_by_camera_and_model(gallery, path, rng):
    means, walk = gallery.camera_means, rng.standard_normal((4, 4))
    assert means.load("door", SHA256) is None
    mean = CameraMean.empty("door", SHA256, 4, 4).with_walk(walk).with_walk(walk * 3)
    means.save(mean)
    means.save(CameraMean.empty("door", "b" * 64, 2, 3))
    scatter = CameraScatter(
        camera="door", weights_sha256=SHA256, degrees=7, total=rng.standard_normal((4, 4, 4))
    )
    means.save_scatter(scatter)
    with Gallery.open(path) as other:
        stored = other.camera_means.load("door", SHA256)
        np.testing.assert_allclose(stored.mean, walk * 2)
        assert (stored.people, stored.walks, stored.weight) == (2, 2, 2)
        kept = other.camera_means.load_scatter("door", SHA256)
        assert kept.degrees == 7
        np.testing.assert_array_equal(kept.total, scatter.total)
        assert [m.weights_sha256[0] for m in other.camera_means.all()] == ["a", "b"]
        assert other.camera_means.load_scatter("door", "b" * 64) is None
        assert other.camera_means.forget("door") == 2
    assert means.all() == ()
    assert means.load("door", SHA256) is None


def test_saving_a_sum_does_not_read_the_templates_again(gallery, path, alice):
    gallery.identify(alice, threshold=0.5)
    before = gallery._cache
    with Gallery.open(path) as other:
        other.camera_means.save(CameraMean.empty("door", SHA256, 4, 4))
    gallery.identify(alice, threshold=0.5)
    assert gallery._cache is before


def test_a_lost_sum_and_a_damaged_one_are_noticed(gallery, path):
    for camera in ("door", "gate"):
        gallery.camera_means.save(CameraMean.empty(camera, SHA256, 4, 4))
    with sqlite3.connect(path) as db:
        db.execute("UPDATE camera_means SET body = zeroblob(200) WHERE id = 1")
    with pytest.raises(GalleryError, match="a sum of a camera"):
        gallery.camera_means.load("door", SHA256)
    with sqlite3.connect(path) as db:
        db.execute("DELETE FROM camera_means WHERE id = 1")
    db.close()
    with pytest.raises(GalleryError, match=r"the list of cameras \(1 of 2\)"):
        gallery.camera_means.all()


def test_sums_of_threads_add_up(gallery):
    one = np.ones((4, 4), np.float32)

    def count():
        for _ in range(10):
            gallery.camera_means.update(
                "door",
                SHA256,
                lambda mean: (mean or CameraMean.empty("door", SHA256, 4, 4)).with_walk(one),
            )

    threads = [threading.Thread(target=count) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert gallery.camera_means.load("door", SHA256).walks == 40


@pytest.mark.parametrize("camera", ["", "x" * 201])
def test_a_camera_has_a_name(gallery, camera):
    with pytest.raises(ConfigError, match="expected a name of 1 to 200"):
        gallery.camera_means.load(camera, SHA256)


def test_an_erasure_that_a_reader_delays_is_finished_later(gallery, path):
    gallery._store.rows.database.execute("PRAGMA busy_timeout = 50")
    reader = sqlite3.connect(path, isolation_level=None)
    reader.execute("BEGIN")
    reader.execute("SELECT count(*) FROM people").fetchone()
    assert gallery.remove("alice") == 3
    assert "another process reads the file" in gallery.unfinished[0]
    assert gallery.people() == ()
    reader.close()
    gallery.purge()
    assert gallery.unfinished == ()
    assert b"alice" not in bytes_of(path)


def test_an_erasure_that_was_killed_is_finished_at_the_next_opening(path, model, alice, walker):
    with Gallery.open(path, model) as gallery:
        gallery.rename("alice", "ann")
        gallery.enroll("bob", walker(), consent="note-of-bob")
        rows = gallery._store.rows
        ((bob,),) = rows.all("SELECT person_id FROM enrolments ORDER BY id DESC LIMIT 1")
        _bury(rows, [bob], "2026-11-22T00:00:00Z", delete=False)  # and nothing more
        assert [person.name for person in gallery.people()] == ["ann"]
    assert b"note-of-bob" in bytes_of(path)
    with Gallery.open(path, model) as gallery:
        assert gallery.unfinished == ()
        assert [person.name for person in gallery.people()] == ["ann"]
        assert gallery.templates == 3
    assert b"note-of-bob" not in bytes_of(path)
