"""Archives: every item has results, what is done is kept, a death costs nothing but its time."""

import json
import os
import signal
import sys
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

import numpy as np
import pytest
from command_line import call
from golden_export import GOLDEN
from short_walk import CLIP

from cstl_edge.errors import ConfigError, DataError, ModelError
from cstl_edge.live.archive import processes
from cstl_edge.live.archive.embed import (
    BATCH,
    ArchiveOptions,
    embed_items,
    groups_of,
    is_done,
    open_encoder,
)
from cstl_edge.live.archive.items import Item, find_items
from cstl_edge.runtime import load
from cstl_edge.runtime.graph_encoder import GraphEncoder

MODEL = GOLDEN / "tiny"


def walk(folder, name, seed=0):
    """Write the silhouettes of a walk of the golden model's size."""
    shape = np.zeros((9, 16, 12), np.uint8)
    for i in range(9):
        shape[i, 2:14, 4 + (i + seed) % 3 : 8 + (i + seed) % 3] = 255
    path = folder / f"{name}.npy"
    path.parent.mkdir(parents=True, exist_ok=True)
    np.save(path, shape)
    return path


@pytest.fixture
def archive(tmp_path):
    """An archive of three walks, one of them in a folder."""
    for i, name in enumerate(("a", "b", "more/c")):
        walk(tmp_path / "archive", name, i)
    return tmp_path / "archive"


@pytest.fixture
def options(tmp_path):
    return ArchiveOptions(str(tmp_path / "out"), str(MODEL))


@pytest.fixture
def here(monkeypatch, options):
    """Embed in this process: no process has to start."""
    encoder = open_encoder(options)

    def together(groups, chosen, workers):
        for group in groups:
            yield group, list(embed_items(group, chosen, encoder))

    monkeypatch.setattr(processes, "_together", together)


def embed(*words):
    """Run the verb in this process; return exit code, the JSON that it prints and stderr."""
    done = call("embed", *words, "--model", MODEL, "--json")
    return done.returncode, json.loads(done.stdout), done.stderr


def test_items_are_recordings_walks_and_folders_of_them(archive):
    (archive / "clip.MP4").write_bytes(b"x")
    (archive / "notes.txt").write_text("no item")
    pictures = archive / "person" / "walk"
    pictures.mkdir(parents=True)
    (pictures / "1.png").write_bytes(b"x")
    found = {item.name: item.kind for item in find_items([archive])}
    assert found == {
        "archive/a.npy": "silhouettes",
        "archive/b.npy": "silhouettes",
        "archive/clip.MP4": "video",
        "archive/more/c.npy": "silhouettes",
        "archive/person/walk": "silhouettes",
    }
    with pytest.raises(DataError, match="does not exist"):
        find_items([archive / "none"])
    (archive / "empty").mkdir()
    with pytest.raises(DataError, match="nothing to embed is in it"):
        find_items([archive / "empty"])


def test_two_items_of_one_name_are_refused(tmp_path):
    paths = [walk(tmp_path / side, "a") for side in ("one", "two")]
    with pytest.raises(ConfigError, match=r"would both be a\.npy\.npz"):
        find_items(paths)


def test_results_are_those_of_the_encoder(archive, options):
    encoder = open_encoder(options)
    (item, *_) = find_items([archive])
    assert not is_done(item, options, encoder.info.weights_sha256)
    (result,) = embed_items([item], options, encoder)
    assert (result.error, result.windows, result.walks[0]["frames"]) == (None, 1, 9)
    place = Path(options.output) / "archive"
    with np.load(place / "a.npy.npz") as arrays:
        expected = load(MODEL).encode(np.load(item.path)[None])
        np.testing.assert_allclose(arrays["embeddings"], expected.embedding, atol=1e-6)
        np.testing.assert_array_equal(arrays["salient_frames"], expected.salient_frames)
    record = json.loads((place / "a.npy.json").read_text())
    assert record["model"] == encoder.info.weights_sha256
    assert record["computed_by"] == "onnxruntime float32"
    assert is_done(item, options, encoder.info.weights_sha256)
    assert not is_done(item, options, "0" * 64)  # another model
    os.utime(item.path, ns=(1, 1))
    assert not is_done(item, options, encoder.info.weights_sha256)  # another file


