"""Blobs: fragments of one person are joined, neighbours parted, specks dropped."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cstl_edge.live.segmentation.blobs import (
    Blob,
    candidates,
    clean_foreground,
    mean_colours,
    valleys,
)

SHAPE = (240, 320)


def scene(*boxes: tuple[int, int, int, int]) -> np.ndarray:
    mask = np.zeros(SHAPE, np.uint8)
    for x, y, w, h in boxes:
        mask[y : y + h, x : x + w] = 255
    return mask


def boxes_of(mask: np.ndarray, expected=()) -> list[tuple[int, int, int, int]]:
    return sorted(blob.box for blob in candidates(mask, expected))


def test_parts_above_each_other_are_one_body() -> None:
    assert boxes_of(scene((100, 50, 30, 40), (102, 95, 28, 60))) == [(100, 50, 30, 105)]


def test_two_people_beside_each_other_stay_two() -> None:
    assert len(boxes_of(scene((100, 50, 30, 100), (145, 55, 30, 100)))) == 2


def test_far_fragments_join_only_where_a_person_is_expected() -> None:
    mask = scene((100, 50, 30, 30), (100, 130, 30, 40))
    assert len(boxes_of(mask)) == 2
    assert boxes_of(mask, [(98.0, 48.0, 34.0, 124.0)]) == [(100, 50, 30, 120)]


def person(x: int, y: int, h: int) -> tuple[tuple[int, int, int, int], ...]:
    """Return head and body, legs apart, of somebody whose middle is at a column."""
    legs = (x - h // 5, y + h // 2, h // 10, h // 2), (x + h // 10, y + h // 2, h // 10, h // 2)
    return (x - h // 10, y, h // 5, h // 2), (x - h // 5, y + h // 2, 2 * h // 5, h // 20), *legs


def test_a_far_person_beside_a_near_one_is_somebody_else() -> None:
    """Also where the tracker, who saw them come in as one blob, expects both in one box."""
    mask = scene(*person(100, 60, 60), *person(150, 40, 130))
    assert len(boxes_of(mask)) == 2
    assert len(boxes_of(mask, [(88.0, 40.0, 88.0, 130.0)])) == 2


def test_a_bag_beside_a_body_belongs_to_it() -> None:
    assert len(boxes_of(scene(*person(150, 40, 130), (118, 90, 16, 18)))) == 1


def test_a_person_parted_by_a_pole_is_one_where_a_person_is_expected() -> None:
    mask = scene(*person(150, 40, 130))
    mask[:, 146:154] = 0
    assert len(boxes_of(mask, [(122.0, 38.0, 56.0, 134.0)])) == 1


def test_a_band_of_the_scene_in_a_garments_colour_does_not_cut_a_person() -> None:
    """Each half would get a track, and who is expected in one half is never joined again."""
    x, y, h = 150, 40, 130
    whole = scene(*person(x, y, h))
    mask = whole.copy()
    mask[y + 55 : y + 59] = 0
    cleaned, parts = clean_foreground(mask, mask)
    assert len(parts) == 1
    assert np.count_nonzero(cleaned != whole) < 20  # corners
    (blob,) = candidates(cleaned, [(124.0, float(y + 58), 52.0, 74.0)], parts)
    assert blob.box[3] == h


def test_a_notch_in_the_outline_stays() -> None:
    mask = scene(*person(150, 40, 130))
    notch = np.s_[70:75, 137:142]  # between an arm and the hip
    mask[notch] = 0
    cleaned, _ = clean_foreground(mask, mask)
    assert not cleaned[71:74, 137:141].any()


def test_a_join_must_not_outgrow_the_person_who_is_expected() -> None:
    mask = scene((100, 100, 30, 100), (105, 80, 10, 12))
    assert boxes_of(mask) == [(100, 80, 30, 120)]
    expected = [(98.0, 125.0, 34.0, 78.0)]
    assert len(boxes_of(scene((100, 130, 30, 70), (105, 95, 10, 28)), expected)) == 2


def test_a_wide_blob_is_parted_at_the_valley_and_marked() -> None:
    blobs = candidates(scene((100, 50, 35, 110), (135, 90, 15, 30), (150, 55, 35, 105)))
    assert len(blobs) == 2
    assert all(blob.shared for blob in blobs)
    assert abs(blobs[1].box[0] - 143) < 12


def test_a_far_person_whose_feet_touch_a_near_one_is_parted_by_the_heads() -> None:
    """Narrower than two people side by side, and no column of the far one is half as high."""
    mask = scene((100, 48, 16, 60), *person(155, 40, 130), (114, 100, 20, 8))
    assert cv2.connectedComponents(mask)[0] == 2
    left, right = candidates(mask)
    assert left.shared
    assert right.shared
    assert 115 < right.box[0] < 135


@pytest.mark.parametrize("arm", [(178, 85, 12, 40), (172, 30, 8, 60), (108, 60, 40, 7)])
def test_a_bag_and_arms_down_up_or_out_are_no_second_head(arm: tuple[int, int, int, int]) -> None:
    mask = scene(*person(150, 40, 130), arm, (160, 84, 20, 6))
    (blob,) = candidates(mask)
    assert not blob.shared


def test_one_person_with_arms_out_is_not_parted() -> None:
    mask = scene((120, 40, 30, 120), (70, 60, 130, 12))
    assert valleys(mask[40:160, 70:200]) == []
    (blob,) = candidates(mask)
    assert not blob.shared


def test_a_blob_over_two_expected_people_is_shared() -> None:
    expected = [(100.0, 50.0, 35.0, 100.0), (115.0, 52.0, 35.0, 98.0)]
    (blob,) = candidates(scene((100, 50, 50, 100)), expected)
    assert blob.shared


@pytest.mark.parametrize(
    ("box", "clipped"),
    [((0, 50, 30, 90), True), ((100, 150, 30, 90), True), ((9, 9, 30, 90), False)],
)
def test_boxes_at_the_border_are_clipped(box: tuple[int, int, int, int], clipped: bool) -> None:
    (blob,) = candidates(scene(box))
    assert blob.clipped is clipped


def test_clean_drops_specks_and_weak_components_and_fills_small_holes() -> None:
    mask = scene((100, 50, 40, 100), (200, 50, 40, 100), (10, 10, 2, 2))
    mask[90:100, 115:125] = 0
    strong = scene((105, 60, 20, 60))
    cleaned, _ = clean_foreground(mask, strong)
    assert cleaned[95, 120] == 255
    assert not cleaned[:, 200:].any()
    assert not cleaned[:20, :20].any()


def test_small_blobs_are_dropped() -> None:
    assert candidates(scene((100, 100, 8, 10))) == []


@settings(max_examples=25, deadline=None)
@given(dx=st.integers(-60, 60), dy=st.integers(-40, 40))
def test_boxes_move_with_the_people(dx: int, dy: int) -> None:
    parts = [(100, 60, 30, 40), (102, 104, 28, 50), (180, 70, 30, 90)]
    moved = [(x + dx, y + dy, w, h) for x, y, w, h in parts]
    boxes = boxes_of(scene(*parts))
    assert boxes_of(scene(*moved)) == [(x + dx, y + dy, w, h) for x, y, w, h in boxes]


def test_colours_are_means_of_the_two_halves() -> None:
    pixels = np.zeros((*SHAPE, 3), np.uint8)
    pixels[50:100, :, 0], pixels[100:150, :, 0] = 200, 40
    (blob,) = candidates(scene((100, 50, 30, 100)))
    assert mean_colours(pixels, blob) == (200, 0, 0, 40, 0, 0)


def by_labels(foreground: np.ndarray, strong: np.ndarray) -> np.ndarray:
    """Return what `clean_foreground` returns, from labels of components, pixel by pixel."""
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (3, 3))
    closed = cv2.morphologyEx(cv2.medianBlur(foreground, 3), cv2.MORPH_CLOSE, kernel)
    tall = cv2.morphologyEx(closed, cv2.MORPH_CLOSE, np.ones((7, 1), np.uint8))
    closed |= cv2.morphologyEx(tall & ~closed, cv2.MORPH_OPEN, np.ones((1, 7), np.uint8))
    clean = np.zeros_like(closed)
    count, labels = cv2.connectedComponents(closed, connectivity=8)
    for label in range(1, count):
        part = labels == label
        rows, columns = np.nonzero(part)
        box = np.ptp(rows) + 1, np.ptp(columns) + 1
        holes, hole_labels, stats, _ = cv2.connectedComponentsWithStats(
            (~part).astype(np.uint8), connectivity=4
        )
        outside = set(
            np.concatenate([hole_labels[[0, -1]].ravel(), hole_labels[:, [0, -1]].ravel()])
        )
        for hole in set(range(1, holes)) - outside:
            if stats[hole, cv2.CC_STAT_AREA] < 0.04 * box[0] * box[1]:
                part |= hole_labels == hole
        sure = np.count_nonzero(part & (strong > 0))
        if part.sum() >= 0.00008 * part.size and sure >= 0.1 * part.sum():
            clean[part] = 255
    return clean


@pytest.mark.parametrize("seed", range(4))
def test_outlines_clean_as_labels_do(seed: int) -> None:
    rng = np.random.default_rng(seed)
    rough = cv2.GaussianBlur(rng.normal(0, 1, SHAPE).astype(np.float32), (0, 0), 4)
    foreground = np.where(rough > 0.04, 255, 0).astype(np.uint8)
    strong = np.where(rough > 0.13, 255, 0).astype(np.uint8)
    assert strong.any()
    (clean, parts), plain = clean_foreground(foreground, strong), by_labels(foreground, strong)
    assert np.count_nonzero(clean != plain) < 0.01 * np.count_nonzero(plain)
    # the components are those that outlines of the clean mask give
    known, anew = (sorted(candidates(clean, parts=p), key=box_of) for p in (parts, None))
    assert [blob.box for blob in known] == [blob.box for blob in anew]
    for a, b in zip(known, anew, strict=True):
        assert np.count_nonzero(a.mask != b.mask) <= 0.01 * np.count_nonzero(b.mask)


def box_of(blob: Blob) -> tuple[int, int, int, int]:
    return blob.box


def test_a_thin_streak_on_the_ground_is_nobody_but_a_crawler_who_is_expected() -> None:
    """The shadow of somebody outside reaches into the picture before them."""
    streak = np.zeros(SHAPE, np.uint8)
    cv2.line(streak, (0, 200), (60, 165), 255, 9)
    assert boxes_of(streak) == []
    x, y, w, h = cv2.boundingRect(streak)
    assert boxes_of(streak, [(x, y - 4, w, h)]) == [(x, y, w, h)]
