"""The layouts in which silhouettes are distributed: a tree of folders becomes a list of recordings.

A tree is only listed here, no file of it is opened. What does not fit the layout is an error that
shows what was expected and what was found, before anything is read or written. Where a dataset has
images, OpenGait's pickle of the same sequence is as good: CASIA-B keeps its numbers either way.
"""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Callable, Collection, Iterable, Mapping
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


CASIA_B_TYPES = (
    *(f"nm-{i:02d}" for i in range(1, 7)),
    *(f"{kind}-{i:02d}" for kind in ("bg", "cl") for i in (1, 2)),
)
CASIA_B_VIEWS_DEG = tuple(range(0, 181, 18))
OU_MVLP_TYPES = ("00", "01")
OU_MVLP_VIEWS_DEG = (*range(0, 91, 15), *range(180, 271, 15))


@dataclass(frozen=True)
class Layout:
    """How a dataset lies on disk, and what its images are."""

    title: str
    tree: str  # as a message shows it
    find: Callable[[Tree, str], None]  # adds the recordings below a path to the tree
    numbered: bool = False  # a person is a number; else an index into the sorted names
    crops: bool = False  # images are cut to the person, who therefore touches their border
    above: tuple[str, ...] = ()  # folders that a distribution puts above the tree
    label: re.Pattern[str] | None = None  # an image's name that says whose it is
    image: re.Pattern[str] | None = None  # a silhouette's name, where other images lie beside it
    views_deg: tuple[int, ...] = ()  # all that the dataset has


def find_recordings(source: str | Path, kind: str, *, partial: bool = False) -> Tree:
    """List the recordings of a source, in the order of people, sequences and views.

    kind: a key of LAYOUTS
    partial: views of the dataset may be missing altogether
    Raises DataError when the tree is another one, or a name in it cannot be used.
    """
    layout, root = LAYOUTS[kind], Path(source)
    if not root.is_dir():
        raise DataError(f"expected a folder with {layout.title}, found none at {one_line(root)}")
    tree = Tree(Path(os.path.realpath(root)))
    try:
        layout.find(tree, next((a for a in layout.above if (root / a).is_dir()), ""))
        if not tree.recordings:
            raise Misfit("", sorted(os.listdir(root)))
    except Misfit as err:
        place = one_line(root / err.below)
        raise DataError(
            f"expected the layout of {layout.title}, {layout.tree}; found in {place}: "
            f"{some(err.names) or 'nothing'}. Unpack its archives, give the folder that holds all "
            "of this, or another --dataset"
        ) from err
    except OSError as err:
        raise DataError(f"cannot list {one_line(root)}: {one_line(err)}") from err
    check_names(tree.recordings)
    if not partial:
        _check_views(tree, layout)
    tree.recordings.sort(key=lambda r: (r.person, r.sequence, r.view_deg, r.path))
    return tree


def person_ids(recordings: Iterable[Recording], kind: str) -> dict[str, int]:
    """Return the id of every name: its number, or its place among the sorted names."""
    names = sorted({recording.person for recording in recordings})
    if LAYOUTS[kind].numbered:
        return {name: int(name) for name in names}
    return {name: index for index, name in enumerate(names)}


def _check_views(tree: Tree, layout: Layout) -> None:
    found = {recording.view_deg for recording in tree.recordings}
    if missing := sorted(set(layout.views_deg) - found):
        shown = " ".join(f"{view:03d}" for view in missing)
        raise DataError(
            f"expected {len(layout.views_deg)} views of {layout.title}, {layout.tree}; found none "
            f"of {shown} in {one_line(tree.root)}. Complete the tree, or say --partial"
        )


def _person_type_view(
    tree: Tree,
    start: str,
    person: Callable[[str], bool],
    types: Collection[str],
    views_deg: Iterable[int],
) -> None:
    """Read person/type/view with the names that a dataset has, and no others."""
    views = {f"{view:03d}" for view in views_deg}
    for who in fitting(tree, start, person):
        for kind in fitting(tree, who, types.__contains__):
            for path in fitting(tree, kind, views.__contains__):
                name, sequence, view = Path(path).parts[-3:]
                tree.add(name, sequence, int(view), path)


