"""A full disk does not keep anybody in the gallery."""

import contextlib
import os
import subprocess

import pytest

from cstl_edge.errors import GalleryError
from cstl_edge.gallery.gallery import Gallery
from cstl_edge.gallery.reserve import RESERVE_BYTES, give_up, take


@pytest.fixture
def disk(tmp_path):
    """A disk of 4 MB of its own; skips where this user may not mount one."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(folder)]
    if os.getuid() or subprocess.run(command, capture_output=True).returncode:
        pytest.skip("needs the right to mount a disk")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def fill(disk):
    with contextlib.suppress(OSError), (disk / "fill").open("wb", buffering=0) as file:
        while file.write(bytes(4096)):
            pass
    assert os.statvfs(disk).f_bavail == 0


def notes_in(disk, note):
    return [file.name for file in disk.glob("people.db*") if note in file.read_bytes()]


def test_somebody_is_removed_from_a_full_disk_without_residue(disk, model, rng):
    path = disk / "people.db"
    with Gallery.open(path, model) as gallery:
        for i in range(12):
            walk = rng.standard_normal((6, 16, 128))
            gallery.enroll(f"p{i}", walk, consent=f"note-of-{i}-person")
    fill(disk)
    with Gallery.open(path, model) as gallery:
        with pytest.raises(GalleryError, match="nothing was changed"):
            gallery.enroll("more", rng.standard_normal((600, 16, 128)), consent="yes")
        assert gallery.remove("p3") == 6
        assert gallery.unfinished == ()
        assert len(gallery.people()) == 11
    assert notes_in(disk, b"note-of-4-person")
    assert not notes_in(disk, b"note-of-3-person")


def test_a_large_file_on_a_full_disk_is_rewritten_when_there_is_room(disk, model, rng):
    path = disk / "people.db"
    with Gallery.open(path, model) as gallery:
        for i in range(10):
            walk = rng.standard_normal((50, 16, 128))
            gallery.enroll(f"p{i}", walk, consent=f"note-of-{i}-person")
    fill(disk)
    with Gallery.open(path, model) as gallery:
        assert gallery.remove("p3") == 50
        assert "no room to write the file anew" in gallery.unfinished[0]
        assert "p3" not in [person.name for person in gallery.people()]
    subprocess.run(["mount", "-o", "remount,size=16m", str(disk)], check=True)
    with Gallery.open(path, model) as gallery:
        assert gallery.unfinished == ()
    assert not notes_in(disk, b"note-of-3-person")


def test_the_reserve_is_no_file_of_somebody_else(path):
    foreign = path.with_name("people.db-reserve")
    foreign.write_bytes(b"diary")
    assert not take(path)
    assert not give_up(path)
    assert foreign.read_bytes() == b"diary"
    foreign.unlink()
    assert take(path)
    assert take(path)
    assert foreign.stat().st_size == RESERVE_BYTES
    assert give_up(path)
    assert not give_up(path)
