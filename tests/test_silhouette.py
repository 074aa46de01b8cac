"""Silhouettes from masks: the alignment rule, its invariances, and files that are refused."""

import numpy as np
import pytest
from drawn_people import header_bomb
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from cstl_edge.errors import DataError
from cstl_edge.silhouette import (
    LARGE,
    SIZES,
    SMALL,
    Refusal,
    align,
    crop_aligned,
    implausible,
    read_image,
    read_silhouettes,
    refusal,
    touches_border,
)


def person(height=120, width=40, lean=0):
    """A head, a trunk and two legs, as a uint8 mask with the person in the middle of a margin."""
    rows, columns = np.mgrid[0:height, 0:width] / np.array([[[height]], [[width]]])
    columns = columns - lean * (0.5 - rows) * 0.2
    head = (rows - 0.08) ** 2 / 0.006 + (columns - 0.5) ** 2 / 0.03 < 1
    trunk = (abs(columns - 0.5) < 0.25) & (rows > 0.15) & (rows < 0.55)
    legs = (abs(abs(columns - 0.5) - 0.2 * rows) < 0.1) & (rows >= 0.55)
    return np.pad(((head | trunk | legs) * 255).astype(np.uint8), 10)


@pytest.mark.parametrize("size", SIZES)
def test_the_person_fills_the_height_and_stands_in_the_middle(size):
    silhouette = align(person(), size)
    assert (silhouette.shape, silhouette.dtype) == (size, np.uint8)
    assert silhouette[[0, -1]].max(axis=1).all()
    mass = silhouette.sum(axis=0).cumsum()
    assert abs(int(np.searchsorted(mass, mass[-1] / 2)) - size[1] // 2) <= 1


@settings(max_examples=40, deadline=None)
@given(top=st.integers(0, 60), left=st.integers(0, 60), size=st.sampled_from(SIZES))
def test_moving_the_person_changes_nothing(top, left, size):
    frame = np.zeros((240, 180), np.uint8)
    mask = person()
    frame[top : top + mask.shape[0], left : left + mask.shape[1]] = mask
    assert np.array_equal(align(frame, size), align(mask, size))


@settings(max_examples=25, deadline=None)
@given(height=st.integers(70, 400), lean=st.floats(-1, 1, allow_subnormal=False))
def test_scale_changes_little(height, lean):
    near = align(person(400, 132, lean)).astype(float)
    far = align(person(height, round(height * 0.33), lean)).astype(float)
    shifted = [np.roll(far, step, axis=1) for step in (-1, 0, 1)]  # the centre is a whole column
    assert min(np.abs(near - other).mean() for other in shifted) < 10  # of 255: the outline only


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_any_mask_gives_a_silhouette_or_one_reason(data):
    height, width = data.draw(st.integers(1, 90)), data.draw(st.integers(1, 90))
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    share = data.draw(st.floats(0, 1, allow_subnormal=False))
    mask = (rng.random((height, width)) < share).astype(np.uint8) * 255
    if refusal(mask) is None:
        silhouette = align(mask)
        assert silhouette.shape == SMALL
        assert 0 < silhouette.max() <= 255
    elif mask.any():
        assert refusal(mask) in set(Refusal) - {Refusal.EMPTY}


def test_unusable_masks_are_refused_each_with_its_reason():
    assert refusal(np.zeros((90, 40), np.uint8)) is Refusal.EMPTY
    assert refusal(person(40, 14)) is Refusal.TOO_SMALL
    assert refusal(person(), clipped=True) is Refusal.CLIPPED
    assert refusal(np.full((90, 40), 255, np.uint8)) is Refusal.NOT_PERSON
    assert refusal(np.full((90, 1), 255, np.uint8)) is Refusal.NOT_PERSON
    assert refusal(person(120, 200)) is Refusal.NOT_PERSON
    assert refusal(person()) is None


def test_touching_the_border_is_detected_on_each_side():
    mask = person()
    assert not touches_border(mask)
    for side in range(4):
        turned = np.rot90(mask, side).copy()
        turned[0, turned.shape[1] // 2] = 255
        assert touches_border(np.rot90(turned, -side))


def test_empty_and_line_shaped_masks_are_errors():
    with pytest.raises(DataError, match="empty"):
        align(np.zeros((64, 44), np.uint8))
    with pytest.raises(DataError, match="standing person"):
        align(np.full((2, 900), 255, np.uint8))


def test_the_width_of_88_is_never_cut_to_68():
    ready = np.zeros((3, 128, 88), np.uint8)
    assert crop_aligned(ready, LARGE).shape == (3, 128, 88)
    assert crop_aligned(np.zeros((3, 128, 128), np.uint8), LARGE).shape == (3, 128, 88)
    assert crop_aligned(np.zeros((3, 64, 64), np.uint8), SMALL).shape == (3, 64, 44)
    for wrong in ((3, 128, 88), (3, 128, 68), (3, 64, 88)):
        with pytest.raises(DataError, match="expected aligned silhouettes of 64x44"):
            crop_aligned(np.zeros(wrong, np.uint8), SMALL)


def test_folder_is_read_in_the_order_of_its_numbers(tmp_path):
    for number in (10, 2, 1):
        silhouette = np.zeros((64, 64), np.uint8)
        silhouette[:, 20 : 26 + number] = 255
        Image.fromarray(silhouette).save(tmp_path / f"frame{number}.png")
    walk = read_silhouettes(tmp_path)
    assert np.count_nonzero(walk[:, 0], axis=1).tolist() == [7, 8, 16]


def test_masks_are_aligned_and_unusable_ones_left_out(tmp_path):
    Image.fromarray(person()).save(tmp_path / "1.png")
    Image.fromarray(np.zeros((140, 60), np.uint8)).save(tmp_path / "2.png")
    assert np.array_equal(read_silhouettes(tmp_path), align(person())[None])
    (tmp_path / "1.png").unlink()
    with pytest.raises(DataError, match="1 empty"):
        read_silhouettes(tmp_path)


def test_walks_to_the_right_are_mirrored(tmp_path):
    walk = np.zeros((3, 64, 44), np.uint8)
    walk[:, :, :10] = 255
    np.save(tmp_path / "walk.npy", walk)
    assert np.array_equal(read_silhouettes(tmp_path / "walk.npy"), walk)
    mirrored = read_silhouettes(tmp_path / "walk.npy", mirrored=True)
    assert np.array_equal(mirrored, walk[..., ::-1])
    assert mirrored.flags.c_contiguous


def drawn_walk(count=20):
    """Aligned silhouettes of somebody who walks, 0 and 255."""
    walk = np.zeros((count, 64, 44), np.uint8)
    for frame, step in zip(walk, range(count), strict=True):
        frame[2:12, 18:26] = frame[12:36, 15:29] = 255
        for row in range(36, 63):
            reach = round(6 * np.sin(step / 3) * (row - 36) / 27)
            frame[row, 19 + reach : 24 + reach] = frame[row, 19 - reach : 24 - reach] = 255
    return walk


@pytest.mark.parametrize("kind", [np.uint8, np.bool_])
@pytest.mark.parametrize("value", [1, 200])
def test_zero_and_one_are_taken_as_zero_and_255_with_a_word(tmp_path, kind, value, caplog):
    walk = drawn_walk()
    np.save(tmp_path / "walk.npy", (walk // 255 * np.uint8(value)).astype(kind))
    assert np.array_equal(read_silhouettes(tmp_path / "walk.npy"), walk)
    assert "are taken as 0 and 255" in caplog.text
    (tmp_path / "images").mkdir()
    for number, frame in enumerate(walk):
        Image.fromarray(frame // 255 * np.uint8(value)).save(tmp_path / f"images/{number}.png")
    assert np.array_equal(read_silhouettes(tmp_path / "images"), walk)


NOISE = np.random.default_rng(0).integers(0, 256, (20, 64, 44), dtype=np.uint8)


@pytest.mark.parametrize(
    ("walk", "reason"),
    [
        (np.full_like(NOISE, 255), "everything is white"),
        (np.full_like(NOISE, 1), "nearly everything is black"),
        (np.zeros_like(NOISE), "nearly everything is black"),
        (255 - drawn_walk(), "the background is white"),
        (drawn_walk() // 255 ^ 1, "the background is white"),
        (NOISE, "they are grey"),
        (np.full_like(NOISE, 128), "they are grey"),
        (NOISE // 128 * np.uint8(255), "noise or a pattern"),
        (np.arange(64 * 44, dtype=np.uint8).reshape(1, 64, 44) % 2 * np.uint8(255), "noise"),
        (np.repeat([[0], [255]], 32, axis=0) * np.ones((9, 1, 44), np.uint8), "pattern"),
    ],
)
def test_values_that_show_nobody_are_refused_with_the_reason(tmp_path, walk, reason):
    np.save(tmp_path / "walk.npy", walk.astype(np.uint8))
    with pytest.raises(DataError, match=reason):
        read_silhouettes(tmp_path / "walk.npy")


def test_some_bad_frames_do_not_spoil_a_walk():
    walk = drawn_walk()
    walk[:9] = 255
    assert implausible(walk) is None
    walk[:11] = 255
    assert implausible(walk) == "everything is white"


def test_npy_is_read_without_pickles(tmp_path):
    np.save(tmp_path / "walk.npy", np.pad(drawn_walk(5), ((0, 0), (0, 0), (10, 10))))
    assert read_silhouettes(tmp_path / "walk.npy").shape == (5, 64, 44)
    np.save(tmp_path / "floats.npy", np.ones((5, 64, 64)))
    with pytest.raises(DataError, match="expected uint8"):
        read_silhouettes(tmp_path / "floats.npy")
    np.save(tmp_path / "objects.npy", np.array([{}], object), allow_pickle=True)
    with pytest.raises(DataError, match=r"objects\.npy"):
        read_silhouettes(tmp_path / "objects.npy")


def test_a_corrupt_image_is_an_error_with_its_name(tmp_path):
    Image.fromarray(person()).save(tmp_path / "1.png")
    whole = (tmp_path / "1.png").read_bytes()
    for content in (whole[: len(whole) // 2], b"", b"GIF89a"):
        (tmp_path / "2.png").write_bytes(content)
        with pytest.raises(DataError, match=r"2\.png"):
            read_silhouettes(tmp_path)


def test_a_huge_image_is_refused_from_its_header(tmp_path):
    (tmp_path / "bomb.png").write_bytes(header_bomb())
    with pytest.raises(DataError, match="900000000 pixels"):
        read_image(tmp_path / "bomb.png")


@pytest.mark.parametrize("mode", ["L", "1", "RGB", "RGBA", "LA", "P", "I;16"])
def test_every_kind_of_png_gives_the_same_mask(tmp_path, mode):
    grey = Image.fromarray(person())
    wide = np.asarray(grey).astype(np.uint16) * 257
    image = Image.fromarray(wide) if mode == "I;16" else grey.convert(mode)
    image.save(tmp_path / "m.png")
    assert np.array_equal(read_image(tmp_path / "m.png", grey=True), np.asarray(grey))


def test_a_missing_path_is_an_error_with_its_name(tmp_path):
    with pytest.raises(DataError, match="nobody"):
        read_silhouettes(tmp_path / "nobody")
    with pytest.raises(DataError, match="no images"):
        read_silhouettes(tmp_path)
