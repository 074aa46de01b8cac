"""Trees of silhouettes in the exact layouts of the datasets, built without the code under test."""

import shutil

import numpy as np
import pytest
from drawn_people import aligned, draw, dump, save

CASIA_VIEWS = ["000", "018", "036", "054", "072", "090", "108", "126", "144", "162", "180"]
OU_VIEWS = [f"{view:03d}" for view in (*range(0, 91, 15), *range(180, 271, 15))]


def _casia_b(folder):
    """Two people of CASIA-B as distributed, one recording each from every view."""
    root = folder / "CASIA"
    for person in ("001", "124"):
        for view in CASIA_VIEWS:
            for i in range(1, 4):
                name = f"{person}-nm-01-{view}-{i:03d}.png"
                walker = draw(i + int(person), at=(80, 72), canvas=(160, 144))
                save(walker, root / "GaitDatasetB-silh" / person / "nm-01" / view / name)
    return root


def _ou_mvlp(folder):
    """Two people of OU-MVLP as distributed, where one was not seen a second time."""
    root = folder / "OUMVLP"
    for view in OU_VIEWS:
        for sequence, people in (("00", ["00001"]), ("01", ["00001", "10307"])):
            for person in people:
                place = root / f"Silhouette_{view}-{sequence}" / person
                for i in range(1, 3):
                    save(draw(i, 100, (160, 122), (320, 245)), place / f"{i:04d}.png")
    return root


def _opengait(folder):
    """Pickles of aligned silhouettes, person/type/view/view.pkl."""
    root = folder / "pkl"
    for person in ("anna", "zoe"):
        for kind, view in (("nm-01", "000"), ("cl-01", "090"), ("camid0_videoid2", "seq0")):
            walk = np.stack([aligned(i + len(person)) for i in range(4)])
            dump(walk, root / person / kind / view / f"{view}.pkl")
    return root


def _gait3d(folder):
    """Gait3D as distributed: images cut to the person, of many sizes."""
    root = folder / "Gait3D"
    for person in ("0000", "3999"):
        for place in ("camid0_videoid2/seq0", "camid9_videoid1/seq1"):
            for i in range(3):
                walker = draw(i, 100 + 10 * i)
                crop = walker.crop(walker.getbbox())
                save(crop, root / "2D_Silhouettes" / person / place / f"{i}.png")
    return root


def _grew(folder):
    """GREW as distributed: aligned silhouettes beside energy images, poses and strangers."""
    root = folder / "GREW"
    for place in ("train/00001/4XPn5Z28", "test/gallery/00001/79XJefi8", "test/probe/01DdvEHX"):
        walk = place.split("/")[-1]
        for i in range(1, 4):
            save(aligned(i), root / place / f"{i:05d}.png")
            (root / place / f"{i:05d}_2d_pose.txt").write_text("0")
        save(aligned(9), root / place / f"{walk}_gei.png")
    return root


def _folders(folder):
    """Plain folders: one person with two walks, one with the images of a single walk."""
    root = folder / "people"
    for place in ("ada/monday", "ada/tuesday", "ben"):
        for i in range(12):
            walker = draw(i + len(place), at=(80, 72), canvas=(160, 144))
            save(walker, root / place / f"frame{i}.png")
    return root


TREES = (_casia_b, _ou_mvlp, _opengait, _gait3d, _grew, _folders)
BUILDERS = {build.__name__.removeprefix("_"): build for build in TREES}


@pytest.fixture(scope="session")
def drawn(tmp_path_factory):
    """Draw each tree once; a test gets a copy of its own."""
    roots = {}

    def get(name):
        if name not in roots:
            roots[name] = BUILDERS[name](tmp_path_factory.mktemp(name))
        return roots[name]

    return get


@pytest.fixture
def left_out():
    """Patterns of files that a test's copy lacks."""
    return ()


def _fixture(name):
    def copy(drawn, tmp_path, left_out):
        root = drawn(name)
        ignore = shutil.ignore_patterns(*left_out)
        return shutil.copytree(root, tmp_path / root.name, ignore=ignore)

    return pytest.fixture(name=name)(copy)


casia_b, ou_mvlp, opengait, gait3d, grew, folders = map(_fixture, BUILDERS)
