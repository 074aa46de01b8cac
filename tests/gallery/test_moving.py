"""Galleries go to a server and back, whole, and go on where they were interrupted."""

import numpy as np
import pytest
from command_line import call
from standin_postgres import database, postgres_server

from cstl_edge.errors import ConfigError, GalleryError
from cstl_edge.gallery import replication
from cstl_edge.gallery.camera_means import CameraMean
from cstl_edge.gallery.gallery import Gallery
from cstl_edge.gallery.keys import GalleryKey
from cstl_edge.gallery.moving import move, refuse_server


@pytest.fixture
def full(path, model, walker, rng):
    """Make a gallery with people, a tombstone and sums of cameras."""
    walks = {name: walker() for name in ("Ada", "Ben", "Cyd", "Dan", "Eve")}
    with Gallery.open(path, model) as gallery:
        for name, walk in walks.items():
            gallery.enroll(name, walk, consent=f"note of {name}", retention_days=90)
        gallery.remove("Ben")
        mean = CameraMean.empty("door", "a" * 64, 4, 4).with_walk(rng.standard_normal((4, 4)))
        gallery.camera_means.save(mean)
    del walks["Ben"]
    return walks


def content(gallery):
    people = [(x.name, x.consent, x.expires_utc, x.templates) for x in gallery.people()]
    return people, [(m.camera, m.walks) for m in gallery.camera_means.all()], gallery.verify()


def test_a_copy_that_was_interrupted_goes_on(path, model, full, tmp_path, monkeypatch):
    copy, copied = tmp_path / "copy.db", []
    monkeypatch.setattr(replication, "BATCH", 1)

    def interrupt(done, total):
        assert total == 4
        if done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        move(path, copy, GalleryKey(), interrupt)
    refused = pytest.raises(GalleryError, match="a copy into it was interrupted")
    with Gallery.open(copy, model) as half, refused:
        half.identify(full["Ada"])
    with Gallery.open(path, model) as gallery:  # the source changes meanwhile
        gallery.remove("Ada")
        gallery.rename("Cyd", "Cid")
    assert move(path, copy, GalleryKey(), lambda done, _: copied.append(done)) == 3
    assert copied[0] >= 1  # what was copied is not copied again
    with Gallery.open(path, model) as old, Gallery.open(copy, model) as new:
        assert content(new) == content(old)
        assert [person.name for person in new.people()] == ["Cid", "Dan", "Eve"]
    with pytest.raises(GalleryError, match="a gallery of 3 people already"):
        move(path, copy, GalleryKey())
    with pytest.raises(ConfigError, match="two different"):
        move(path, path.parent / "." / path.name, GalleryKey())


def test_to_a_server_and_back(path, model, full, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "box"))
    key = GalleryKey(passphrase="correct horse")
    with Gallery.open(path, model) as gallery:
        gallery.rekey(key)
    with postgres_server() as server:
        monkeypatch.setenv("CSTL_EDGE_GALLERY_PASSPHRASE", key.passphrase)
        address = database(server, "people")
        done = call("gallery", "migrate", path, address, "--json")
        assert done.returncode == 0, done.stderr
        listed = call("gallery", "list", "--gallery", address, "--json")
        assert "note of Ada" in listed.stdout
        with pytest.raises(GalleryError, match="is on a server"):
            refuse_server(address, "restore into a file")
        with Gallery.open(address, model, key=key) as gallery:
            assert gallery.encrypted
            assert gallery.online
            first = content(gallery)
            assert gallery.identify(full["Eve"], threshold=0.1).name == "Eve"
        assert move(address, tmp_path / "back.db", key) == 4
    with Gallery.open(tmp_path / "back.db", model, key=key) as back:
        assert content(back) == first
        assert len(first[0]) == 4
        assert np.isfinite(back.identify(full["Dan"], threshold=0.1).distance)
