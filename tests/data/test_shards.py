"""Shards of silhouettes: written whole, memory-mapped, refused when damaged."""

import json

import numpy as np
import pytest
from shard_files import write_shard

from cstl_edge.data.shards import ShardedSequences, ShardWriter
from cstl_edge.errors import DataError


def shard(stem, people, seed=0, **more):
    block = np.random.default_rng(seed).integers(0, 256, (len(people), 5, 64, 44), np.uint8)
    names = [f"nm-{i:02d}" for i in range(len(people))]
    views = [18 * i for i in range(len(people))]
    return block, write_shard(stem, block, people=people, sequences=names, views_deg=views, **more)


def test_sequences_of_several_shards_have_one_numbering(tmp_path):
    a, first = shard(tmp_path / "a", [7, 7, 8])
    b, second = shard(tmp_path / "b", [9, 9], seed=1, lengths=[5, 3])
    data = ShardedSequences([first, second])
    assert data.people.tolist() == [7, 7, 8, 9, 9]
    assert data.lengths.tolist() == [5, 5, 5, 5, 3]
    assert data.sequences.tolist() == ["nm-00", "nm-01", "nm-02", "nm-00", "nm-01"]
    assert data.views_deg.tolist() == [0, 18, 36, 0, 18]
    for row, expected in enumerate([*a, b[0], b[1, :3]]):
        assert (data.read(row) == expected).all()
    assert isinstance(data.read(0).base, np.memmap | np.ndarray)


def test_padding_is_not_stored(tmp_path):
    block, path = shard(tmp_path / "a", [1, 2], lengths=[5, 2])
    stored = np.load(path.with_suffix(".npy"))
    assert (stored == np.concatenate([block[0], block[1, :2]])).all()


def test_a_padded_shard_of_an_older_version_is_read(tmp_path):
    block = np.random.default_rng(0).integers(0, 256, (2, 5, 64, 44), np.uint8)
    np.save(tmp_path / "old.npy", block)
    labels = {"people": [3, 4], "lengths": [5, 2], "views_deg": [0, 18]}
    labels |= {"sequences": ["nm-01", "nm-02"], "shape": [2, 5, 64, 44]}
    (tmp_path / "old.json").write_text(json.dumps(labels))
    _, new = shard(tmp_path / "new", [5])
    data = ShardedSequences([tmp_path / "old.json", new])
    assert (data.read(0) == block[0]).all()
    assert (data.read(1) == block[1, :2]).all()
    assert data.read(2).shape == (5, 64, 44)


def test_a_writer_that_fails_leaves_no_file(tmp_path):
    def write():
        with ShardWriter(tmp_path / "a", (64, 44)) as writer:
            for h, w in ((64, 44), (128, 88)):
                block = np.ones((3, h, w), np.uint8)
                writer.add(block, person=1, sequence="nm-01", view_deg=0)

    with pytest.raises(ValueError, match="expected"):
        write()
    assert list(tmp_path.iterdir()) == []


def test_shards_of_two_sizes_are_not_mixed(tmp_path):
    _, small = shard(tmp_path / "a", [1])
    large = np.zeros((1, 2, 128, 88), np.uint8)
    write_shard(tmp_path / "b", large, people=[1], sequences=["nm-01"], views_deg=[0])
    with pytest.raises(DataError, match="64x44 and 128x88"):
        ShardedSequences([small, tmp_path / "b.json"])


def test_no_temporary_file_is_left(tmp_path):
    shard(tmp_path / "a", [1])
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.json", "a.npy"]


@pytest.mark.parametrize("damage", ["missing", "cut", "json", "labels", "shape", "lengths"])
def test_a_damaged_shard_is_refused_by_name(tmp_path, damage):
    _, path = shard(tmp_path / "a", [1, 2])
    block = path.with_suffix(".npy")
    index = json.loads(path.read_text())
    if damage == "missing":
        block.unlink()
    elif damage == "cut":
        block.write_bytes(block.read_bytes()[:1000])
    elif damage == "json":
        path.write_text("{")
    else:
        wrong = {"labels": ("people", [1]), "shape": ("shape", [2, 6, 64, 44])}
        key, value = wrong.get(damage, ("lengths", [5, 9]))
        path.write_text(json.dumps({**index, key: value}))
    with pytest.raises(DataError, match=r"a\.(json|npy)"):
        ShardedSequences([path])


def test_no_shard_at_all_is_an_error():
    with pytest.raises(DataError, match="at least one shard"):
        ShardedSequences([])
