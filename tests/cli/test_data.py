"""Verbs of `data`: exit codes, one line of error, tables, JSON."""

import contextlib
import json
import os
import re
import subprocess
import sys
from functools import partial

import command_line
import numpy as np
import pytest
from PIL import Image, ImageDraw

from cstl_edge.cli.data import _share

call = partial(command_line.call, "data")
PREPARE = ["prepare", "{in}", "--out", "x", "--dataset"]


@pytest.fixture
def people(tmp_path):
    """Two people with twelve masks each."""
    for person in ("ada", "ben"):
        (tmp_path / "people" / person).mkdir(parents=True)
        for i in range(12):
            image = Image.new("L", (320, 240))
            pen = ImageDraw.Draw(image)
            pen.ellipse([150, 60, 166, 80], fill=255)
            pen.rectangle([144, 78, 172, 130], fill=255)
            pen.polygon([(146, 128), (170, 128), (188 - i, 180), (174 - i, 180)], fill=255)
            pen.polygon([(146, 128), (170, 128), (140 + i, 180), (126 + i, 180)], fill=255)
            image.save(tmp_path / "people" / person / f"{i}.png")
    return tmp_path / "people"


def test_prepare_verify_stats(people, tmp_path):
    out = tmp_path / "out"
    words = ("prepare", people, "--dataset", "folder", "--out", out)
    done = call(*words, "--workers", 2)
    assert done.returncode == 0, done.stderr
    counts = "2 people, 2 sequences, 24 silhouettes of 64x44 from folder"
    assert done.stdout == f"wrote {out}: {counts}\n"
    assert call("verify", out).stdout == f"{out} is whole: {counts}\n"
    counted = json.loads(call("stats", out, "--json").stdout)
    assert (counted["people"], counted["frames"], counted["lengths_frames"]["50"]) == (2, 24, 12)
    assert "2 people, 2 sequences, 24 frames" in call("stats", out).stdout


def test_too_many_bad_files_are_code_3_and_a_table(people, tmp_path):
    (people / "ada" / "3.png").write_bytes(b"[red]damaged")
    words = ("prepare", people, "--dataset", "folder", "--out", tmp_path / "out")
    done = call(*words, "--workers", 1)
    assert done.returncode == 3
    assert "Dropped; 1 of 24 files are bad" in done.stderr
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("error: 1 of 24 files are bad, first ada/3.png (damaged)")
    assert not (tmp_path / "out" / "dataset.json").exists()
    index = json.loads(call(*words, "--max-bad", "5%", "--workers", 1, "--json").stdout)
    assert index["report"]["reasons"] == {"damaged": 1}


def test_verify_lists_bad_files_of_a_source_without_writing(people, tmp_path):
    (people / "ada" / "3.png").write_bytes(b"")
    Image.fromarray(np.zeros((240, 320), np.uint8)).save(people / "ben" / "0.png")
    before = sorted(tmp_path.rglob("*"))
    verify = ("verify", people, "--dataset", "folder", "--workers", 1)
    done = call(*verify)
    assert done.stdout.startswith("ada/3.png: damaged (")
    assert "ben/0.png" not in done.stdout
    assert "empty" in done.stderr
    assert done.returncode == 3
    assert sorted(tmp_path.rglob("*")) == before
    report = json.loads(call(*verify, "--json").stdout)
    assert [drop["reason"] for drop in report["dropped"]] == ["damaged", "empty"]
    (people / "ada" / "3.png").unlink()
    assert call(*verify).stdout == "none of 23 files is bad\n"


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        ([*PREPARE, "folder", "--size", "64x64"], 2, "64x44 or"),
        ([*PREPARE, "folder", "--max-bad", "lots"], 2, "1% or"),
        ([*PREPARE, "folder", "--max-bad", "200%"], 2, "1% or"),
        ([*PREPARE, "casia-b"], 3, "found in .*: ada, ben"),
        (["verify", "{in}"], 2, "say --dataset"),
        (["stats", "{in}"], 3, "dataset.json or shards"),
    ],
)
def test_mistakes_are_one_line_with_their_exit_code(people, tmp_path, words, code, message):
    done = call(*(people if word == "{in}" else word for word in words), cwd=tmp_path)
    assert done.returncode == code
    assert re.fullmatch(f"error: .*{message}.*\n", done.stderr)
    assert not (tmp_path / "x").exists()


def test_share_of_a_text():
    shares = {"1%": 0.01, "0.01": 0.01, "0": 0, "100%": 1, "2.5%": 0.025}
    assert {text: _share(text) for text in shares} == shares


def test_progress_is_shown_on_a_terminal_alone(people, tmp_path):
    reader, terminal = os.openpty()
    command = [sys.executable, "-m", "cstl_edge.cli", "data", "prepare", people, "--dataset"]
    command += ["folder", "--out", tmp_path / "out", "--workers", "1"]
    running = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=terminal)
    os.close(terminal)
    shown = b""
    with contextlib.suppress(OSError):  # the way Linux says that the other end is closed
        while block := os.read(reader, 4096):
            shown += block
    os.close(reader)
    stdout, _ = running.communicate(timeout=100)
    assert running.returncode == 0
    assert b"preparing" in shown
    assert stdout.startswith(b"wrote ")
