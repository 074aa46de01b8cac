"""Layouts in which public gait datasets are distributed, and plain folders.

Where a dataset has images, OpenGait's pickle of the same sequence is accepted in their place:
CASIA-B and OU-MVLP keep the numbers of their people either way.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from cstl_edge.data.importing.layouts.base import NO_VIEW, Layout, SourceTree

CASIA_B_TYPES = (
    *(f"nm-{i:02d}" for i in range(1, 7)),
    *(f"{kind}-{i:02d}" for kind in ("bg", "cl") for i in (1, 2)),
)
CASIA_B_VIEWS_DEG = tuple(range(0, 181, 18))
OU_MVLP_TYPES = ("00", "01")
OU_MVLP_VIEWS_DEG = (*range(0, 91, 15), *range(180, 271, 15))


def _list_casia_b(tree: SourceTree, start: str) -> None:
    views = {f"{view:03d}" for view in CASIA_B_VIEWS_DEG}
    name_tests = (_numbered(3, 124), CASIA_B_TYPES.__contains__, views.__contains__)
    _list_three_levels(tree, start, *name_tests)
    people = len({recording.person for recording in tree.recordings})
    nominal = people * len(CASIA_B_TYPES) * len(CASIA_B_VIEWS_DEG)
    if missing := nominal - len(tree.recordings):
        tree.notes.append(f"{missing} of {nominal} recordings of these people are not in the tree")


def _list_ou_mvlp(tree: SourceTree, start: str) -> None:
    """Read Silhouette_view-type/person, or person/type/view as OpenGait rearranges it."""
    person, views = _numbered(5, 10307), {f"{view:03d}" for view in OU_MVLP_VIEWS_DEG}
    if not any(name.startswith("Silhouette_") for name in tree.folders(start)):
        name_tests = (person, OU_MVLP_TYPES.__contains__, views.__contains__)
        _list_three_levels(tree, start, *name_tests)
        return
    sets = {f"Silhouette_{view}-{kind}" for view in views for kind in OU_MVLP_TYPES}
    for path in tree.descend(start, sets.__contains__, person):
        view, kind = Path(path).parts[-2].removeprefix("Silhouette_").split("-")
        tree.add(Path(path).name, kind, int(view), path)


def _numbered(digits: int, last: int) -> Callable[[str], bool]:
    """Return a test of names: numbers 1..last of so many ASCII digits."""
    form = re.compile(rf"[0-9]{{{digits}}}")
    return lambda name: bool(form.fullmatch(name)) and 1 <= int(name) <= last


def _list_three_levels(tree: SourceTree, start: str, *name_tests: Callable[[str], bool]) -> None:
    """Read person/type/view with the names that fit (without tests: any names).

    A view that is no angle belongs to the sequence.
    """
    for path in tree.descend(start, *(name_tests or (bool, bool, bool))):
        person, sequence, view = Path(path).parts[-3:]
        if re.fullmatch(r"[0-9]{1,3}", view) and int(view) < 360:
            tree.add(person, sequence, int(view), path)
        else:
            tree.add(person, f"{sequence}/{view}", NO_VIEW, path)


def _list_grew(tree: SourceTree, start: str) -> None:
    """Read train/person/walk and test/gallery/person/walk, which both count people from 00001."""
    for part in ("train", "test/gallery"):
        if (tree.root / start / part).is_dir():
            for path in tree.descend(f"{start}/{part}".lstrip("/"), bool, bool):
                person, walk = Path(path).parts[-2:]
                tree.add(f"{part}/{person}", walk, NO_VIEW, path)
    for part in ("test/probe", "test/distractors", "distractors", "distractor"):
        if (tree.root / start / part).is_dir():
            count = len(tree.folders(f"{start}/{part}".lstrip("/")))
            tree.notes.append(f"{count} recordings of {part} name no person and are left out")


def _list_folders(tree: SourceTree, start: str) -> None:
    """Read person/walk/images, or person/images of a person with one walk."""
    for person_folder in tree.matching(start, bool):
        walks = tree.matching(person_folder, bool)
        for walk in walks:
            tree.add(Path(person_folder).name, Path(walk).name, NO_VIEW, walk)
        if not walks:
            tree.add(Path(person_folder).name, "00", NO_VIEW, person_folder)


CASIA_B = Layout(
    "CASIA-B",
    "{001…124}/{nm-01…06,bg-01…02,cl-01…02}/{000,018…180}/*.png",
    _list_casia_b,
    numbered=True,
    parents=("GaitDatasetB-silh",),
    label=re.compile(r"([0-9]{3})-([a-z]{2}-[0-9]{2})-([0-9]{3})-[0-9]+\.png"),
    views_deg=CASIA_B_VIEWS_DEG,
)
OU_MVLP = Layout(
    "OU-MVLP",
    "Silhouette_{000…090,180…270}-{00,01}/{00001…10307}/*.png",
    _list_ou_mvlp,
    numbered=True,
    views_deg=OU_MVLP_VIEWS_DEG,
)
OPENGAIT_PKL = Layout("OpenGait pickles", "person/type/view/view.pkl", _list_three_levels)
GAIT3D = Layout(
    "Gait3D",
    "person/camid0_videoid2/seq0/*.png",
    _list_three_levels,
    cropped=True,
    parents=("2D_Silhouettes",),
)
GREW = Layout(
    "GREW",
    "{train,test/gallery}/00001/4XPn5Z28/00001.png",
    _list_grew,
    cropped=True,
    image=re.compile(r"[0-9]+\.png"),
)
FOLDER = Layout("plain folders", "person/walk/*.png or person/*.png", _list_folders)
