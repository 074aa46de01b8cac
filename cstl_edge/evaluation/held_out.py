"""Test people: the test half of a prepared dataset, or Walkers that no training saw.

`walkers` are people of the first generator, `walkers2` of the second (recorded strides, garments,
all directions), each with `:FIRST-LAST` for other ids; `walkers:shifted` is the frozen set of
people, clothes and pictures that no training sees, by which models and matching are chosen.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cstl_edge.arrays import Bools, Indices
from cstl_edge.data.dataset import INDEX, is_dataset, open_dataset, read_index
from cstl_edge.data.shards import ShardedSequences
from cstl_edge.data.splits import FIELD, SPLITS, is_trained
from cstl_edge.errors import ConfigError, DataError, one_line
from cstl_edge.evaluation.embedding_store import read_json
from cstl_edge.evaluation.protocols import choose_protocol
from cstl_edge.extras import missing_package

WALKERS, CLOTHED, SHIFTED = "walkers", "walkers2", "walkers:shifted"
CLOTHED_VIEWS_DEG = tuple(range(0, 360, 30))
WALKERS_IDS = (910_000, 910_049)
WALKERS_FRAMES = 30
EVERYBODY = "all"  # a split: nobody of this data was trained on
CACHE = Path("runs/cache")
KEYS = ("TEST_SET", "PROBE_SET")
LISTS = (
    "Expected a JSON object with TEST_SET, names of people, and PROBE_SET, names of sequences such "
    "as 0000-camid0_videoid2-seq0"
)


@dataclass(frozen=True)
class HeldOut:
    """Sequences, and those of them that are of test people."""

    data: ShardedSequences
    rows: Indices
    kind: str  # `walkers`, or the kind of dataset as it was prepared
    description: str  # data and split in words, for reports
    source: str  # identifier of this data among others with the same labels
    probe: Bools | None = None  # [rows], the probes, where a partition file lists them

    @property
    def protocol(self) -> str:
        """Return the protocol that `auto` means here."""
        if self.kind in (WALKERS, "casia-b"):
            return "casia-b"
        return (
            self.kind if self.kind == "ou-mvlp" else choose_protocol(self.data.sequences.tolist())
        )


def held_out(
    data: str | Path,
    size: tuple[int, int],
    split: str = FIELD,
    partition: str | Path | None = None,
    *,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> HeldOut:
    """Load the test half of a prepared folder, or Walkers.

    Args:
        data: Prepared folder, or walkers, walkers2, either with :FIRST-LAST, or walkers:shifted.
        size: h, w of the Walkers' silhouettes [pixels]; a folder has its own.
        split: `field`, `first-5153` (OU-MVLP) or `all`; a folder without splits is taken whole.
        partition: JSON file that lists TEST_SET and PROBE_SET, in place of a split.
        progress: Callback for the number of Walkers' shards that were made, and their total.

    Raises:
        ConfigError: The split does not exist.
        DataError: Nobody is left to test.
    """
    text = str(data)
    if text.split(":")[0] in (WALKERS, CLOTHED):
        if split not in (FIELD, EVERYBODY) or partition is not None:
            raise ConfigError(f"{WALKERS} are all test people: leave the split out")
        return _shifted(size) if text == SHIFTED else _walkers(text, size, progress)
    return _prepared(Path(data), split, None if partition is None else Path(partition))


def _walkers(text: str, size: tuple[int, int], progress: Callable[[int, int], None]) -> HeldOut:
    """Load Walkers in the CASIA-B protocol; render those that the cache lacks."""
    first, last = WALKERS_IDS
    generator = text.split(":")[0]
    if text != generator:
        ids = re.fullmatch(rf"{generator}:(\d{{1,9}})-(\d{{1,9}})", text, flags=re.ASCII)
        if not ids or int(ids[2]) <= int(ids[1]):
            raise ConfigError(
                f"expected {generator}:FIRST-LAST with two people or more, such as "
                f"{generator}:{first}-{last}, or {SHIFTED}; got {one_line(text)!r}"
            )
        first, last = int(ids[1]), int(ids[2])
    try:
        from cstl_edge.data.walkers_dataset import WalkersSettings, make_shards
    except ImportError as err:
        raise missing_package("Walkers need cv2", "cv") from err
    settings = WalkersSettings(
        people=last - first + 1, first=first, nm=6, bg=2, cl=2, frames=WALKERS_FRAMES, size=size
    )
    if generator == CLOTHED:
        change = {"generator": 2, "views_deg": CLOTHED_VIEWS_DEG}
        settings = settings.model_copy(update=change)
    data = ShardedSequences(make_shards(settings, CACHE, progress=progress))
    kind = "clothed synthetic people" if generator == CLOTHED else "synthetic people"
    description = f"Walkers {first} to {last}, {kind}, {WALKERS_FRAMES} frames"
    source = f"{generator} {settings.fingerprint()}"
    return HeldOut(data, np.arange(len(data.people)), WALKERS, description, source)


def _shifted(size: tuple[int, int]) -> HeldOut:
    """Load the shifted test set."""
    from cstl_edge.data.shifted_walkers import shifted_fingerprint, shifted_shards

    data = ShardedSequences(shifted_shards(CACHE, size))
    people = len(np.unique(data.people))
    description = f"shifted Walkers, {people} synthetic people in changing clothes"
    source = f"{SHIFTED} {shifted_fingerprint()}"
    return HeldOut(data, np.arange(len(data.people)), WALKERS, description, source)


def _prepared(folder: Path, split: str, partition: Path | None) -> HeldOut:
    data = open_dataset(folder)
    index = read_index(folder) if is_dataset(folder) else None
    kind, ids = (index.kind if index else "shards"), np.unique(data.people)
    source = _fingerprint(folder)
    if partition is not None:
        names = index.people if index else {int(person): str(person) for person in ids}
        rows, probe = _listed(data, names, partition)
        return HeldOut(data, rows, kind, f"{kind}, as {partition.name} lists", source, probe)
    if split == EVERYBODY or (kind not in SPLITS and split == FIELD):
        tested, selection = ids, "everybody"
    else:
        tested, selection = ids[~is_trained(kind, split, ids)], f"split {split}"
    if not tested.size:
        raise DataError(
            f"{one_line(folder)}: nobody to test in the {selection} of {kind} among its {len(ids)} "
            f"people (ids {ids.min()} to {ids.max()}). Prepare the test people, or give --split all"
        )
    rows = np.flatnonzero(np.isin(data.people, tested))
    return HeldOut(data, rows, kind, f"{kind}, {selection}", source)


def _listed(
    data: ShardedSequences, names: Mapping[int, str], partition: Path
) -> tuple[Indices, Bools | None]:
    """Return the sequences of TEST_SET, and which of them are in PROBE_SET."""
    record = read_json(partition, LISTS)
    if record is None or not all(isinstance(record.get(key, []), list) for key in KEYS):
        raise DataError(f"cannot read {one_line(partition)}. {LISTS}")
    if not set(KEYS) & set(record):
        raise DataError(f"{one_line(partition)} has neither list. {LISTS}")
    tested = {str(name) for name in record.get("TEST_SET", names.values())}
    unknown = tested - set(names.values())
    if unknown:
        raise DataError(
            f"{len(unknown)} of {len(tested)} people of {one_line(partition)} are not in the data, "
            f"such as {one_line(min(unknown), 40)!r}. Prepare the whole dataset"
        )
    rows = np.flatnonzero([names[person] in tested for person in data.people.tolist()])
    if "PROBE_SET" not in record:
        return rows, None
    probes, probe = {str(name) for name in record["PROBE_SET"]}, []
    for row in rows:  # PROBE_SET has person, type and view of a sequence, joined by hyphens
        sequence, view = str(data.sequences[row]).replace("/", "-"), int(data.views_deg[row])
        name = f"{names[int(data.people[row])]}-{sequence}" + (f"-{view:03d}" if view >= 0 else "")
        probe.append(name in probes)
    return rows, np.array(probe, np.bool_)


def _fingerprint(folder: Path) -> str:
    """Return a digest of a folder's index, or of the sizes and times of its files."""
    if is_dataset(folder):
        return hashlib.sha256((folder / INDEX).read_bytes()).hexdigest()
    stats = [path.stat() for path in sorted(folder.iterdir()) if path.suffix in (".json", ".npy")]
    text = json.dumps([[stat.st_size, stat.st_mtime_ns] for stat in stats])
    return hashlib.sha256(text.encode()).hexdigest()
