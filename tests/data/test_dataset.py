"""Index of a prepared dataset: opening, verification, statistics, refusals."""

import json
import shutil

import numpy as np
import pytest
from shard_files import write_shard

from cstl_edge.data.dataset import open_dataset, read_index, statistics, verify_dataset
from cstl_edge.data.importing.prepare import prepare
from cstl_edge.data.importing.settings import PrepareSettings
from cstl_edge.errors import DataError


@pytest.fixture(scope="module")
def prepared(drawn, tmp_path_factory):
    out = tmp_path_factory.mktemp("prepared") / "out"
    prepare(drawn("casia_b"), out, PrepareSettings(dataset="casia-b"), workers=0)
    return out


@pytest.fixture
def dataset(prepared, tmp_path):
    """A copy of a prepared dataset for each test."""
    return shutil.copytree(prepared, tmp_path / "out")


def rewrite(folder, **changes):
    index = json.loads((folder / "dataset.json").read_text())
    (folder / "dataset.json").write_text(json.dumps({**index, **changes}))


def test_a_plain_folder_of_shards_is_a_dataset_too(tmp_path):
    block = np.ones((2, 5, 64, 44), np.uint8)
    write_shard(tmp_path / "a", block, people=[1, 2], sequences=["x", "y"], views_deg=[0, 90])
    assert open_dataset(tmp_path).people.tolist() == [1, 2]
    counts = statistics(tmp_path)
    assert (counts["kind"], counts["people"], counts["frames"]) == (None, 2, 10)


def test_statistics_count_people_sequences_frames_and_views(dataset):
    counts = statistics(dataset)
    assert counts["kind"] == "casia-b"
    assert (counts["people"], counts["sequences"], counts["frames"]) == (2, 22, 66)
    assert counts["views_deg"]["90"] == 2
    assert counts["types"] == {"nm-01": 22}
    assert counts["lengths_frames"]["50"] == 3


def test_a_prepared_dataset_verifies(dataset):
    assert verify_dataset(dataset) == read_index(dataset)


@pytest.mark.parametrize("suffix", [".npy", ".json"])
def test_one_flipped_bit_fails_verification(dataset, suffix):
    file = next(dataset.glob(f"people-*{suffix}"))
    content = bytearray(file.read_bytes())
    content[-5] ^= 1
    file.write_bytes(content)
    with pytest.raises(DataError, match=f"{file.name} was changed or damaged"):
        verify_dataset(dataset)


@pytest.mark.parametrize("suffix", [".npy", ".json"])
def test_a_missing_file_is_refused(dataset, suffix):
    file = next(dataset.glob(f"people-*{suffix}"))
    file.unlink()
    with pytest.raises(DataError, match=file.name):
        verify_dataset(dataset)
    with pytest.raises(DataError, match="people-"):
        open_dataset(dataset)


@pytest.mark.parametrize("name", ["../../x", "/etc/passwd", "a/b", ".", "..", ".hidden", ""])
def test_an_index_that_points_elsewhere_is_refused(dataset, name):
    shard = {"name": name, "json_sha256": "0", "npy_sha256": "0"}
    rewrite(dataset, shards=[shard])
    with pytest.raises(DataError, match="no file of its folder"):
        open_dataset(dataset)


@pytest.mark.parametrize(
    ("key", "value"),
    [("format", 2), ("size", "x"), ("kind", "\x1b[31m"), ("people", {"a": "b"}), ("extra", 1),
     ("shards", None)],
)  # fmt: skip
def test_an_index_of_another_form_is_refused(dataset, key, value):
    rewrite(dataset, **{key: value})
    with pytest.raises(DataError, match=r"dataset\.json: expected the index.*prepare it again"):
        read_index(dataset)


@pytest.mark.parametrize("content", [b"", b"{", b"\xff", b"[]", b"[" * 100_000])
def test_an_index_that_is_no_json_is_refused(dataset, content):
    (dataset / "dataset.json").write_bytes(content)
    with pytest.raises(DataError, match="expected the index of a prepared dataset"):
        read_index(dataset)


def test_an_index_with_wrong_counts_is_refused(dataset):
    rewrite(dataset, frames=67)
    with pytest.raises(DataError, match=r"22, 67\), got .*22, 66\)"):
        open_dataset(dataset)


def test_an_index_with_other_people_does_not_verify(dataset):
    rewrite(dataset, people={"1": "001", "3": "003", "124": "124"})
    with pytest.raises(DataError, match=r"people \[3\]"):
        verify_dataset(dataset)


def test_an_empty_folder_is_refused_with_the_remedy(tmp_path):
    with pytest.raises(DataError, match=r"dataset\.json or shards"):
        open_dataset(tmp_path)
    with pytest.raises(DataError, match="cstl-edge data prepare"):
        read_index(tmp_path)
