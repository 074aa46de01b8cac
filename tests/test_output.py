"""Outputs: nothing is destroyed, files are whole or absent, a refusing disk is a StorageError."""

import contextlib
import json
import os
import subprocess
import sys

import pytest

from cstl_edge.errors import ConfigError, StorageError
from cstl_edge.output import (
    JsonLines,
    Outputs,
    append_line,
    user_folder,
    whole_file,
    write_file,
    write_one_of_many,
)


def ours(record):
    return record.get("event") is not None


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def refused(outputs, *args, **kinds):
    with pytest.raises(ConfigError) as err:
        outputs.claim(*args, **kinds)
    return str(err.value)


def test_an_existing_file_is_refused_unless_it_may_be_replaced(place):
    (place / "v.mp4").write_text("precious")
    assert "exists" in refused(Outputs(), "v.mp4", "--annotate")
    assert Outputs(overwrite=True).claim("v.mp4", "--annotate").name == "v.mp4"
    assert Outputs().claim("new.mp4", "--annotate").name == "new.mp4"


@pytest.mark.parametrize("overwrite", [False, True])
def test_an_input_is_never_replaced(place, overwrite):
    (place / "w.mp4").write_text("walk")
    os.link("w.mp4", "hard.mp4")
    os.symlink("w.mp4", "soft.mp4")
    (place / "images").mkdir()
    (place / "images" / "1.png").write_text("")
    outputs = Outputs(["w.mp4", "images", "rtsp://u:p@h/1", None], overwrite=overwrite)
    for name in ("w.mp4", "./w.mp4", str(place / "w.mp4"), "hard.mp4", "soft.mp4"):
        assert "would replace what is read" in refused(outputs, name, "--annotate")
    assert "would replace" in refused(outputs, "images/1.png", "--annotate")
    outputs.claim("images/new.mp4", "--annotate")


def test_two_outputs_are_two_files(place):
    outputs = Outputs(overwrite=True)
    outputs.claim("a.jsonl", "--events")
    assert "--annotate and --events are one file" in refused(outputs, "./a.jsonl", "--annotate")


def test_a_suffix_must_be_that_of_the_format(place):
    for overwrite in (False, True):
        message = refused(Outputs(overwrite=overwrite), "v.txt", "--annotate", suffixes=(".mp4",))
        assert "ends in .mp4" in message
    Outputs().claim("V.MP4", "--annotate", suffixes=(".mp4",))


def test_only_lines_of_ours_are_appended_to(place):
    (place / "e.jsonl").write_text('{"event": "born"}\n{"event"')
    (place / "empty").touch()
    for name in ("e.jsonl", "empty", "none"):
        Outputs().claim(name, "--events", is_ours=ours)
    for content in (b"SQLite format 3\0", b"{}\n", b"[1]\n", b"text\n", b"\xff\n", b"[" * 99_999):
        (place / "other").write_bytes(content)
        assert "something else" in refused(Outputs(), "other", "--events", is_ours=ours)
    Outputs(overwrite=True).claim("other", "--events", is_ours=ours)
    with JsonLines("other", overwrite_foreign=ours) as lines:
        lines.write({"event": "born"})
    assert (place / "other").read_text() == '{"event": "born"}\n'


def test_devices_and_pipes_pass_and_stay_what_they_are(place):
    Outputs().claim("/dev/null", "-o")
    write_file("/dev/null", "x")
    append_line("/dev/null", {"a": 1})
    assert not os.path.isfile("/dev/null")
    with pytest.raises(StorageError, match="No space left"):
        write_file("/dev/full", "x")
    with pytest.raises(StorageError, match="No space left"):
        append_line("/dev/full", {"a": 1})


def test_folders(place):
    (place / "empty").mkdir()
    (place / "used").mkdir()
    (place / "used" / "x").touch()
    Outputs().claim("empty", "-o", is_folder=True)
    assert "not empty" in refused(Outputs(), "used", "-o", is_folder=True)
    assert "is a folder" in refused(Outputs(), "used", "-o")
    with pytest.raises(StorageError, match="folder"):
        write_file("used", "x")


