"""Make one folder of shards from Walkers of both generators, as the shipped weights learnt from.

    python train/mix_walkers.py runs/mixed
    cstl-edge train walkers-unshuffled --data runs/mixed --split all

Numbers of the first generator's people are raised, so that nobody has two bodies. `--add FOLDER`
takes in further shards, such as those of `render_avatars.py`.
"""

from __future__ import annotations

import argparse
import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import yaml

from cstl_edge.data.walkers_dataset import WalkersSettings, make_shards

RAISED = 10_000
CONFIGS = Path(__file__).parent / "configs"


def mix(folder: Path, second: int, first: int, cache: Path, added: Sequence[Path] = ()) -> None:
    """Write the shards.

    Args:
        folder: Folder to fill.
        second: Number of people of the second generator, as the preset has them, four views each.
        first: Number of people of the first.
        cache: Folder where Walkers are kept.
        added: Folders of further shards, whose people have other numbers.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for shard in make_shards(_settings("walkers-unshuffled", second, views=4), cache):
        for path in (shard, shard.with_suffix(".npy")):
            shutil.copy2(path, folder)
    for shard in make_shards(_settings("cstl-walkers", first), cache):
        labels = json.loads(shard.read_text(encoding="utf-8"))
        labels["people"] = [person + RAISED for person in labels["people"]]
        (folder / f"first-{shard.name}").write_text(json.dumps(labels), encoding="utf-8")
        shutil.copy2(shard.with_suffix(".npy"), folder / f"first-{shard.stem}.npy")
    for shard in (path for other in added for path in sorted(other.glob("*.json"))):
        for path in (shard, shard.with_suffix(".npy")):
            shutil.copy2(path, folder)


def _settings(preset: str, people: int, **changes: object) -> WalkersSettings:
    """Return the Walkers of a preset, with another number of people."""
    config = yaml.safe_load((CONFIGS / f"{preset}.yaml").read_text(encoding="utf-8"))
    return WalkersSettings(**{**config["walkers"], "people": people, **changes})


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--second", type=int, default=970, help="people of the second generator")
    parser.add_argument("--first", type=int, default=200, help="people of the first generator")
    parser.add_argument("--add", type=Path, action="append", default=[], help="more shards")
    parser.add_argument("--cache", type=Path, default=Path("runs/cache"))
    args = parser.parse_args()
    mix(args.folder, args.second, args.first, args.cache, args.add)


if __name__ == "__main__":
    main()
