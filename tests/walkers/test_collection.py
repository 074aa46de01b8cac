"""Recordings and collections of Walkers: sessions, cameras, layout, refused settings."""

from dataclasses import fields

import numpy as np
import pytest

from cstl_edge.walkers import collection, generate

SMALL_SET = {"recordings": {"nm": 2, "bg": 1, "cl": 1}, "frames": 2, "views_deg": (0, 90)}


def test_a_session_is_one_walk_for_all_cameras():
    one, other = generate.recording(5, "bg", 0), generate.recording(5, "bg", 90)
    for name in ("pace", "start_phase", "fit", "bag", "bag_side", "bag_size"):
        assert getattr(one, name) == getattr(other, name)
    assert np.array_equal(one.mood, other.mood)
    assert (one.fps, one.height_px, one.noise) != (other.fps, other.height_px, other.noise)


def test_conditions_add_a_bag_or_a_coat():
    for seed in range(12):
        normal, bag, coat = (generate.recording(seed, c) for c in generate.CONDITIONS)
        assert (normal.bag, normal.coat_bulk) == ("", 0.0)
        assert bag.bag in generate.BAGS
        assert coat.coat_bulk > 0.01
        assert coat.bag == ""


def test_recordings_cover_the_ranges_of_real_cameras():
    drawn = [generate.recording(seed) for seed in range(300)]
    fps = np.array([r.fps for r in drawn])
    assert 8 <= fps.min() <= fps.max() <= 30
    assert np.mean((fps >= 9.5) & (fps <= 12.5)) > 0.2
    heights = np.array([r.height_px for r in drawn])
    assert 50 <= heights.min() <= heights.max() <= 400
    assert 90 < np.median(heights) < 220


def test_overrides_replace_fields_by_name():
    walk = generate.recording(1, "nm", 18, fps=12.0, height_px=77)
    assert (walk.fps, walk.height_px, walk.view_deg) == (12.0, 77, 18.0)
    base = generate.recording(1, "nm", 18)
    same = [f.name for f in fields(walk) if f.name not in ("fps", "height_px", "mood", "posture")]
    assert all(getattr(walk, name) == getattr(base, name) for name in same)


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("condition", "xx", "nm, bg, cl"),
        ("seed", -1, "at least 0"),
        ("view_deg", float("nan"), "degrees"),
        ("hight_px", 9, "unknown field"),
        ("fps", 0.0, "fps"),
        ("height_px", 10_000, "height_px"),
        ("bag", "trolley", "backpack"),
        ("bag_side", "left", "Left or Right"),
    ],
)
def test_impossible_recordings_are_refused(name, value, words):
    with pytest.raises(ValueError, match=words):
        generate.recording(**{"seed": 1, "condition": "bg", name: value})


def test_impossible_frames_and_sizes_are_refused():
    who, walk = generate.person(1), generate.recording(1)
    with pytest.raises(ValueError, match="at least 1 frame"):
        generate.silhouettes(who, walk, 0)
    with pytest.raises(ValueError, match="expected a size"):
        generate.silhouettes(who, walk, 3, (64, 64))
    with pytest.raises(ValueError, match="at least 0"):
        generate.person(-3)


def test_a_set_has_the_layout_of_casia_b(monkeypatch):
    def blank(person, recording, frames, size):  # nobody looks at the 220 sequences
        return np.zeros((frames, *size), np.uint8)

    monkeypatch.setattr(collection, "silhouettes", blank)
    walkers = generate.generate([3, 8], frames=1, views_deg=generate.VIEWS_DEG)
    assert walkers.silhouettes.shape == (2 * 10 * 11, 1, 64, 44)
    assert walkers.people.tolist() == [3] * 110 + [8] * 110
    names = [f"nm-{i:02d}" for i in range(1, 7)] + ["bg-01", "bg-02", "cl-01", "cl-02"]
    assert walkers.sequences[:110:11].tolist() == names
    assert walkers.views_deg[:11].tolist() == list(range(0, 181, 18))
    assert all(s.startswith(c) for s, c in zip(walkers.sequences, walkers.conditions, strict=True))


def test_a_set_does_not_depend_on_workers_or_other_people():
    both = generate.generate([3, 8], **SMALL_SET)
    alone = generate.generate([8], **SMALL_SET)
    assert both.silhouettes[8:].tobytes() == alone.silhouettes.tobytes()
    parallel = generate.generate([3, 8], workers=2, **SMALL_SET)
    assert parallel.silhouettes.tobytes() == both.silhouettes.tobytes()


def test_recordings_of_a_set_all_differ():
    walkers = generate.generate([3], **SMALL_SET)
    flat = {s.tobytes() for s in walkers.silhouettes}
    assert len(flat) == len(walkers.silhouettes)
    other = generate.generate([3], seed=1, **SMALL_SET)
    assert walkers.silhouettes.tobytes() != other.silhouettes.tobytes()


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("ids", [], "ids"),
        ("ids", [1, 1], "ids"),
        ("recordings", {"xx": 1}, "conditions"),
        ("recordings", {"nm": 0}, "recordings"),
        ("frames", 0, "frames"),
        ("workers", 0, "workers"),
        ("size", (128, 68), "size"),
    ],
)
def test_impossible_sets_are_refused(name, value, words):
    with pytest.raises(ValueError, match=words):
        generate.generate(**{"ids": [1], **SMALL_SET, name: value})
