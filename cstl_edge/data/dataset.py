"""Prepared dataset: a folder of shards with an index, `dataset.json`, that is written last.

The index holds the people, the dataset they are of, the size; what was dropped and why; and the
sha256 of every file, so that a copy can be verified. Its file names are plain: an index that points
out of its folder is refused.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Literal, TypedDict

import numpy as np
from pydantic import ValidationError

from cstl_edge.config import StrictModel
from cstl_edge.data.importing.report import ImportReport
from cstl_edge.data.importing.settings import LayoutName, PrepareSettings
from cstl_edge.data.shards import ShardedSequences
from cstl_edge.errors import DataError, one_line
from cstl_edge.foreign import parsing, read_bytes

INDEX = "dataset.json"
DROPPED = "dropped.jsonl"
SHARD_REPORT = ".report.jsonl"  # suffix of a shard's report, until all shards are written
MAX_INDEX_BYTES = 64 * 2**20
QUANTILES = (0, 5, 25, 50, 75, 95, 100)  # per cent


class ShardFile(StrictModel):
    """One shard: the stem of its .json and .npy, and their sha256."""

    name: str
    json_sha256: str
    npy_sha256: str


class DatasetIndex(StrictModel):
    """Content of `dataset.json`."""

    format: Literal[1]
    kind: LayoutName  # name of the dataset's layout; splits.SPLITS goes by it
    size: tuple[int, int]  # height and width of a silhouette in pixels
    people: dict[int, str]  # name of every person id, as the source has it
    sequences: int
    frames: int
    shards: list[ShardFile]
    report: ImportReport
    settings: PrepareSettings
    fingerprint: str  # of the settings and the recordings of the source


def is_dataset(folder: str | Path) -> bool:
    """Return whether a folder holds a prepared dataset."""
    return (Path(folder) / INDEX).is_file()


def read_index(folder: str | Path) -> DatasetIndex:
    """Return the index of a prepared dataset; DataError when it is missing or not valid."""
    path = Path(folder) / INDEX
    name = one_line(path)
    if not path.exists():
        raise DataError(
            f"expected a prepared dataset, found no {name}. Make it: cstl-edge data prepare"
        )
    form = "the index of a prepared dataset"
    with parsing(path, form, remedy="prepare it again"):
        try:
            index = DatasetIndex.model_validate_json(read_bytes(path, MAX_INDEX_BYTES, form))
        except ValidationError as err:
            raise ValueError(err.errors()[0]["msg"]) from err
    for shard in index.shards:
        if Path(shard.name).name != shard.name or shard.name[:1] in (".", ""):
            shown = one_line(shard.name, 60)
            raise DataError(f"{name} names {shown!r}, no file of its folder; prepare it again")
    return index


def open_dataset(folder: str | Path) -> ShardedSequences:
    """Return the sequences of a prepared dataset, or of a plain folder of shards, mapped.

    Raises DataError when it is neither, unfinished, or its shards differ from the index.
    """
    place = Path(folder)
    if not is_dataset(place):
        if any(place.glob(f"*{SHARD_REPORT}")):
            remedy = "run its cstl-edge data prepare again: it goes on where it was"
            raise DataError(f"the dataset in {one_line(place)} is unfinished; {remedy}")
        shards = sorted(place.glob("*.json"))
        if not shards:
            raise DataError(f"expected {INDEX} or shards in {one_line(place)}, found none")
        return ShardedSequences(shards)
    index = read_index(place)
    data = ShardedSequences([place / f"{shard.name}.json" for shard in index.shards])
    indexed = (index.size, index.sequences, index.frames)
    got = (data.size, len(data.people), int(data.lengths.sum()))
    if indexed != got:
        differ = f"expected size, sequences and frames {indexed}, got {got}"
        raise DataError(f"{one_line(place)}: {differ}. Prepare it again")
    return data


def verify_dataset(
    folder: str | Path, progress: Callable[[int, int], None] = lambda done, total: None
) -> DatasetIndex:
    """Hash every file of a prepared dataset again and open it; DataError names the first fault.

    folder: of the dataset
    progress: callback for the number of shards hashed and their total
    """
    index = read_index(folder)
    for number, shard in enumerate(index.shards):
        progress(number, len(index.shards))
        for suffix, sha256 in ((".json", shard.json_sha256), (".npy", shard.npy_sha256)):
            file = Path(folder) / f"{shard.name}{suffix}"
            if (got := file_sha256(file)) != sha256:
                raise DataError(
                    f"{one_line(file)} was changed or damaged: expected sha256 {sha256[:12]}…, got "
                    f"{got[:12]}…. Copy it or prepare the dataset again"
                )
    if stray := set(np.unique(open_dataset(folder).people).tolist()) ^ set(index.people):
        raise DataError(
            f"{one_line(folder)}: people {sorted(stray)[:3]} are in only one of index and shards"
        )
    return index


def file_sha256(path: Path) -> str:
    """Return the sha256 of a file as hex digits; DataError when it cannot be read."""
    total = hashlib.sha256()
    try:
        with path.open("rb") as file:
            while block := file.read(2**20):
                total.update(block)
    except OSError as err:
        raise DataError(f"cannot read {one_line(path)}: {one_line(err)}") from err
    return total.hexdigest()


class DatasetStatistics(TypedDict):
    """Counts of a dataset, as `data stats --json` prints them."""

    kind: str | None  # name of the layout; None for plain shards
    size: list[int]  # height and width of a silhouette in pixels
    people: int
    sequences: int
    frames: int
    views_deg: dict[str, int]  # sequences by view
    types: dict[str, int]  # sequences by their name, such as nm-01
    lengths_frames: dict[str, int]  # quantiles of a sequence's length in frames, by per cent


def statistics(folder: str | Path) -> DatasetStatistics:
    """Count people, sequences, frames, views and types of a dataset or a folder of shards."""
    data = open_dataset(folder)
    kind = read_index(folder).kind if is_dataset(folder) else None
    views, types = Counter(data.views_deg.tolist()), Counter(data.sequences.tolist())
    quantiles = np.percentile(data.lengths, QUANTILES, method="inverted_cdf")
    return {
        "kind": kind,
        "size": list(data.size),
        "people": len(np.unique(data.people)),
        "sequences": len(data.people),
        "frames": int(data.lengths.sum()),
        "views_deg": {str(view): count for view, count in sorted(views.items())},
        "types": dict(sorted(types.items())),
        "lengths_frames": dict(zip(map(str, QUANTILES), map(int, quantiles), strict=True)),
    }
