"""Reader of a recording's frames: alignment, dropped frames and their reasons."""

import os

import numpy as np
import pytest
from drawn_people import aligned, draw, dump, header_bomb, save
from PIL import Image

from cstl_edge.data.importing.frames import RecordingReader
from cstl_edge.data.importing.layouts.base import SourceRecording
from cstl_edge.data.importing.layouts.open import LAYOUTS
from cstl_edge.data.importing.safe_pickle import HostileFile
from cstl_edge.data.importing.settings import PrepareSettings
from cstl_edge.errors import DataError
from cstl_edge.silhouette import LARGE, align, read_image, refusal, touches_border

PLAIN = SourceRecording("ben", "00", -1, "ben")


def read(root, recording=PLAIN, **settings):
    options = PrepareSettings(**{"dataset": "folder", **settings})
    return RecordingReader(root, options, LAYOUTS.load(options.dataset)).read(recording)


def reasons(result):
    return [(drop.path.split("/")[-1], drop.reason) for drop in result.drops]


@pytest.fixture
def walk(tmp_path):
    """Six masks of one walk, ben/0.png to ben/5.png."""
    for i in range(6):
        save(draw(i), tmp_path / "ben" / f"{i}.png")
    return tmp_path


def test_masks_are_aligned_as_silhouette_align_does(walk):
    result = read(walk)
    masks = [read_image(walk / "ben" / f"{i}.png", grey=True) for i in range(6)]
    assert not any(refusal(mask, clipped=touches_border(mask)) for mask in masks)
    assert np.array_equal(result.frames, np.stack([align(mask) for mask in masks]))
    assert (result.files, result.drops) == (6, [])


