"""Base of dataset layouts: list a tree of folders as recordings, without opening a file.

A tree that does not fit its layout is an error that shows what was expected and what was found,
before anything is read or written. Names of folders come from outside. They end up in an index and
on screens, never in a path that is written to; names that would be trouble there (undecodable, with
control characters, longer than a line, equal except for their case) are refused. Links out of the
source are not followed.
"""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from cstl_edge.errors import DataError, one_line

NO_VIEW = -1  # view of a recording where the layout has none
MAX_NAME = 100  # characters of a person's or a sequence's name
SHOWN = 3  # names in a message


@dataclass(frozen=True)
class SourceRecording:
    """One sequence of one person, as it lies in the source."""

    person: str
    sequence: str  # its name, such as nm-01
    view_deg: int  # direction of the camera, NO_VIEW when unknown
    path: str  # below the root: a folder of images, or of one pickle


@dataclass
class SourceTree:
    """Folders of a source, and the recordings found in them so far."""

    root: Path
    recordings: list[SourceRecording] = field(default_factory=list)
    links: list[str] = field(default_factory=list)  # that lead out of the source
    notes: list[str] = field(default_factory=list)  # remarks for the report

    def folders(self, parent: str = "") -> list[str]:
        """Return the names of the folders below a path, sorted; hidden ones are left out."""
        names = []
        for entry in os.scandir(self.root / parent):
            if entry.name.startswith(".") or not os.path.isdir(entry.path):
                continue  # a loop of links is no folder
            if entry.is_symlink() and not is_inside(self.root, entry.path):
                self.links.append(f"{parent}/{entry.name}".lstrip("/"))
            else:
                names.append(entry.name)
        return sorted(names)

    def matching(self, parent: str, name_test: Callable[[str], bool]) -> list[str]:
        """Return the paths of the folders below a path; LayoutMismatch when a name does not fit."""
        names = self.folders(parent)
        if wrong := [name for name in names if not name_test(name)]:
            raise LayoutMismatch(parent, wrong)
        return [f"{parent}/{name}".lstrip("/") for name in names]

    def descend(self, parent: str, *name_tests: Callable[[str], bool]) -> Iterator[str]:
        """Yield the paths of the folders some levels below a path: one test of names per level."""
        for path in self.matching(parent, name_tests[0]):
            yield from self.descend(path, *name_tests[1:]) if name_tests[1:] else [path]

    def add(self, person: str, sequence: str, view_deg: int, path: str) -> None:
        """Add one recording.

        Args:
            person: Name of the person.
            sequence: Name of the sequence.
            view_deg: Direction of the camera in degrees, NO_VIEW when unknown.
            path: Folder of the recording, below the root.
        """
        self.recordings.append(SourceRecording(person, sequence, view_deg, path))


class LayoutMismatch(Exception):
    """Names of folders, below a path of the source, that a layout does not have."""

    def __init__(self, parent: str, names: list[str]) -> None:
        self.parent, self.names = parent, names


@dataclass(frozen=True)
class Layout:
    """Arrangement of a dataset on disk, and properties of its images.

    Worker processes get it by pickle, so `list_recordings` is a function of a module.
    """

    title: str
    pattern: str  # of its paths, as a message shows it
    list_recordings: Callable[[SourceTree, str], None]  # adds those below a path to the tree
    numbered: bool = False  # a person's id is their number, not their place among the names
    cropped: bool = False  # images are cut to the person, who therefore touches their border
    parents: tuple[str, ...] = ()  # folders that a distribution puts above the tree
    label: re.Pattern[str] | None = None  # of an image's name that says whose it is
    image: re.Pattern[str] | None = None  # of a silhouette's name, where other images lie beside it
    views_deg: tuple[int, ...] = ()  # all that the dataset has


def find_recordings(source: str | Path, layout: Layout, *, partial: bool = False) -> SourceTree:
    """List the recordings of a source, in the order of people, sequences and views.

    Args:
        source: Folder of the dataset.
        layout: Layout of the dataset.
        partial: Whether views of the dataset may be missing altogether.

    Raises:
        DataError: the tree does not fit the layout, or a name in it cannot be used.
    """
    root = Path(source)
    if not root.is_dir():
        raise DataError(f"expected a folder with {layout.title}, found none at {one_line(root)}")
    tree = SourceTree(Path(os.path.realpath(root)))
    try:
        layout.list_recordings(tree, next((p for p in layout.parents if (root / p).is_dir()), ""))
        if not tree.recordings:
            raise LayoutMismatch("", sorted(os.listdir(root)))
    except LayoutMismatch as err:
        place = one_line(root / err.parent)
        raise DataError(
            f"expected the layout of {layout.title}, {layout.pattern}; found in {place}: "
            f"{_first_names(err.names) or 'nothing'}. Unpack its archives, give the folder that "
            "holds all of this, or another --dataset"
        ) from err
    except OSError as err:
        raise DataError(f"cannot list {one_line(root)}: {one_line(err)}") from err
    _check_names(tree.recordings)
    if not partial:
        _check_views(tree, layout)
    tree.recordings.sort(key=lambda r: (r.person, r.sequence, r.view_deg, r.path))
    return tree


def person_ids(recordings: Iterable[SourceRecording], layout: Layout) -> dict[str, int]:
    """Return the id of every name: its number, or its place among the sorted names."""
    names = sorted({recording.person for recording in recordings})
    if layout.numbered:
        return {name: int(name) for name in names}
    return {name: index for index, name in enumerate(names)}


def is_inside(root: Path, path: str | Path) -> bool:
    """Return whether a path ends, links followed, below a root that is no link itself."""
    return Path(os.path.realpath(path)).is_relative_to(root)


def _check_names(recordings: Iterable[SourceRecording]) -> None:
    """Raise DataError when a name of a person or a sequence cannot be used."""
    people = {recording.person for recording in recordings}
    for name in sorted(people | {recording.sequence for recording in recordings}):
        if fault := _fault_of_name(name):
            raise DataError(f"the folder name {one_line(name, 60)!r} {fault}; rename it")
    seen: dict[str, str] = {}
    for name in sorted(people):
        twin = seen.setdefault(unicodedata.normalize("NFC", name).casefold(), name)
        if twin != name:
            raise DataError(
                f"expected names of people that differ by more than case, got {one_line(twin)!r} "
                f"and {one_line(name)!r}; rename one"
            )


def _fault_of_name(name: str) -> str:
    if not name.isprintable():  # nor are lone surrogates, by which Python holds undecodable bytes
        return "is not printable UTF-8"
    if len(name) > MAX_NAME:
        return f"has {len(name)} characters, at most {MAX_NAME} are taken"
    return "holds a backslash" if "\\" in name else ""


def _check_views(tree: SourceTree, layout: Layout) -> None:
    present = {recording.view_deg for recording in tree.recordings}
    if missing := sorted(set(layout.views_deg) - present):
        shown = " ".join(f"{view:03d}" for view in missing)
        raise DataError(
            f"expected {len(layout.views_deg)} views of {layout.title}, {layout.pattern}; found "
            f"none of {shown} in {one_line(tree.root)}. Complete the tree, or say --partial"
        )


def _first_names(names: list[str]) -> str:
    """Return the first few of many names, fit for one line."""
    shown = ", ".join(one_line(name, 40) for name in names[:SHOWN])
    return shown + (f" and {len(names) - SHOWN} more" if len(names) > SHOWN else "")
