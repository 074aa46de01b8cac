"""Embedding of datasets: batches, resume after a stop or kill, failures, damaged files."""

import errno
import json
import os
import signal
from pathlib import Path

import numpy as np
import pytest

from cstl_edge.errors import ConfigError, DataError, StorageError
from cstl_edge.evaluation import embed as module
from cstl_edge.evaluation.embed import EmbedOptions, batches, embed, read_embedded
from cstl_edge.runtime import load

from .conftest import Recordings, Standin

GOLDEN = Path(__file__).parents[1] / "golden"
LENGTHS = [5, 3, 9, 3, 7, 1, 12, 4]


@pytest.fixture
def recordings():
    return Recordings(LENGTHS)


def alone(encoder, data, row, frames=720):
    """One whole sequence embedded by itself, rounded as it is kept."""
    walk = data.read(row)[:frames]
    return encoder.encode(walk[None], np.array([len(walk)], np.int32)).embedding[0].astype("f2")


def files(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("batch_frames", [1, 20, 720])
def test_embeddings_do_not_depend_on_batch_size(tmp_path, recordings, batch_frames):
    embedded = embed(Standin(), recordings, tmp_path, options=EmbedOptions(batch_frames))
    assert embedded.labelled.embeddings.dtype == np.float16
    for row in range(len(LENGTHS)):
        assert np.array_equal(embedded.labelled.embeddings[row], alone(Standin(), recordings, row))
    assert embedded.labelled.people.tolist() == recordings.people.tolist()
    assert embedded.labelled.sequences.tolist() == recordings.sequences.tolist()
    assert isinstance(embedded.labelled.embeddings, np.memmap)


def test_embeddings_of_a_network_do_not_depend_on_the_batch(tmp_path):
    encoder = load(GOLDEN / "tiny", "onnxruntime", threads=1)
    data = Recordings([7, 31, 12, 12, 40], size=(16, 12))
    embedded = embed(encoder, data, tmp_path).labelled.embeddings
    for row in range(5):
        assert np.allclose(embedded[row], alone(encoder, data, row), rtol=2e-3, atol=1e-4)


def test_batches_are_shortest_first_and_within_the_limit():
    lengths = np.array(LENGTHS)
    plan = batches(lengths, EmbedOptions(batch_frames=15))
    assert [lengths[batch].tolist() for batch in plan] == [[1, 3, 3], [4, 5], [7], [9], [12]]
    assert sorted(np.concatenate(plan)) == list(range(len(LENGTHS)))
    many = batches(np.ones(70, np.int64), EmbedOptions())
    assert [len(batch) for batch in many] == [32, 32, 6]
    capped = batches(np.array([900, 1000]), EmbedOptions(batch_frames=1440))
    assert [len(batch) for batch in capped] == [2]  # both count 720 frames


def test_only_the_given_rows_are_embedded(tmp_path, recordings, standin):
    embedded = embed(standin, recordings, tmp_path, np.array([6, 1]))
    assert embedded.labelled.sequences.tolist() == ["nm-06", "nm-01"]
    assert np.array_equal(embedded.labelled.embeddings[0], alone(Standin(), recordings, 6))


def test_long_sequences_are_cut_to_max_frames(tmp_path, recordings, standin):
    cut = embed(standin, recordings, tmp_path, options=EmbedOptions(max_frames=4)).labelled
    assert max(max(batch) for batch in standin.batches) == 4
    assert np.array_equal(cut.embeddings[2], alone(Standin(), recordings, 2, frames=4))


def test_short_and_nonfinite_sequences_fail_to_enrol(tmp_path, recordings, standin):
    recordings.silhouettes[2][:] = 251  # NaN
    recordings.silhouettes[4][:] = 252  # beyond float16
    embedded = embed(standin, recordings, tmp_path, options=EmbedOptions(min_frames=3))
    assert embedded.short.tolist() == [5]
    assert sorted(embedded.not_finite.tolist()) == [2, 4]
    broken = ~np.isfinite(embedded.labelled.embeddings).all(axis=(1, 2))
    assert np.flatnonzero(broken).tolist() == [2, 4, 5]
    assert 1 not in np.concatenate(standin.batches)


@pytest.mark.parametrize("stop_after", [0, 1, 3])
def test_stopped_run_resumes_to_the_same_bytes(tmp_path, recordings, monkeypatch, stop_after):
    monkeypatch.setattr(module, "SAVE_EVERY_S", 0.0)
    recordings.silhouettes[3][:] = 251
    options = EmbedOptions(batch_frames=10)
    whole = embed(Standin(), recordings, tmp_path / "whole", options=options)
    stopped = Standin()
    stopped.stop_after = stop_after
    with pytest.raises(KeyboardInterrupt):
        embed(stopped, recordings, tmp_path / "other", options=options)
    resumed, progress_calls = Standin(), []
    notify = lambda *done: progress_calls.append(done)  # noqa: E731
    embedded = embed(resumed, recordings, tmp_path / "other", options=options, progress=notify)
    assert len(resumed.batches) + stop_after == len(batches(recordings.lengths, options))
    assert progress_calls[-1] == (len(LENGTHS), len(LENGTHS))
    assert files(embedded.folder) == files(whole.folder)


def test_killed_process_resumes_from_saved_batches(tmp_path, recordings, monkeypatch):
    """kill -9 between two batches: what was saved is not computed again."""
    monkeypatch.setattr(module, "SAVE_EVERY_S", 0.0)
    options = EmbedOptions(10)

    def kill(done, total):
        if done >= 4:
            os.kill(os.getpid(), signal.SIGKILL)

    if (child := os.fork()) == 0:
        try:
            embed(Standin(), recordings, tmp_path / "run", options=options, progress=kill)
        finally:
            os._exit(0)
    assert os.waitpid(child, 0)[1] == signal.SIGKILL
    resumed = Standin()
    embedded = embed(resumed, recordings, tmp_path / "run", options=options)
    whole = embed(Standin(), recordings, tmp_path / "whole", options=options)
    assert 0 < len(resumed.batches) < len(batches(recordings.lengths, options))
    assert files(embedded.folder) == files(whole.folder)


def test_complete_embeddings_are_loaded_without_encoding(tmp_path, recordings, standin):
    embed(standin, recordings, tmp_path)
    again = Standin()
    embed(again, recordings, tmp_path)
    assert again.batches == []


@pytest.mark.parametrize("change", ["model", "data", "options", "source"])
def test_other_model_data_options_or_source_have_another_folder(tmp_path, recordings, change):
    first = embed(Standin(), recordings, tmp_path).folder
    model = Standin(sha256="1" * 64) if change == "model" else Standin()
    other = Recordings([*LENGTHS[:-1], 5]) if change == "data" else recordings
    options = EmbedOptions(max_frames=6) if change == "options" else None
    source = "prepared again" if change == "source" else ""
    assert embed(model, other, tmp_path, options=options, source=source).folder != first
    assert model.batches


def test_network_without_sha256_is_embedded_each_time(tmp_path, recordings):
    for _ in range(2):
        encoder = Standin(sha256="")
        embed(encoder, recordings, tmp_path)
        assert encoder.batches
    assert all(folder.name.startswith("stand_in-") for folder in tmp_path.iterdir())


def test_silhouettes_of_another_size_are_refused(tmp_path, standin):
    with pytest.raises(DataError, match="takes silhouettes of 4x3; this data has 8x6"):
        embed(standin, Recordings([5], size=(8, 6)), tmp_path)
    with pytest.raises(DataError, match="at least one sequence"):
        embed(standin, Recordings([5]), tmp_path, np.arange(0))


def test_full_disk_is_a_storage_error_and_keeps_saved_batches(tmp_path, recordings, monkeypatch):
    monkeypatch.setattr(module, "SAVE_EVERY_S", 0.0)
    options, real, rows = EmbedOptions(batch_frames=10), os.pwrite, []

    def full(*args):
        rows.append(args)
        if len(rows) > 3:
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(*args)

    monkeypatch.setattr(os, "pwrite", full)
    with pytest.raises(StorageError, match=r"cannot write embeddings.*No space left.*is kept"):
        embed(Standin(), recordings, tmp_path, options=options)
    monkeypatch.setattr(os, "pwrite", real)
    resumed = Standin()
    embed(resumed, recordings, tmp_path, options=options)
    assert 0 < len(resumed.batches) < len(batches(recordings.lengths, options))


@pytest.mark.parametrize("name", ["embeddings.npy", "labels.json"])
@pytest.mark.parametrize("bytes_left", [0, 40])
def test_damaged_folders_are_refused(tmp_path, recordings, standin, name, bytes_left):
    folder = embed(standin, recordings, tmp_path).folder
    os.truncate(folder / name, bytes_left)
    with pytest.raises(DataError, match="delete its folder"):
        embed(standin, recordings, tmp_path)


def test_mismatched_labels_are_refused(tmp_path, recordings, standin):
    folder = embed(standin, recordings, tmp_path).folder
    labels = json.loads((folder / "labels.json").read_text())
    for change in ({"people": [1]}, {"views_deg": "x"}, {"short": None}):
        (folder / "labels.json").write_text(json.dumps(labels | change))
        with pytest.raises(DataError, match="Delete it"):
            read_embedded(folder)
    with pytest.raises(DataError, match="no complete embeddings"):
        read_embedded(tmp_path)


def test_contradictory_options_are_refused():
    for bad in ({"batch_frames": 0}, {"min_frames": 0}, {"min_frames": 9, "max_frames": 8}):
        with pytest.raises(ConfigError, match="max_frames >= min_frames"):
            EmbedOptions(**bad)
