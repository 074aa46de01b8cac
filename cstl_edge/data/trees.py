"""A source of recordings while it is listed: folders, links, names that can and cannot be used.

Names of folders come from outside. They end up in an index and on screens, never in a path that is
written to; those that would be trouble there (undecodable, with control characters, longer than a
line, equal but for their case) are refused before anything is read. Links out of the source are not
followed.
"""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from cstl_edge.errors import DataError, one_line

NO_VIEW = -1  # where a layout tells none
MAX_NAME = 100  # characters of a person's or a sequence's name
SHOWN = 3  # names in a message


@dataclass(frozen=True)
class Recording:
    """One sequence of one person, as it lies in the source."""

    person: str
    sequence: str
    view_deg: int
    path: str  # below the root: a folder of images, or of one pickle


@dataclass
class Tree:
    """A source while it is listed: what was found, and what is worth telling."""

    root: Path
    recordings: list[Recording] = field(default_factory=list)
    links: list[str] = field(default_factory=list)  # that lead out of the source
    notes: list[str] = field(default_factory=list)

    def folders(self, below: str = "") -> list[str]:
        """Return the names of the folders below a path, sorted; hidden ones are left out."""
        found = []
        for entry in os.scandir(self.root / below):
            if entry.name.startswith(".") or not os.path.isdir(
                entry.path
            ):  # a loop of links is none
                continue
            if entry.is_symlink() and not inside(self.root, entry.path):
                self.links.append(f"{below}/{entry.name}".lstrip("/"))
            else:
                found.append(entry.name)
        return sorted(found)

    def add(self, person: str, sequence: str, view_deg: int, path: str) -> None:
        """Add one recording."""
        self.recordings.append(Recording(person, sequence, view_deg, path))


class Misfit(Exception):
    """Folders with names that a layout does not have."""

    def __init__(self, below: str, names: list[str]) -> None:
        self.below, self.names = below, names


def fitting(tree: Tree, below: str, fits: Callable[[str], bool]) -> list[str]:
    """Return the paths of the folders below a path; Misfit when a name does not fit."""
    names = tree.folders(below)
    wrong = [name for name in names if not fits(name)]
    if wrong:
        raise Misfit(below, wrong)
    return [f"{below}/{name}".lstrip("/") for name in names]


def inside(root: Path, path: str | Path) -> bool:
    """Tell whether a path ends, links followed, below a root that is no link itself."""
    return Path(os.path.realpath(path)).is_relative_to(root)


def check_names(recordings: Iterable[Recording]) -> None:
    """Raise DataError when a name of a person or a sequence cannot be used."""
    people = {recording.person for recording in recordings}
    for name in sorted(people | {recording.sequence for recording in recordings}):
        if why := _unusable(name):
            raise DataError(f"the folder name {one_line(name, 60)!r} {why}; rename it")
    seen: dict[str, str] = {}
    for name in sorted(people):
        twin = seen.setdefault(unicodedata.normalize("NFC", name).casefold(), name)
        if twin != name:
            raise DataError(
                f"expected names of people that differ by more than case, got {one_line(twin)!r} "
                f"and {one_line(name)!r}; rename one"
            )


def _unusable(name: str) -> str:
    if not name.isprintable():  # lone surrogates, Python's sign for undecodable bytes, are not
        return "is not printable UTF-8"
    if len(name) > MAX_NAME:
        return f"has {len(name)} characters, at most {MAX_NAME} are taken"
    return "holds a backslash" if "\\" in name else ""


def some(names: list[str]) -> str:
    """Name the first few of many, fit for one line."""
    shown = ", ".join(one_line(name, 40) for name in names[:SHOWN])
    return shown + (f" and {len(names) - SHOWN} more" if len(names) > SHOWN else "")