@pytest.mark.parametrize(
    "fault", ["truncated", "no end", "empty", "text", "bomb", "bit", "folder", "pipe"]
)
def test_a_damaged_file_is_dropped_and_never_half_read(walk, fault):
    file = walk / "ben" / "3.png"
    intact = file.read_bytes()
    file.unlink()
    content = {
        "truncated": intact[: len(intact) * 2 // 3],
        "no end": intact[:-12],
        "empty": b"",
        "text": b"not an image",
        "bomb": header_bomb(),
        "bit": intact[:100] + bytes([intact[100] ^ 16]) + intact[101:],
    }
    if fault == "pipe":
        os.mkfifo(file)
    elif fault == "folder":
        file.mkdir()
    else:
        file.write_bytes(content[fault])
    result = read(walk)
    expected = "not a file" if fault in ("folder", "pipe") else "damaged"
    assert reasons(result) == [("3.png", expected)]
    assert str(walk) not in result.drops[0].detail
    assert (len(result.frames), result.files) == (5, 6)


@pytest.mark.parametrize("mode", ["1", "RGB", "RGBA", "LA", "P", "I;16"])
def test_every_kind_of_png_gives_the_same_silhouette(walk, mode):
    before = read(walk).frames
    grey = draw(3)
    wide = Image.fromarray(np.asarray(grey).astype(np.uint16) * 257)
    (wide if mode == "I;16" else grey.convert(mode)).save(walk / "ben" / "3.png")
    result = read(walk)
    assert np.array_equal(result.frames, before)
    assert result.drops == []


def whole_picture(value):
    return np.full((240, 320), value, np.uint8)


@pytest.mark.parametrize("gate", ["live", "field"])
def test_black_and_white_pictures_are_dropped_with_a_reason(walk, gate):
    save(whole_picture(0), walk / "ben" / "1.png")
    save(whole_picture(255), walk / "ben" / "2.png")
    save(whole_picture(100), walk / "ben" / "3.png")
    reasons_given = dict(reasons(read(walk, gate=gate)))
    assert reasons_given["1.png"] == reasons_given["3.png"] == "empty"
    expected = {"live": "clipped at the border", "field": "not person-shaped"}
    assert reasons_given["2.png"] == expected[gate]


def test_the_mask_rule_follows_the_dataset_unless_given():
    kinds = {"casia-b": "field", "ou-mvlp": "field", "folder": "live"}
    assert {kind: PrepareSettings(dataset=kind).mask_rule for kind in kinds} == kinds
    assert PrepareSettings(dataset="casia-b", gate="live").mask_rule == "live"


def test_the_live_gate_drops_what_the_live_path_drops(walk):
    save(draw(1, at=(5, 120)), walk / "ben" / "1.png")
    line = whole_picture(0)
    line[60:180, 100] = 255
    save(line, walk / "ben" / "2.png")
    save(draw(3, 30), walk / "ben" / "3.png")
    result = read(walk)
    assert reasons(result) == [
        ("1.png", "clipped at the border"),
        ("2.png", "not person-shaped"),
        ("3.png", "too small"),
    ]
    assert len(read(walk, gate="field").frames) == 6


def test_a_line_across_the_picture_is_not_person_shaped(walk):
    mask = whole_picture(0)
    mask[100, :] = 255
    save(mask, walk / "ben" / "1.png")
    assert reasons(read(walk, gate="field")) == [("1.png", "not person-shaped")]


@pytest.mark.parametrize(("h", "w"), [(64, 64), (64, 44), (128, 128), (128, 88)])
def test_aligned_silhouettes_are_cut_and_never_realigned(tmp_path, h, w):
    walk = np.stack([aligned(i, h, w) for i in range(3)])
    walk[1, : h // 2] = 0  # half a person: aligning again would stretch it
    walk[2, :, 0] = 255  # and the border is no reason
    for i, frame in enumerate(walk):
        save(frame, tmp_path / "ben" / f"{i}.png")
    result = read(tmp_path, size=(64, 44) if h == 64 else (128, 88))
    margin = {64: 10, 44: 0, 128: 20, 88: 0}[w]
    assert np.array_equal(result.frames, walk[:, :, margin : w - margin])
    assert result.drops == []


def test_of_aligned_silhouettes_only_empty_and_full_ones_are_dropped(tmp_path):
    for i, frame in enumerate([aligned(0), 0 * aligned(0), aligned(0) | 255, aligned(0) // 255]):
        save(frame, tmp_path / "ben" / f"{i}.png")
    result = read(tmp_path)
    noted = ("ben", "of 0 and 1, taken as 0 and 255")
    assert reasons(result) == [noted, ("1.png", "empty"), ("2.png", "not person-shaped")]
    assert result.frames[1].max() == 255


def test_a_recording_that_shows_nobody_is_a_bad_one(tmp_path):
    for i in range(5):
        save(255 - aligned(i), tmp_path / "ben" / f"{i}.png")
    result = read(tmp_path)
    assert result.frames is None
    assert reasons(result) == [("ben", "no silhouettes of a person")]


@pytest.mark.parametrize(("form", "size"), [((128, 68), LARGE), ((64, 24), (64, 44))])
def test_a_width_whose_margins_were_cut_twice_is_refused(tmp_path, form, size):
    for i in range(3):
        save(aligned(i, *form), tmp_path / "ben" / f"{i}.png")
    with pytest.raises(DataError, match=rf"ben: silhouettes of {form[0]}x{form[1]} .* twice"):
        read(tmp_path, size=size)


def test_silhouettes_of_the_other_size_are_a_wrong_setting(tmp_path):
    save(aligned(0, 128, 88), tmp_path / "ben" / "0.png")
    with pytest.raises(DataError, match=r"expected aligned .*64x44.* got 128x88.*--size"):
        read(tmp_path)
    assert read(tmp_path, size=LARGE).frames.shape == (1, 128, 88)


def test_the_majority_decides_whether_a_recording_is_aligned(walk):
    save(aligned(0), walk / "ben" / "6.png")  # one crop that happens to have an aligned form
    result = read(walk, gate="field")
    assert len(result.frames) == 7
    assert np.array_equal(result.frames[6], align(aligned(0)))
    for i in range(7, 20):
        save(aligned(i), walk / "ben" / f"{i}.png")
    result = read(walk)
    assert len(result.frames) == 14
    expected = {(f"{i}.png", "another size than its sequence") for i in range(6)}
    assert set(reasons(result)) == expected


def test_the_form_can_be_forced(walk, tmp_path):
    with pytest.raises(DataError, match=r"ben: expected aligned silhouettes .* got 240x320"):
        read(walk, form="aligned")
    save(aligned(0, 64, 44), tmp_path / "eve" / "0.png")
    eve = SourceRecording("eve", "00", -1, "eve")
    assert np.array_equal(read(tmp_path, eve).frames[0], aligned(0, 64, 44))
    forced = read(tmp_path, eve, form="raw", gate="field")
    assert np.array_equal(forced.frames[0], align(aligned(0, 64, 44)))


def test_long_sequences_are_cut_and_short_ones_dropped(walk):
    save(whole_picture(0), walk / "ben" / "0.png")
    result = read(walk, max_frames=3)
    assert len(result.frames) == 3
    assert sorted(reasons(result)) == [("0.png", "empty"), ("ben", "cut to the frame limit")]
    assert result.drops[0].detail == "from ben/4.png on, after 3 frames"
    assert len(read(walk, max_frames=5).drops) == 1
    result = read(walk, min_frames=6)
    assert result.frames is None
    assert reasons(result)[1] == ("ben", "too few frames")
    assert result.drops[1].detail == "5 usable, expected 6"


def test_a_recording_without_images_is_dropped_with_a_reason(tmp_path):
    (tmp_path / "ben").mkdir()
    (tmp_path / "ben" / "Thumbs.db").write_bytes(b"")
    result = read(tmp_path)
    assert (result.frames, result.files, reasons(result)) == (None, 0, [("ben", "no images")])


def test_a_recording_whose_folder_is_gone_is_damaged(tmp_path):
    assert read(tmp_path).drops[0].reason == "damaged"


def test_links_out_of_the_source_are_not_read(walk, tmp_path_factory):
    secret = tmp_path_factory.mktemp("secret") / "3.png"
    (walk / "ben" / "3.png").rename(secret)
    (walk / "ben" / "3.png").symlink_to(secret)
    (walk / "ben" / "6.png").symlink_to(walk / "ben" / "1.png")
    (walk / "ben" / "7.png").symlink_to("nowhere.png")
    result = read(walk)
    assert reasons(result) == [("3.png", "link out of the source"), ("7.png", "not a file")]
    assert len(result.frames) == 6


def test_an_image_named_for_somebody_else_is_dropped(casia_b):
    place = "GaitDatasetB-silh/001/nm-01/090"
    save(draw(1), casia_b / place / "124-nm-01-090-009.png")
    save(draw(1), casia_b / place / "001-cl-01-090-009.png")
    save(draw(1), casia_b / place / "009.png")  # as rearranged trees have it
    result = read(casia_b, SourceRecording("001", "nm-01", 90, place), dataset="casia-b")
    assert [reason for _, reason in reasons(result)] == ["named as of another recording"] * 2
    assert len(result.frames) == 4


def test_only_silhouettes_of_grew_are_read(grew):
    walk = SourceRecording("train/00001", "4XPn5Z28", -1, "train/00001/4XPn5Z28")
    result = read(grew, walk, dataset="grew")
    assert (len(result.frames), result.files, result.drops) == (3, 3, [])


def test_crops_may_touch_their_border(gait3d):
    walk = SourceRecording("0000", "x", -1, "2D_Silhouettes/0000/camid0_videoid2/seq0")
    assert len(read(gait3d, walk, dataset="gait3d").frames) == 3
    assert {reason for _, reason in reasons(read(gait3d, walk))} >= {"clipped at the border"}


def test_a_dropped_frame_of_a_pickle_is_reported_by_number(tmp_path):
    walk = np.stack([aligned(0), 0 * aligned(0), aligned(2)])
    dump(walk, tmp_path / "ben" / "ben.pkl")
    result = read(tmp_path)
    assert reasons(result) == [("ben.pkl#1", "empty")]
    assert np.array_equal(result.frames, walk[[0, 2], :, 10:54])
    assert result.files == 1
    dump(walk, tmp_path / "ben" / "more.pkl")
    expected = ["several pickles for one sequence", "too few frames"]
    assert reasons(read(tmp_path)) == [("ben", reason) for reason in expected]


def test_a_hostile_pickle_ends_the_reading(tmp_path):
    (tmp_path / "ben").mkdir()
    (tmp_path / "ben" / "ben.pkl").write_bytes(b"cos\nsystem\n(S'true'\ntR.")
    with pytest.raises(HostileFile, match=r"ben\.pkl names os\.system"):
        read(tmp_path)


@pytest.mark.parametrize("seed", range(40))
def test_a_damaged_png_gives_a_frame_or_a_reason(walk, seed):
    file, rng = walk / "ben" / "0.png", np.random.default_rng(seed)
    content = bytearray(file.read_bytes())
    for place in rng.integers(0, len(content), rng.integers(1, 6)):
        content[place] = rng.integers(256)
    file.write_bytes(content[: len(content) if seed % 2 else rng.integers(len(content))])
    result = read(walk)
    assert len(result.frames) + len(result.drops) == 6