def _casia_b(tree: Tree, start: str) -> None:
    _person_type_view(tree, start, _numbered(3, 124), CASIA_B_TYPES, CASIA_B_VIEWS_DEG)
    people = len({recording.person for recording in tree.recordings})
    nominal = people * len(CASIA_B_TYPES) * len(CASIA_B_VIEWS_DEG)
    if missing := nominal - len(tree.recordings):
        tree.notes.append(f"{missing} of {nominal} recordings of these people are not in the tree")


def _ou_mvlp(tree: Tree, start: str) -> None:
    person = _numbered(5, 10307)
    if not any(name.startswith("Silhouette_") for name in tree.folders(start)):
        _person_type_view(tree, start, person, OU_MVLP_TYPES, OU_MVLP_VIEWS_DEG)
        return
    sets = {f"Silhouette_{v:03d}-{kind}" for v in OU_MVLP_VIEWS_DEG for kind in OU_MVLP_TYPES}
    for path in fitting(tree, start, sets.__contains__):
        view, kind = Path(path).name.removeprefix("Silhouette_").split("-")
        for who in fitting(tree, path, person):
            tree.add(Path(who).name, kind, int(view), who)


def _numbered(digits: int, last: int) -> Callable[[str], bool]:
    """Return a test of names: numbers 1..last of so many ASCII digits."""
    form = re.compile(rf"[0-9]{{{digits}}}")
    return lambda name: bool(form.fullmatch(name)) and 1 <= int(name) <= last


def _three_levels(tree: Tree, start: str) -> None:
    """Read person/type/view with any names; a view that is no angle belongs to the sequence."""
    for who in fitting(tree, start, bool):
        for kind in fitting(tree, who, bool):
            for path in fitting(tree, kind, bool):
                person, sequence, view = Path(path).parts[-3:]
                if re.fullmatch(r"[0-9]{1,3}", view) and int(view) < 360:
                    tree.add(person, sequence, int(view), path)
                else:
                    tree.add(person, f"{sequence}/{view}", NO_VIEW, path)


def _grew(tree: Tree, start: str) -> None:
    """Read train/person/walk and test/gallery/person/walk, which both count people from 00001."""
    for part in ("train", "test/gallery"):
        if (tree.root / start / part).is_dir():
            for who in fitting(tree, f"{start}/{part}".lstrip("/"), bool):
                for walk in fitting(tree, who, bool):
                    tree.add(f"{part}/{Path(who).name}", Path(walk).name, NO_VIEW, walk)
    for part in ("test/probe", "test/distractors", "distractors", "distractor"):
        if (tree.root / start / part).is_dir():
            count = len(tree.folders(f"{start}/{part}".lstrip("/")))
            tree.notes.append(f"{count} recordings of {part} name no person and are left out")


def _folder(tree: Tree, start: str) -> None:
    """Read person/walk/images, or person/images of a person with one walk."""
    for who in fitting(tree, start, bool):
        walks = fitting(tree, who, bool)
        for walk in walks:
            tree.add(Path(who).name, Path(walk).name, NO_VIEW, walk)
        if not walks:
            tree.add(Path(who).name, "00", NO_VIEW, who)


LAYOUTS: Mapping[str, Layout] = {
    "casia-b": Layout(
        "CASIA-B",
        "{001…124}/{nm-01…06,bg-01…02,cl-01…02}/{000,018…180}/*.png",
        _casia_b,
        numbered=True,
        above=("GaitDatasetB-silh",),
        label=re.compile(r"([0-9]{3})-([a-z]{2}-[0-9]{2})-([0-9]{3})-[0-9]+\.png"),
        views_deg=CASIA_B_VIEWS_DEG,
    ),
    "ou-mvlp": Layout(
        "OU-MVLP",
        "Silhouette_{000…090,180…270}-{00,01}/{00001…10307}/*.png",
        _ou_mvlp,
        numbered=True,
        views_deg=OU_MVLP_VIEWS_DEG,
    ),
    "opengait-pkl": Layout("OpenGait pickles", "person/type/view/view.pkl", _three_levels),
    "gait3d": Layout(
        "Gait3D",
        "person/camid0_videoid2/seq0/*.png",
        _three_levels,
        crops=True,
        above=("2D_Silhouettes",),
    ),
    "grew": Layout(
        "GREW",
        "{train,test/gallery}/00001/4XPn5Z28/00001.png",
        _grew,
        crops=True,
        image=re.compile(r"[0-9]+\.png"),
    ),
    "folder": Layout("plain folders", "person/walk/*.png or person/*.png", _folder),
}
