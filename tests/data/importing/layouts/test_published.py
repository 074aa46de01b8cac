"""Layouts of published datasets: recognised as distributed, every other tree refused by name."""

import os
import shutil

import pytest
from drawn_people import aligned, dump

from cstl_edge.data.importing.layouts import base
from cstl_edge.data.importing.layouts.open import LAYOUTS
from cstl_edge.errors import DataError


def find_recordings(root, name, **options):
    return base.find_recordings(root, LAYOUTS.load(name), **options)


def person_ids(recordings, name):
    return base.person_ids(recordings, LAYOUTS.load(name))


def test_every_name_of_the_table_is_a_layout():
    layouts = [LAYOUTS.load(name) for name in LAYOUTS]
    assert all(isinstance(layout, base.Layout) for layout in layouts)
    assert len({layout.title for layout in layouts}) == len(layouts)


def listed(tree):
    return [(r.person, r.sequence, r.view_deg) for r in tree.recordings]


@pytest.mark.parametrize(
    ("folder", "kind", "count", "ids", "first"),
    [
        ("casia_b", "casia-b", 22, [1, 124], [("001", "nm-01", 0), ("001", "nm-01", 18)]),
        ("ou_mvlp", "ou-mvlp", 42, [1, 10307], [("00001", "00", 0), ("00001", "00", 15)]),
        ("opengait", "opengait-pkl", 6, [0, 1],
         [("anna", "camid0_videoid2/seq0", -1), ("anna", "cl-01", 90), ("anna", "nm-01", 0)]),
        ("gait3d", "gait3d", 4, [0, 1],
         [("0000", "camid0_videoid2/seq0", -1), ("0000", "camid9_videoid1/seq1", -1)]),
        ("grew", "grew", 2, [0, 1],  # people of one number are two
         [("test/gallery/00001", "79XJefi8", -1), ("train/00001", "4XPn5Z28", -1)]),
        ("folders", "folder", 3, [0, 1],
         [("ada", "monday", -1), ("ada", "tuesday", -1), ("ben", "00", -1)]),
    ],
)  # fmt: skip
def test_each_dataset_is_recognised_as_distributed(request, folder, kind, count, ids, first):
    tree = find_recordings(request.getfixturevalue(folder), kind)
    assert len(tree.recordings) == count
    assert listed(tree)[: len(first)] == first
    people = sorted({recording.person for recording in tree.recordings})
    assert person_ids(tree.recordings, kind) == dict(zip(people, ids, strict=True))


def test_missing_and_left_out_recordings_are_noted(casia_b, grew):
    for root in (casia_b, casia_b / "GaitDatasetB-silh"):
        tree = find_recordings(root, "casia-b")
        assert tree.notes == ["198 of 220 recordings of these people are not in the tree"]
        assert len(tree.recordings) == 22
    notes = find_recordings(grew, "grew").notes
    assert notes == ["1 recordings of test/probe name no person and are left out"]


@pytest.mark.parametrize("kind", ["casia-b", "ou-mvlp"])
def test_the_same_tree_with_pickles_keeps_its_numbers(tmp_path, kind):
    person, sequence, views = {
        "casia-b": ("007", "bg-02", range(0, 181, 18)),
        "ou-mvlp": ("00007", "01", [*range(0, 91, 15), *range(180, 271, 15)]),
    }[kind]
    for v in views:
        dump(aligned(0)[None], tmp_path / person / sequence / f"{v:03d}" / f"{v:03d}.pkl")
    tree = find_recordings(tmp_path, kind)
    assert person_ids(tree.recordings, kind) == {person: 7}
    assert len(tree.recordings) == len(views)


@pytest.mark.parametrize("name", ["alice", "125", "000", "1", "0001", "٠٠١"])
def test_unknown_ids_of_casia_b_are_refused(casia_b, name):
    (casia_b / "GaitDatasetB-silh" / name).mkdir()
    with pytest.raises(DataError, match=rf"\{{001…124\}}.*found in .*GaitDatasetB-silh: {name}"):
        find_recordings(casia_b, "casia-b")