def test_a_batch_of_walks_gives_what_each_walk_gives(archive, options, tmp_path):
    """Walks of any lengths, one that is broken among them, more than a batch holds."""
    for i in range(2 * BATCH):
        path = walk(archive, f"d{i}", i)
        np.save(path, np.load(path)[: 3 + i % 7])
    (archive / "broken.npy").write_bytes(b"no array")
    encoder = open_encoder(options)
    items = find_items([archive])
    together = {result.source: result for result in embed_items(items, options, encoder)}
    assert [x.path for x in items if together[x.path].error] == [str(archive / "broken.npy")]
    alone = ArchiveOptions(str(tmp_path / "alone"), str(MODEL))
    for item in items:
        (one,) = embed_items([item], alone, encoder)
        both = together[item.path]
        assert (one.error, one.walks, one.key) == (both.error, both.walks, both.key)
        if one.error is None:
            assert is_done(item, options, encoder.info.weights_sha256)
            batch, single = (
                np.load(Path(chosen.output) / f"{item.name}.npz") for chosen in (options, alone)
            )
            np.testing.assert_allclose(batch["embeddings"], single["embeddings"], atol=1e-5)
            np.testing.assert_array_equal(batch["salient_frames"], single["salient_frames"])


def test_a_batch_that_fails_is_embedded_walk_by_walk(archive, options, monkeypatch):
    encoder, encode = open_encoder(options), GraphEncoder.encode

    def failing(self, silhouettes, lengths=None):
        if len(silhouettes) > 1:
            raise ModelError("out of memory")
        return encode(self, silhouettes, lengths)

    monkeypatch.setattr(GraphEncoder, "encode", failing)
    assert [r.error for r in embed_items(find_items([archive]), options, encoder)] == [None] * 3


@pytest.mark.parametrize(
    ("items", "workers", "sizes"),
    [
        ("s" * 3, 2, [1, 1, 1]),
        ("s" * 40, 2, [5] * 8),
        ("s" * 130, 2, [BATCH] * 16 + [2]),
        ("ssvvss", 1, [1, 1, 1, 1, 1, 1]),
        ("s" * 16 + "v" + "s" * 16, 1, [BATCH, BATCH, 1, BATCH, BATCH]),
    ],
)
def test_groups_leave_no_process_without_work(items, workers, sizes):
    kinds = {"s": "silhouettes", "v": "video"}
    listed = [Item(str(i), kinds[kind], str(i)) for i, kind in enumerate(items)]
    groups = groups_of(listed, workers)
    assert [len(group) for group in groups] == sizes
    assert [item for group in groups for item in group] == listed


def test_a_recording_has_the_windows_of_everybody_who_walks(tmp_path):
    options = ArchiveOptions(str(tmp_path / "out"), segmenter="background")
    (item,) = find_items([CLIP])
    (result,) = embed_items([item], options, load(threads=1))
    assert result.error is None
    with np.load(tmp_path / "out" / f"{CLIP.name}.npz") as arrays:
        assert len(arrays["embeddings"]) == len(arrays["walk"]) == result.windows > 0
        assert set(arrays["walk"]) == set(range(len(result.walks)))


@pytest.mark.usefixtures("here")
def test_what_is_done_is_kept_and_what_failed_is_tried_again(archive, tmp_path):
    (archive / "broken.npy").write_bytes(b"no array")
    words = (archive, "-o", tmp_path / "out")
    code, first, err = embed(*words)
    assert (code, first["embedded"], first["kept"]) == (3, 3, 0)
    assert first["computed_by"] == "onnxruntime float32"
    assert "broken.npy" in first["failed"][0]["source"]
    assert "1 of 4 could not be embedded; the same command tries again" in err
    kept = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*.npz")}
    assert len(kept) == 3
    (archive / "broken.npy").unlink()
    walk(archive, "broken", 2)
    code, second, _ = embed(*words)
    assert (code, second["embedded"], second["kept"]) == (0, 1, 3)
    assert all(path.stat().st_mtime_ns == then for path, then in kept.items())