def test_a_file_appears_whole_or_not_at_all(place):
    write_file("sub/a.txt", "one")
    with contextlib.suppress(ZeroDivisionError), whole_file("sub/a.txt") as file:
        file.write(b"half")
        file.flush()
        assert (place / "sub/a.txt").read_text() == "one"
        assert len(os.listdir("sub")) == 2
        raise ZeroDivisionError
    assert os.listdir("sub") == ["a.txt"]
    assert (place / "sub/a.txt").read_text() == "one"


def test_modes_and_links(place):
    write_file("secret", "x", mode=0o600)
    assert os.stat("secret").st_mode & 0o777 == 0o600
    os.symlink("secret", "link")
    write_file("link", "y")
    assert os.path.islink("link")
    assert (place / "secret").read_text() == "y"


def test_one_of_many_files_appears_whole_or_not_at_all(place, monkeypatch):
    write_one_of_many(place / "a.npz", b"one")
    write_one_of_many(place / "a.npz", b"other")
    assert (place / "a.npz").read_bytes() == b"other"

    def refuse(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", refuse)
    with pytest.raises(StorageError, match="No space left"):
        write_one_of_many(place / "a.npz", b"third")
    assert [path.name for path in place.iterdir() if "a.npz" in path.name] == ["a.npz"]
    assert (place / "a.npz").read_bytes() == b"other"


def test_a_part_that_a_killed_process_left_goes_and_one_in_use_stays(place):
    code = (
        "import os, signal\nfrom cstl_edge.output import whole_file\n"
        "with whole_file('a.txt') as file:\n    file.write(b'half')\n    file.flush()\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=False)
    assert [name.startswith(".a.txt.") for name in os.listdir()] == [True]
    with whole_file("a.txt") as first:
        first.write(b"first")
        write_file("a.txt", "second")
        assert len(os.listdir()) == 2
    assert os.listdir() == ["a.txt"]
    assert (place / "a.txt").read_text() == "first"


def test_a_line_that_was_cut_off_is_ended_first(place):
    (place / "e.jsonl").write_text('{"event": "bo')
    append_line("e.jsonl", {"event": "named", "person": "Å\ud800"})
    lines = (place / "e.jsonl").read_text(encoding="utf-8").splitlines()
    assert lines[0] == '{"event": "bo'
    assert json.loads(lines[1])["person"] == "Å?"


def test_a_user_without_a_home_is_told_what_to_set(monkeypatch, tmp_path):
    for name in ("HOME", "XDG_DATA_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("pwd.getpwuid", {}.__getitem__)  # a user whom the system does not know
    with pytest.raises(ConfigError, match="no home folder; set HOME or XDG_DATA_HOME"):
        user_folder("data")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    assert user_folder("data") == tmp_path / "cstl-edge"


def limited(code):
    """Run code where no file may be larger than 1000 bytes, as on a disk that is full."""
    head = (
        "import resource, signal, sys\nfrom cstl_edge.errors import StorageError\n"
        "from cstl_edge.output import JsonLines, write_file\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
    )
    subprocess.run([sys.executable, "-c", head + code], check=True)


def test_a_full_disk_leaves_no_half_file_and_no_half_line(place):
    limited(
        "try:\n    write_file('a.bin', bytes(2000))\n"
        "except StorageError as err:\n    assert 'a.bin' in str(err)\nelse:\n    sys.exit(1)\n"
        "with JsonLines('e.jsonl') as lines:\n    lines.write({'a': 'x' * 900})\n"
        "    try:\n        lines.write({'a': 'x' * 900})\n"
        "    except StorageError as err:\n        assert err.exit_code == 6\n"
        "    else:\n        sys.exit(1)\n"
    )
    assert os.listdir() == ["e.jsonl"]
    assert len((place / "e.jsonl").read_text().splitlines()) == 1


def test_a_folder_that_is_none_is_said(place):
    (place / "file").touch()
    for write in (lambda: write_file("file/a", ""), lambda: append_line("file/a", {})):
        with pytest.raises(StorageError, match=r"cannot write file/a"):
            write()