@pytest.mark.parametrize("place", ["001/nm-07", "001/jog-01", "001/nm-01/017", "001/nm-01/18"])
def test_unknown_types_and_views_of_casia_b_are_refused(casia_b, place):
    (casia_b / "GaitDatasetB-silh" / place).mkdir()
    with pytest.raises(DataError, match=f"expected the layout.*{place.split('/')[-1]}"):
        find_recordings(casia_b, "casia-b")


def test_a_view_missing_everywhere_is_refused_unless_partial(casia_b):
    for place in casia_b.glob("*/*/*/090"):
        shutil.rmtree(place)
    with pytest.raises(DataError, match=r"expected 11 views .*found none of 090.*--partial"):
        find_recordings(casia_b, "casia-b")
    assert len(find_recordings(casia_b, "casia-b", partial=True).recordings) == 20


def test_a_view_missing_once_is_noted(casia_b):
    shutil.rmtree(casia_b / "GaitDatasetB-silh" / "001" / "nm-01" / "090")
    tree = find_recordings(casia_b, "casia-b")
    assert tree.notes == ["199 of 220 recordings of these people are not in the tree"]


@pytest.mark.parametrize("kind", list(LAYOUTS))
def test_another_tree_is_refused_with_the_expected_and_the_found_layout(tmp_path, kind):
    (tmp_path / "001.tar.gz").write_bytes(b"")
    with pytest.raises(DataError, match=r"expected the layout of .*found in .*: 001\.tar\.gz") as e:
        find_recordings(tmp_path, kind)
    assert "\n" not in str(e.value)
    with pytest.raises(DataError, match="found none at"):
        find_recordings(tmp_path / "nowhere", kind)


def test_datasets_are_not_mistaken_for_each_other(casia_b, ou_mvlp):
    with pytest.raises(DataError, match="expected the layout of OU-MVLP"):
        find_recordings(casia_b, "ou-mvlp")
    with pytest.raises(DataError, match=r"found in .*: Silhouette_000-00"):
        find_recordings(ou_mvlp, "casia-b")


@pytest.mark.parametrize(
    ("name", "why"),
    [
        (b"\xff\xfe", "printable UTF-8"),
        (b"a\nb", "printable UTF-8"),
        (b"\x1b[31m", "printable UTF-8"),
        (b"x\\..\\..\\y", "backslash"),
        (b"x" * 250, "250 characters"),
    ],
)
def test_names_that_cannot_be_used_are_refused(folders, name, why):
    os.mkdir(os.fsencode(folders) + b"/" + name)
    with pytest.raises(DataError, match=why) as error:
        find_recordings(folders, "folder")
    assert str(error.value).isprintable()


def test_names_that_differ_by_case_are_refused(folders):
    shutil.copytree(folders / "ada", folders / "ADA")
    with pytest.raises(DataError, match="differ by more than case, got 'ADA' and 'ada'"):
        find_recordings(folders, "folder")


@pytest.mark.parametrize("name", ["~", "$(reboot)", "%2e%2e", "C:", "con", "<b>", "😀", "a b"])
def test_odd_printable_names_are_accepted(folders, name):
    (folders / "ben").rename(folders / name)
    assert name in {r.person for r in find_recordings(folders, "folder").recordings}


def test_links_out_of_the_source_are_not_followed(folders, tmp_path):
    outside = tmp_path / "outside" / "walk"
    outside.mkdir(parents=True)
    (folders / "eve").symlink_to(outside.parent)
    (folders / "ada" / "walk").symlink_to(outside)
    (folders / "ada" / "again").symlink_to(folders / "ada" / "monday")
    (folders / "loop").symlink_to(folders / "loop")
    tree = find_recordings(folders, "folder")
    assert sorted(tree.links) == ["ada/walk", "eve"]
    assert ("ada", "again", -1) in listed(tree)
    assert "eve" not in {r.person for r in tree.recordings}


def test_a_source_that_is_a_link_itself_is_accepted(folders, tmp_path):
    (tmp_path / "link").symlink_to(folders)
    assert len(find_recordings(tmp_path / "link", "folder").recordings) == 3
