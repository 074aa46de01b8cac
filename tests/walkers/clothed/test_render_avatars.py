"""Rendering of avatars for training: stick figures of ten characters in two outfits each."""

import numpy as np
import pytest
from render_avatars import BONES, KEPT, Wardrobe, main, read_avatars

from cstl_edge.data.shards import ShardedSequences
from cstl_edge.errors import DataError
from cstl_edge.walkers.clothed import footage
from cstl_edge.walkers.clothed.session import make_session
from cstl_edge.walkers.person import make_person

JOINTS = {
    "Hips": (0, 0.98, 0), "Spine": (0, 1.02, 0), "Spine1": (0, 1.1, 0), "Spine2": (0, 1.2, 0),
    "Neck": (0, 1.44, 0.03), "Head": (0, 1.54, 0.06), "Shoulder": (0.03, 1.4, 0.02),
    "Arm": (0.16, 1.4, 0.02), "ForeArm": (0.43, 1.4, 0), "Hand": (0.65, 1.4, 0),
    "UpLeg": (0.08, 0.9, 0.05), "Leg": (0.08, 0.5, 0.05), "Foot": (0.08, 0.07, 0.03),
    "ToeBase": (0.08, 0.03, 0.15),
}  # fmt: skip


@pytest.fixture(autouse=True)
def untouched(monkeypatch):
    """Put back what the script replaces."""
    monkeypatch.setattr(footage, "dress", footage.dress)
    monkeypatch.setattr(footage, "landmarks", footage.landmarks)


def stored(characters=KEPT, without=()):
    names = [name for name in BONES.values() if name not in without]
    joints = np.array([mirrored(name) for name in names], np.float32)
    rng = np.random.default_rng(0)
    avatars = 2 * characters
    joint = np.repeat(np.arange(len(names)), 20)
    points = joints[joint] + rng.normal(size=(avatars, len(joint), 3)) * 0.03
    return {
        "names": np.array([f"C{i // 2:02d}_{'AB'[i % 2]}" for i in range(avatars)]),
        "points": points.astype(np.float16),
        "joint": np.tile(joint[:, None], (avatars, 1, 4)).astype(np.uint8),
        "weight": np.tile(np.array([255, 0, 0, 0], np.uint8), (avatars, len(joint), 1)),
        "joint_names": np.array(names), "joints": np.tile(joints, (avatars, 1, 1)),
    }  # fmt: skip


def mirrored(name):
    side = -1 if name.startswith("Right") else 1
    x, y, z = JOINTS[name.removeprefix("Left").removeprefix("Right")]
    return side * x, y, z


def written(path, **settings):
    np.savez(path, **stored(**settings))
    return path


def test_a_person_keeps_build_and_changes_outfits(tmp_path):
    avatars = read_avatars(written(tmp_path / "a.npz"))
    wardrobe = Wardrobe(avatars)

    def dressed(person, day):
        figure = wardrobe.dress(make_person(person), make_session(1, day, person, "nm", 90.0))
        return figure.heads, figure.skins[0][1]

    heads, skin = dressed(5, 0)
    days = [dressed(5, day) for day in range(1, 8)]
    assert all(np.array_equal(heads, other) for other, _ in days)  # a character has one skeleton
    assert any(not np.array_equal(skin, other) for _, other in days)  # in two outfits
    other, _ = dressed(5 + KEPT - 1, 0)  # the same character: nine are for training
    assert np.abs(other - heads).max() > 0.005  # of another build


def test_characters_for_a_test_are_kept_from_training(tmp_path):
    avatars = read_avatars(written(tmp_path / "a.npz", characters=2 * KEPT))
    skins = {
        test: {
            Wardrobe(avatars, test=test)
            .dress(make_person(p), make_session(1, 0, p, "nm", 90.0))
            .skins[0][1][:, 20:40]
            .tobytes()
            for p in range(2 * KEPT)
        }
        for test in (False, True)
    }
    assert skins[True]
    assert not skins[True] & skins[False]


def test_shards_are_walks_of_people(tmp_path, capsys):
    source, folder = written(tmp_path / "a.npz"), tmp_path / "shards"
    main([str(source), str(folder), "--people", "1", "--first", "7"])
    data = ShardedSequences(sorted(folder.glob("*.json")))
    assert set(data.people) == {7}
    assert len(data.people) == 5 * 4
    walk = data.read(0)
    assert walk.shape == (24, 64, 44)
    assert (walk > 0).any(axis=(1, 2)).all()
    assert (walk[0] != walk[6]).any()  # it moves


@pytest.mark.parametrize("settings", [{"characters": 3}, {"without": ("LeftFoot",)}])
def test_files_that_cannot_be_dressed_are_refused(tmp_path, settings):
    with pytest.raises(DataError, match="expected"):
        read_avatars(written(tmp_path / "b.npz", **settings))


def test_a_file_of_something_else_is_refused(tmp_path):
    path = tmp_path / "c.npz"
    path.write_bytes(b"nothing of the kind")
    with pytest.raises(DataError, match="not a file of avatars"):
        read_avatars(path)
