"""Verbs of `gallery`, as a user calls them; the model is not needed."""

import json
import zipfile
from types import SimpleNamespace

import numpy as np
import pytest
from command_line import call

from cstl_edge.distance import EUCLIDEAN
from cstl_edge.gallery import keys
from cstl_edge.gallery.gallery import Gallery


@pytest.fixture
def shop(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    monkeypatch.setattr(keys, "SCRYPT", {"n": 2**4, "r": 8, "p": 1})
    info = SimpleNamespace(
        weights_sha256="a" * 64, impostors=None, distance=EUCLIDEAN, confidence=None
    )
    rng = np.random.default_rng(0)
    with Gallery.open(tmp_path / "cstl-edge" / "gallery.db", SimpleNamespace(info=info)) as gallery:
        for name in ("Ada", "Ben", "Cyd"):
            gallery.enroll(name, rng.standard_normal((2, 4, 4)), consent=f"note of {name}")
    return tmp_path


def ask(*words):
    """Run a verb with --json; return what it prints."""
    done = call("gallery", *words, "--json")
    assert done.returncode == 0, done.stderr + done.stdout
    return json.loads(done.stdout)


def test_people_are_renamed_merged_exported_and_removed(shop):
    assert ask("rename", "ada", "Eve") == {"name": "ada", "new_name": "Eve"}
    assert ask("merge", "Eve", "Ben")["templates"] == 4
    assert ask("export", "Eve", "-o", shop / "eve.zip")["files"] == 4
    assert "person.json" in zipfile.ZipFile(shop / "eve.zip").namelist()
    assert ask("remove", "Eve") == {"name": "Eve", "erased": 4, "unfinished": []}
    assert [person["name"] for person in ask("list")] == ["Cyd"]
    assert ask("verify") == {"faults": [], "repaired": []}
    assert ask("purge") == {"erased": [], "waiting": [], "unfinished": []}


def test_an_export_has_a_suffix_and_replaces_nothing(shop):
    (shop / "eve.zip").write_text("precious")
    for words in (("-o", shop / "eve.zip"), ("-o", shop / "eve.json"), ()):
        assert call("gallery", "export", "Ada", *words).returncode == 2
    assert (shop / "eve.zip").read_text() == "precious"


def test_a_backup_is_restored(shop):
    assert ask("backup", shop / "copy.db")["people"] == 3
    assert call("gallery", "backup", shop / "copy.db").returncode == 2
    assert ask("show")["backups"] == [str(shop / "copy.db")]
    ask("remove", "Ben")
    (shop / "cstl-edge" / "gallery.db").unlink()
    assert ask("restore", shop / "copy.db")["people"] == 2
    ask("backup", shop / "copy.db", "--overwrite")
    assert ask("forget-backup", shop / "copy.db") == {"backups": []}
    assert call("gallery", "forget-backup", shop / "copy.db").returncode == 6
    assert call("gallery", "restore", shop / "none.db").returncode == 6


def test_a_gallery_is_encrypted_and_decrypted(shop, monkeypatch):
    assert call("gallery", "rekey").returncode == 2  # it is not encrypted
    key = shop / "gallery.key"
    assert ask("rekey", "--encrypt", "--new-key-file", key)["encrypted"]
    refused = call("gallery", "list")
    assert refused.returncode == 6
    assert keys.KEY_FILE in refused.stderr
    monkeypatch.setenv(keys.KEY_FILE, str(key))
    assert len(ask("list")) == 3
    assert ask("show")["encrypted"] is True
    monkeypatch.setenv("CSTL_EDGE_GALLERY_NEW_PASSPHRASE", "a passphrase of words")
    ask("rekey")
    monkeypatch.delenv("CSTL_EDGE_GALLERY_NEW_PASSPHRASE")
    monkeypatch.delenv(keys.KEY_FILE)
    monkeypatch.setenv(keys.PASSPHRASE, "a passphrase of words")
    assert len(ask("list")) == 3
    assert call("gallery", "rekey", "--encrypt").returncode == 2  # it is
    assert ask("rekey", "--decrypt") == {"encrypted": False, "old_backups": []}
    monkeypatch.delenv(keys.PASSPHRASE)
    assert len(ask("list")) == 3


def test_damage_is_reported_and_repaired(shop):
    path = shop / "cstl-edge" / "gallery.db"
    content = bytearray(path.read_bytes())
    content[content.index(b"note of Ben") + 1] ^= 1
    path.write_bytes(content)
    assert call("gallery", "verify").returncode == 6
    assert call("gallery", "list").returncode == 6
    assert len(ask("verify", "--repair")["repaired"]) == 1
    assert [person["name"] for person in ask("list")] == ["Ada", "Cyd"]
