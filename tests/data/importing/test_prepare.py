"""Preparation of datasets: every layout, equal bytes, resuming, limits, refusals."""

import errno
import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from drawn_people import save
from small_disk import small_disk

from cstl_edge.data.dataset import open_dataset, read_index
from cstl_edge.data.importing import prepare
from cstl_edge.data.importing.prepare import check_source
from cstl_edge.data.importing.safe_pickle import HostileFile
from cstl_edge.data.importing.settings import PrepareSettings
from cstl_edge.data.sampling import Sampler
from cstl_edge.errors import ConfigError, DataError, MissingPackage, StorageError
from cstl_edge.silhouette import read_silhouettes


def run(source, out, kind="folder", *, workers=0, max_bad=0.01, progress=None, **settings):
    options = PrepareSettings(dataset=kind, **settings)
    return prepare.prepare(
        source, out, options, workers=workers, max_bad=max_bad, progress=progress
    )


def content(folder):
    return {file.name: file.read_bytes() for file in sorted(folder.iterdir())}


@pytest.fixture
def small_shards(monkeypatch):
    """One recording to a shard."""
    monkeypatch.setattr(prepare, "MIN_RECORDINGS", 1)


def test_casia_b_keeps_numbers_types_and_views(casia_b, tmp_path):
    index = run(casia_b, tmp_path / "out", "casia-b")
    data = open_dataset(tmp_path / "out")
    assert index.people == {1: "001", 124: "124"}
    assert (index.kind, index.size, index.sequences, index.frames) == ("casia-b", (64, 44), 22, 66)
    assert data.people.tolist() == [1] * 11 + [124] * 11
    assert data.views_deg.tolist() == list(range(0, 181, 18)) * 2
    assert set(data.sequences) == {"nm-01"}
    folder = casia_b / "GaitDatasetB-silh" / "124" / "nm-01" / "018"
    assert np.array_equal(data.read(12), read_silhouettes(folder))
    assert index.report.notes == ["198 of 220 recordings of these people are not in the tree"]


@pytest.mark.parametrize(
    ("tree", "kind", "people", "sequences"),
    [
        ("ou_mvlp", "ou-mvlp", {1: "00001", 10307: "10307"}, "00 01"),
        ("opengait", "opengait-pkl", {0: "anna", 1: "zoe"}, "cl-01 nm-01 camid0_videoid2/seq0"),
        ("gait3d", "gait3d", {0: "0000", 1: "3999"}, "camid0_videoid2/seq0 camid9_videoid1/seq1"),
        ("grew", "grew", {0: "test/gallery/00001", 1: "train/00001"}, "4XPn5Z28 79XJefi8"),
        ("folders", "folder", {0: "ada", 1: "ben"}, "00 monday tuesday"),
    ],
)
def test_every_layout_is_prepared(request, tmp_path, tree, kind, people, sequences):
    index = run(request.getfixturevalue(tree), tmp_path / "out", kind)
    data = open_dataset(tmp_path / "out")
    assert index.people == people
    assert set(data.sequences) == set(sequences.split())
    assert sorted(set(data.people)) == sorted(people)
    assert index.report.bad == 0
    assert data.read(0).max() == 255


def test_the_bytes_do_not_depend_on_the_number_of_workers(folders, tmp_path, small_shards):
    (folders / "ben" / "frame3.png").write_bytes(b"damaged")
    for workers in (0, 2):
        run(folders, tmp_path / f"{workers}", workers=workers, max_bad=0.5)
    files = content(tmp_path / "0")
    assert len(files) == 2 + 2 * 3
    assert content(tmp_path / "2") == files


def test_nothing_is_written_outside_the_output(folders, tmp_path):
    before = sorted(tmp_path.rglob("*"))
    run(folders, tmp_path / "out")
    new = [p for p in sorted(tmp_path.rglob("*")) if p not in before]
    assert all(p.is_relative_to(tmp_path / "out") for p in new)
    with pytest.raises(DataError, match="not inside the source"):
        run(folders, folders / "out")


