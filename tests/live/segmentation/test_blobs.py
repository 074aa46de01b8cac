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