def test_what_a_power_cut_left_is_embedded_anew(archive, options):
    """Nothing is synced, so a result may be there without its content."""
    encoder = open_encoder(options)
    weights = encoder.info.weights_sha256
    (item, *_) = find_items([archive])
    list(embed_items([item], options, encoder))
    place = Path(options.output) / "archive" / "a.npy.npz"
    data = place.read_bytes()
    place.write_bytes(bytes(len(data)))
    assert not is_done(item, options, weights)
    place.write_bytes(data)
    assert is_done(item, options, weights)
    record = place.with_name("a.npy.json")
    known = json.loads(record.read_text())
    record.write_text(json.dumps({**known, "sha256": None}))  # of an earlier version, which synced
    assert is_done(item, options, weights)
    record.write_bytes(b"")
    assert not is_done(item, options, weights)


@pytest.mark.usefixtures("here")
def test_parts_of_a_killed_run_are_swept(archive, tmp_path):
    part = tmp_path / "out" / "archive" / f".a.npy.npz.{'0' * 16}.part"
    part.parent.mkdir(parents=True)
    part.write_bytes(b"half")
    other = part.with_name(".notes.part")
    other.write_bytes(b"somebody's")
    assert embed(archive, "-o", tmp_path / "out")[0] == 0
    assert not part.exists()
    assert other.exists()


def test_a_process_that_dies_costs_its_item_alone(archive, options, monkeypatch):
    """One item kills whoever embeds it; the others have their results, those of its batch too."""
    for i in range(40):
        walk(archive, f"d{i}", i)
    encoder = open_encoder(options)

    class Pool:
        """An executor whose process dies at item b, and takes what is under way with it."""

        def __init__(self, *_):
            self.dead = False

        def __enter__(self):
            return self

        def __exit__(self, *_):
            pass

        def submit(self, _, group):
            self.dead = self.dead or any(item.name.endswith("b.npy") for item in group)
            return Done(None if self.dead else list(embed_items(group, options, encoder)))

    class Done:
        def __init__(self, result):
            self._result = result

        def result(self):
            if self._result is None:
                raise BrokenProcessPool
            return self._result

    monkeypatch.setattr(processes, "ProcessPoolExecutor", Pool)
    monkeypatch.setattr(processes, "as_completed", list)
    items = find_items([archive])
    results = {Path(r.source).name: r for r in processes.embed_by_processes(items, options, 2)}
    assert set(results) == {"a.npy", "b.npy", "c.npy", *(f"d{i}.npy" for i in range(40))}
    assert "the process that embeds it dies" in results["b.npy"].error
    assert [name for name, result in results.items() if result.error] == ["b.npy"]


@pytest.mark.slow
def test_a_killed_run_goes_on_where_it_was(archive, tmp_path):
    """With real processes: kill -9 of the run after its first result, then the same command."""
    import subprocess

    for i in range(6):
        walk(archive, f"d{i}", i)
    out = tmp_path / "out"
    command = [sys.executable, "-m", "cstl_edge", "embed", str(archive), "-o", str(out)]
    command += ["--model", str(MODEL), "--workers", "2", "--json"]
    running = subprocess.Popen(command, start_new_session=True)
    while not list(out.rglob("*.json")) and running.poll() is None:
        pass
    os.killpg(running.pid, signal.SIGKILL)
    running.wait()
    before = len(list(out.rglob("*.json")))
    done = subprocess.run(command, check=True, capture_output=True)
    summary = json.loads(done.stdout)
    assert (summary["items"], summary["failed"]) == (9, [])
    assert summary["kept"] >= before - 1 > -1
    assert summary["kept"] + summary["embedded"] == 9
    assert len(list(out.rglob("*.npz"))) == 9
