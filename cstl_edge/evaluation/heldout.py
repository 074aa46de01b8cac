"""Whom to evaluate on: the test people of a prepared dataset, or Walkers that no training saw."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cstl_edge.data.shards import ShardedSequences
from cstl_edge.data.splits import FIELD, SPLITS, test_ids
from cstl_edge.errors import ConfigError, DataError, one_line
from cstl_edge.evaluation.protocols import choose
from cstl_edge.evaluation.store import read_json
from cstl_edge.evaluation.walks import Rows

WALKERS = "walkers"
WALKERS_IDS = (910_000, 910_049)
WALKERS_FRAMES = 30
EVERYBODY = "all"  # a split: nobody of this data was trained on
CACHE = Path("runs/cache")


@dataclass(frozen=True)
class HeldOut:
    """Sequences, and those of them that are of test people."""

    data: ShardedSequences
    rows: Rows
    kind: str
    """`walkers`, or the kind of dataset as it was prepared."""
    said: str
    source: str
    """What tells this data from other data with the same labels."""

    @property
    def protocol(self) -> str:
        """Return the protocol that `auto` means here."""
        if self.kind in (WALKERS, "casia-b"):
            return "casia-b"
        return self.kind if self.kind == "ou-mvlp" else choose(self.data.sequences.tolist())


def held_out(data: str | Path, split: str = FIELD, size: tuple[int, int] = (64, 44)) -> HeldOut:
    """Return the test half of a prepared folder, or of `walkers`, `walkers:FIRST-LAST`.

    split: `field`, `first-5153` (OU-MVLP) or `all`; a folder that knows no split is taken whole
    size: of the Walkers' silhouettes; a folder has its own
    Raises ConfigError for a split that is not there, DataError when nobody is left to test.
    """
    text = str(data)
    if text == WALKERS or text.startswith(f"{WALKERS}:"):
        return _walkers(text, size)
    return _prepared(Path(data), split)


def _walkers(text: str, size: tuple[int, int]) -> HeldOut:
    """Make Walkers in the CASIA-B protocol, or find them made."""
    first, last = _ids(text)
    try:
        from cstl_edge.data.walkers_shards import WalkersSettings, make_shards
    except ImportError as err:
        raise ConfigError("Walkers need cv2: pip install 'cstl-edge[cv]'") from err
    settings = WalkersSettings(
        people=last - first + 1,
        first=first,
        nm=6,
        bg=2,
        cl=2,
        frames=WALKERS_FRAMES,
        size=size,
    )
    data = ShardedSequences(make_shards(settings, CACHE))
    said = f"Walkers {first} to {last}, synthetic people, {WALKERS_FRAMES} frames"
    source = f"{WALKERS} {settings.fingerprint()}"
    return HeldOut(data, np.arange(len(data.people)), WALKERS, said, source)


def _ids(text: str) -> tuple[int, int]:
    """Read the ids behind `walkers:`; ConfigError when they are none."""
    if text == WALKERS:
        return WALKERS_IDS
    found = re.fullmatch(rf"{WALKERS}:(\d{{1,9}})-(\d{{1,9}})", text, flags=re.ASCII)
    if not found or int(found[2]) <= int(found[1]):
        first, last = WALKERS_IDS
        raise ConfigError(
            f"expected {WALKERS}:FIRST-LAST with two people or more, such as "
            f"{WALKERS}:{first}-{last}; got {one_line(text)!r}"
        )
    return int(found[1]), int(found[2])


def _prepared(folder: Path, split: str) -> HeldOut:
    about = read_json(folder / "dataset.json") or {}
    shards = sorted(path for path in folder.glob("*.json") if path.name != "dataset.json")
    if not shards:
        raise DataError(
            f"{one_line(folder)}: expected a folder that `cstl-edge data prepare` made, got one "
            "without shards"
        )
    data = ShardedSequences(shards)
    kind = str(about.get("kind", "shards"))
    ids = np.unique(data.people)
    splits = kind if kind in SPLITS else choose(data.sequences.tolist())
    if split == EVERYBODY or (kind not in SPLITS and split == FIELD):
        tested, who = ids, "everybody"
    else:
        tested, who = test_ids(splits, split, ids), f"split {split}"
    if not tested.size:
        raise DataError(
            f"{one_line(folder)}: nobody to test among its {len(ids)} people (ids {ids.min()} to "
            f"{ids.max()}) in {who} of {splits}. Prepare the test people, or give --split all"
        )
    rows = np.flatnonzero(np.isin(data.people, tested))
    return HeldOut(data, rows, kind, f"{kind}, {who}", _fingerprint(folder, shards))


def _fingerprint(folder: Path, shards: list[Path]) -> str:
    """Return what changes when a folder is prepared again: its index, or size and time of files."""
    index = folder / "dataset.json"
    if index.exists():
        return hashlib.sha256(index.read_bytes()).hexdigest()
    found = [path.with_suffix(end).stat() for path in shards for end in (".json", ".npy")]
    text = json.dumps([[stat.st_size, stat.st_mtime_ns] for stat in found])
    return hashlib.sha256(text.encode()).hexdigest()