def test_bad_files_are_counted_listed_and_limited(folders, tmp_path):
    (folders / "ada" / "monday" / "frame3.png").write_bytes(b"damaged")
    save(np.zeros((240, 320), np.uint8), folders / "ben" / "frame0.png")
    bad = r"1 of 36 files are bad, first ada/monday/frame3\.png"
    with pytest.raises(DataError, match=bad) as error:
        run(folders, tmp_path / "out")
    assert error.value.exit_code == 3
    assert not (tmp_path / "out" / "dataset.json").exists()
    with pytest.raises(DataError, match="unfinished"):
        open_dataset(tmp_path / "out")
    index = run(folders, tmp_path / "out", max_bad=0.03)
    assert index.report.reasons == {"damaged": 1, "empty": 1}
    assert (index.report.files, index.report.bad) == (36, 1)
    assert index.report.examples["damaged"] == ["ada/monday/frame3.png"]
    lines = (tmp_path / "out" / "dropped.jsonl").read_text().splitlines()
    assert [json.loads(line)["reason"] for line in lines] == ["damaged", "empty"]
    with pytest.raises(DataError, match="1 of 36 files are bad"):
        run(folders, tmp_path / "out", max_bad=0)


def test_useless_frames_are_not_bad_files(folders, tmp_path):
    for i in range(12):
        save(np.zeros((240, 320), np.uint8), folders / "ben" / f"frame{i}.png")
    index = run(folders, tmp_path / "out", max_bad=0)
    assert index.report.reasons == {"empty": 12, "too few frames": 1}
    assert index.people == {0: "ada"}


def test_a_source_without_usable_frames_is_an_error(tmp_path):
    save(np.zeros((240, 320), np.uint8), tmp_path / "in" / "ben" / "0.png")
    with pytest.raises(DataError, match=r"no usable sequence .* 1 empty, 1 too few frames"):
        run(tmp_path / "in", tmp_path / "out")


def test_a_hostile_pickle_ends_the_run_at_any_max_bad(opengait, tmp_path):
    marker = tmp_path / "marker"
    evil = opengait / "zoe" / "nm-01" / "000" / "000.pkl"
    evil.write_bytes(f"cos\nsystem\n(S'touch {marker}'\ntR.".encode())
    with pytest.raises(HostileFile, match=r"zoe/nm-01/000/000\.pkl names os\.system"):
        run(opengait, tmp_path / "out", "opengait-pkl", workers=1, max_bad=1)
    assert not marker.exists()
    assert not (tmp_path / "out" / "dataset.json").exists()
    report, drops = check_source(opengait, PrepareSettings(dataset="opengait-pkl"), workers=0)
    assert [(d.path, d.reason) for d in drops] == [("zoe/nm-01/000", "made to do harm")]
    assert report.bad == 1
    assert not marker.exists()


