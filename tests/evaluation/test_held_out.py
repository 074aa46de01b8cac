"""Test people: Walkers, prepared datasets and their splits, partition lists."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
from shard_files import write_shard

from cstl_edge.data.dataset import is_dataset
from cstl_edge.data.shards import ShardedSequences
from cstl_edge.errors import ConfigError, DataError
from cstl_edge.evaluation import held_out as module
from cstl_edge.evaluation.held_out import held_out

SIZE, SMALL = (16, 12), (64, 44)


@pytest.fixture(autouse=True)
def index(monkeypatch):
    """Let an index have kind and people alone; `test_cli_evaluate` reads a whole one."""
    whole = module.open_dataset

    def read_index(folder):
        index = json.loads((folder / "dataset.json").read_text())
        people = {int(person): name for person, name in index["people"].items()}
        return SimpleNamespace(kind=index["kind"], people=people)

    def open_dataset(folder):
        shards = [folder / "part.json"]
        return ShardedSequences(shards) if is_dataset(folder) else whole(folder)

    monkeypatch.setattr(module, "read_index", read_index)
    monkeypatch.setattr(module, "open_dataset", open_dataset)


def prepared(folder, people, kind=None, sequence="nm-01", names=None):
    """A folder of one shard, with an index where a kind is given."""
    m = len(people)
    stack = np.full((m, 2, *SIZE), 255, np.uint8)
    write_shard(folder / "part", stack, people=people, sequences=[sequence] * m, views_deg=[-1] * m)
    if kind is not None:
        labels = names or {person: str(person) for person in people}
        (folder / "dataset.json").write_text(json.dumps({"kind": kind, "people": labels}))
    return folder


def ids_of(held):
    return held.data.people[held.rows].tolist()


@pytest.mark.parametrize(
    ("kind", "split", "expected"),
    [
        ("casia-b", "field", [75, 124]),
        ("casia-b", "all", [74, 75, 124]),
        ("ou-mvlp", "field", [2, 5154, 10307]),
        ("ou-mvlp", "first-5153", [5154, 10305, 10307]),
        ("gait3d", "field", [0, 1]),
    ],
)
def test_prepared_dataset_is_split_into_its_test_people(tmp_path, kind, split, expected):
    people = {"casia-b": [74, 75, 124], "ou-mvlp": [1, 2, 5153, 5154, 10305, 10307]}
    held = held_out(prepared(tmp_path, people.get(kind, [0, 1]), kind), SIZE, split)
    assert ids_of(held) == expected
    assert held.kind == kind


def test_folder_of_shards_is_taken_whole(tmp_path):
    held = held_out(prepared(tmp_path, [1, 80]), SIZE)
    assert (ids_of(held), held.kind, held.protocol) == ([1, 80], "shards", "casia-b")


def test_source_changes_when_the_data_are_prepared_again(tmp_path):
    first = held_out(prepared(tmp_path, [80], "casia-b"), SIZE).source
    assert held_out(tmp_path, SIZE).source == first
    prepared(tmp_path, [80, 81], "casia-b")
    assert held_out(tmp_path, SIZE).source != first


def test_data_without_test_people_or_split_are_refused(tmp_path):
    folder = prepared(tmp_path / "a", [1, 2], "casia-b")
    with pytest.raises(DataError, match=r"nobody to test .*ids 1 to 2\).*--split all"):
        held_out(folder, SIZE)
    with pytest.raises(ConfigError, match="first-5153"):
        held_out(folder, SIZE, "first-5153")
    with pytest.raises(ConfigError, match="gait3d"):
        held_out(prepared(tmp_path / "b", [1], "gait3d"), SIZE, "first-5153")
    with pytest.raises(DataError, match="found none"):
        held_out(tmp_path, SIZE)


def test_partition_file_selects_test_people_and_probes(tmp_path):
    """Gait3D's people have names, and its sequences two levels of them."""
    names = {0: "0000", 1: "0001", 2: "2999"}
    folder = prepared(tmp_path, [0, 1, 2, 2], "gait3d", "camid0_videoid2/seq0", names)
    part = tmp_path / "Gait3D.json.list"
    lists = {"TEST_SET": ["0001", "2999"], "PROBE_SET": ["0001-camid0_videoid2-seq0"]}
    part.write_text(json.dumps(lists))
    held = held_out(folder, SIZE, partition=part)
    assert ids_of(held) == [1, 2, 2]
    assert held.probe.tolist() == [True, False, False]
    part.write_text(json.dumps({"TEST_SET": ["0000"]}))
    assert held_out(folder, SIZE, partition=part).probe is None
    part.write_text(json.dumps({"TEST_SET": ["0000", "4000"]}))
    with pytest.raises(DataError, match=r"1 of 2 people .* such as '4000'"):
        held_out(folder, SIZE, partition=part)
    for text in ("{}", "[1]", "{"):
        part.write_text(text)
        with pytest.raises(DataError, match="TEST_SET"):
            held_out(folder, SIZE, partition=part)


def test_walkers_text_sets_ids_recordings_size_and_cache(tmp_path, monkeypatch):
    from cstl_edge.data import walkers_dataset

    requests = []

    def make_shards(settings, cache, progress=None):
        requests.append(
            (settings.first, settings.people, settings.recordings, settings.size, cache)
        )
        return [prepared(tmp_path / "shards", [settings.first, 930_001]) / "part.json"]

    monkeypatch.setattr(walkers_dataset, "make_shards", make_shards)
    held = held_out("walkers:930000-930001", (128, 88))
    everything = {"nm": 6, "bg": 2, "cl": 2}
    assert requests == [(930_000, 2, everything, (128, 88), module.CACHE)]
    assert (ids_of(held), held.kind, held.protocol) == ([930_000, 930_001], "walkers", "casia-b")
    held_out("walkers", (64, 44))
    assert requests[1][:2] == (910_000, 50)


@pytest.mark.parametrize(
    "text", ["walkers:", "walkers:5", "walkers:7-7", "walkers:9-8", "walkers:٣-٩", "walkers:a-b"]
)
@pytest.mark.parametrize("generator", ["walkers", "walkers2"])
def test_malformed_walkers_text_is_refused(text, generator):
    with pytest.raises(ConfigError, match=f"{generator}:910000-910049"):
        held_out(text.replace("walkers", generator), SIZE)


def test_walkers2_are_people_of_the_second_generator_from_all_sides(tmp_path, monkeypatch):
    from cstl_edge.data import walkers_dataset

    requests = []

    def make_shards(settings, cache, progress=None):
        requests.append(settings)
        return [prepared(tmp_path / "shards", [settings.first, 930_001]) / "part.json"]

    monkeypatch.setattr(walkers_dataset, "make_shards", make_shards)
    second = held_out("walkers2:930000-930001", SMALL)
    assert requests[0].generator == 2
    assert requests[0].views_deg == tuple(range(0, 360, 30))
    first = held_out("walkers:930000-930001", SMALL)
    assert requests[1].generator == 1
    assert first.source != second.source  # embeddings of the one are never taken for the other's
    assert "clothed" in second.description
