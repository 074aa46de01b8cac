"""Items of an archive: each a recording, or the silhouettes of one walk, with its own results."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from cstl_edge.errors import ConfigError, DataError, one_line

VIDEOS = (".avi", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".ts", ".webm")
IMAGES = (".png", ".jpg", ".jpeg", ".bmp")
ARRAYS = (".npy",)


@dataclass(frozen=True)
class Item:
    """One recording or walk."""

    path: str
    kind: Literal["video", "silhouettes"]
    name: str  # of its results, below the output's folder, without a suffix

    def state(self) -> str:
        """Return what changes when the item does: names, sizes and times of its files."""
        path = Path(self.path)
        files = sorted(path.iterdir()) if path.is_dir() else [path]
        digest = hashlib.sha256()
        for file in files:
            status = file.stat()
            digest.update(f"{file.name}\0{status.st_size}\0{status.st_mtime_ns}\0".encode())
        return digest.hexdigest()


def find_items(paths: Iterable[str | Path]) -> list[Item]:
    """Return the items below paths, in the order of their names.

    A file is a recording, or silhouettes where it ends in .npy. A folder of pictures is one walk;
    any other folder is searched for recordings, .npy files and such folders.

    Raises:
        DataError: A path is missing, or nothing is below it.
        ConfigError: Two items would have their results under one name.
    """
    items: dict[str, Item] = {}
    for path in map(Path, paths):
        below = list(_below(path, path.parent)) if path.exists() else []
        if not below:
            what = "nothing to embed is in it" if path.exists() else "it does not exist"
            raise DataError(
                f"expected recordings, silhouettes or folders of them; got {one_line(path)}: {what}"
            )
        for item in below:
            other = items.setdefault(item.name, item)
            if other is not item:
                raise ConfigError(
                    f"the results of {one_line(other.path)} and {one_line(item.path)} would both "
                    f"be {one_line(item.name)}.npz",
                    remedy="embed them into two folders",
                )
    return list(items.values())


def _below(path: Path, root: Path) -> Iterable[Item]:
    """Yield what is in a file or folder; `root` is what names are relative to."""
    name = path.resolve().relative_to(root.resolve()).as_posix()
    if path.is_file():
        kind: Literal["video", "silhouettes"] = (
            "silhouettes" if path.suffix.lower() in ARRAYS else "video"
        )
        yield Item(str(path), kind, name)
        return
    entries = sorted(entry for entry in path.iterdir() if not entry.name.startswith("."))
    if any(entry.suffix.lower() in IMAGES for entry in entries if entry.is_file()):
        yield Item(str(path), "silhouettes", name)
        return
    for entry in entries:
        if entry.is_dir() or entry.suffix.lower() in (*VIDEOS, *ARRAYS):
            yield from _below(entry, root)