def test_links_out_of_the_source_count_as_bad(folders, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (folders / "eve").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(DataError, match="first eve "):
        run(folders, tmp_path / "out")


def test_undecodable_file_names_are_reported(folders, tmp_path):
    os.rename(folders / "ben" / "frame0.png", os.fsencode(folders / "ben") + b"/\xff\n0.png")
    (folders / "ben" / "frame1.png").write_bytes(b"")
    (folders / "ben" / "frame2.png").rename(folders / "ben" / f"{'2' * 250}.png")
    with open(os.fsencode(folders / "ben") + b"/\xfe.png", "wb"):
        pass
    index = run(folders, tmp_path / "out", max_bad=0.5)
    assert index.report.examples["damaged"] == ["ben/frame1.png", "ben/\\udcfe.png"]
    assert index.frames == 35


def test_a_finished_dataset_stays_and_another_is_not_mixed_in(folders, tmp_path):
    first = run(folders, tmp_path / "out")
    before = content(tmp_path / "out")
    assert run(folders, tmp_path / "out") == first
    assert content(tmp_path / "out") == before
    with pytest.raises(DataError, match="other settings or another source"):
        run(folders, tmp_path / "out", size=(128, 88))
    (tmp_path / "out" / "dataset.json").unlink()
    with pytest.raises(DataError, match="empty it or give another --out"):
        run(folders, tmp_path / "out", min_frames=2)


def test_a_stopped_run_resumes_with_missing_shards(folders, tmp_path, small_shards, monkeypatch):
    full_run = run(folders, tmp_path / "whole")
    seen = []

    def stop(done, total):
        seen.append((done, total))
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(folders, tmp_path / "out", progress=stop)
    assert not (tmp_path / "out" / "dataset.json").exists()
    assert run(folders, tmp_path / "out", progress=lambda *counts: seen.append(counts)) == full_run
    assert seen == [(1, 3), (2, 3), (3, 3)]
    assert content(tmp_path / "out") == content(tmp_path / "whole")


KILLED = """
import sys
from cstl_edge.data.importing import prepare as module
from cstl_edge.data.importing.prepare import prepare
from cstl_edge.data.importing.settings import PrepareSettings

if __name__ == "__main__":
    module.MIN_RECORDINGS = 1
    prepare(sys.argv[1], sys.argv[2], PrepareSettings(dataset="folder"), workers=1,
            progress=lambda done, total: print(done, flush=True))
"""


def test_a_killed_run_leaves_no_partial_file_and_resumes(folders, tmp_path, small_shards):
    script = tmp_path / "killed.py"
    script.write_text(KILLED)
    command = [sys.executable, str(script), str(folders), str(tmp_path / "out")]
    child = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert child.stdout.readline() == "1\n"
    child.send_signal(signal.SIGKILL)
    child.wait()
    assert not (tmp_path / "out" / "dataset.json").exists()
    deadline = time.monotonic() + 20
    while True:  # the worker of the dead run may hold the folder for a moment
        try:
            run(folders, tmp_path / "out")
            break
        except DataError:
            assert time.monotonic() < deadline
            time.sleep(0.1)
    run(folders, tmp_path / "whole")
    assert content(tmp_path / "out") == content(tmp_path / "whole")


def test_two_runs_do_not_share_a_folder(folders, tmp_path):
    with prepare._locked(tmp_path / "out"), pytest.raises(DataError, match="another run"):
        run(folders, tmp_path / "out")


def test_a_full_disk_is_a_one_line_error_and_the_run_resumes(folders, tmp_path, small_shards):
    fault = r"cannot write .*out.*: .*the same command again"
    with small_disk(20_000), pytest.raises(StorageError, match=fault) as error:
        run(folders, tmp_path / "out")  # a shard of 12 frames has 34 KB
    assert error.value.exit_code == 6
    assert not list((tmp_path / "out").iterdir())
    assert run(folders, tmp_path / "out").frames == 36


@pytest.mark.parametrize("count", range(1, 8))
def test_a_run_resumes_after_a_full_disk_at_any_write(folders, tmp_path, monkeypatch, count):
    calls = []
    replace = os.replace

    def full(part, target):
        calls.append(target)
        if len(calls) == count:
            raise OSError(errno.ENOSPC, "No space left on device")
        replace(part, target)

    monkeypatch.setattr(os, "replace", full)
    if count <= 5:  # block and labels, report; then dropped.jsonl and the index
        with pytest.raises(StorageError, match="No space left on device; make room"):
            run(folders, tmp_path / "out")
        assert not (tmp_path / "out" / "dataset.json").exists()
    assert run(folders, tmp_path / "out").frames == 36
    assert len(list((tmp_path / "out").iterdir())) == 4


def test_a_sampler_draws_from_a_prepared_dataset(folders, tmp_path):
    run(folders, tmp_path / "out", max_frames=5)
    data = open_dataset(tmp_path / "out")
    batch = Sampler(data, people=2, sequences=3, frames=30).batch(0)  # longer than any sequence
    assert batch.silhouettes.shape == (6, 30, 64, 44)
    with pytest.raises(ConfigError, match=r"at least 3 people .* got 2"):
        Sampler(data, people=3, sequences=2, frames=4)


def test_the_index_names_the_settings(folders, tmp_path):
    run(folders, tmp_path / "out", gate="field", min_frames=3)
    settings = read_index(tmp_path / "out").settings
    assert (settings.gate, settings.min_frames, settings.max_frames) == ("field", 3, 720)
    with pytest.raises(ValueError, match="expected a size"):
        PrepareSettings(dataset="folder", size=(64, 64))


def test_without_cv2_the_extra_is_named_before_a_worker_starts(folders, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "cv2", None)
    with pytest.raises(MissingPackage, match="cv2"):
        run(folders, tmp_path / "out", workers=2)
