"""The layouts in which silhouettes are distributed: a tree of folders becomes a list of recordings.

A tree is only listed here, no file of it is opened. What does not fit the layout is an error that
shows what was expected and what was found, before anything is read or written. Where a dataset has
images, OpenGait's pickle of the same sequence is as good: CASIA-B keeps its numbers either way.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from cstl_edge.data.trees import NO_VIEW, Misfit, Recording, Tree, check_names, fitting, some
from cstl_edge.errors import DataError, one_line

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
