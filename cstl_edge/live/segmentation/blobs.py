"""Candidate persons of a foreground mask: clean it, join fragments, split groups, drop specks.

A person falls apart where clothes look like the wall (gaps are mostly horizontal bands) and merges
with somebody who walks beside. Fragments are joined when they fit inside one box that the tracker
expects, or stand above each other like parts of one body; a blob too wide for one body is split at
the valleys of its column mass, and the pieces are marked as shared. Lengths are in pixels at the
segmenter's working scale.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from cstl_edge.arrays import Bools, Bytes, Floats, Mask
from cstl_edge.live.boxes import (
    Box,
    box_iou,
    hides,
    intersection,
    mask_area,
    near_border,
    union_box,
)
from cstl_edge.live.segmentation.base import Colours
from cstl_edge.opencv import import_cv2

cv2 = import_cv2()

MAX_PARTS = 64  # largest components looked at; a disturbed scene has thousands
SPECK_SHARE = 0.00008  # of the frame's area: smaller components are noise
MIN_HEIGHT_SHARE = 0.06  # of the frame's height: nothing smaller is followed
STRONG_SHARE = 0.1  # of a component that has to be strong foreground
HOLE_SHARE = 0.04  # of a component's box: smaller holes are filled
JOIN_GAP = 0.12  # of the joined height: the widest gap inside one body
JOIN_ASPECT = 0.75  # width / height of a body put together from fragments
SMALL_PART = 0.12  # of the joined area: a fragment that may hang beside a body,
TALL_PART = 0.4  # of the joined height: but this is somebody farther away
BAND_SHARE = 0.025  # of the frame's height: the highest band of the scene that may cut a person
WIDE_ASPECT = 0.72  # width / height from which a blob may be several people,
HEADS_ASPECT = 0.45  # and from which it may be where two heads are seen
PEAK_MASS = 0.5  # of the blob's height: column mass at the middle of a person,
FAR_MASS = 0.35  # and of somebody farther away, whose head is
HEAD = 0.7  # of the blob's height above its foot: no leg, bag or arm that swings is there
PEAK_DISTANCE = 0.25  # of the height: from one person's middle to the next one's
VALLEY_DEPTH = 0.7  # of the lower peak: mass between two people
THIN = 0.5  # of its box that a blob wider than high fills: less is the shadow of somebody outside
UPRIGHT = 0.7  # of its height that a column of it fills: then somebody stands there
EXPECTED_IOU = 0.2  # with somebody who is expected there, from which it is no shadow


@dataclass(frozen=True)
class Blob:
    """One candidate person."""

    box: tuple[int, int, int, int]  # x, y, w, h
    mask: Mask  # [h, w], 0 or 255
    clipped: bool
    shared: bool = False


@dataclass(frozen=True)
class Part:
    """One connected component, its holes filled as far as they are small."""

    box: tuple[int, int, int, int]  # x, y, w, h
    mask: Mask  # [h, w], 0 or 255
    area: int


def clean_foreground(foreground: Mask, strong: Mask) -> tuple[Mask, list[Part]]:
    """Close gaps, drop specks and components without strong pixels, fill holes.

    Returns the mask [h, w] and its components, the largest first.
    """
    size = max(3, round(foreground.shape[0] / 140)) | 1
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (size, size))
    opened = cv2.medianBlur(foreground, 3)
    closed = _bridged(cv2.morphologyEx(opened, cv2.MORPH_CLOSE, kernel))
    speck = SPECK_SHARE * closed.size
    clean: Mask = np.zeros_like(closed)
    kept_parts = []
    for part in _parts(closed, speck):
        x, y, w, h = part.box
        place = np.s_[y : y + h, x : x + w]
        sure = mask_area(part.mask & strong[place])
        if sure >= STRONG_SHARE * part.area:
            if not (clean[place] & part.mask).any():  # else an island in a hole that was filled
                kept_parts.append(part)
            clean[place] |= part.mask
    return clean, kept_parts


def _bridged(mask: Mask) -> Mask:
    """Fill low gaps that are wider than high: a skirting board or a rail in a garment's colour.

    The narrow gaps where legs or an arm leave the body stay open.
    """
    x, y, w, h = cv2.boundingRect(mask)
    side = max(3, round(BAND_SHARE * mask.shape[0])) | 1
    if w < side or h < side:
        return mask
    part = np.ascontiguousarray(mask[y : y + h, x : x + w])
    closed = cv2.morphologyEx(part, cv2.MORPH_CLOSE, np.ones((side, 1), np.uint8))
    band = cv2.morphologyEx(closed & ~part, cv2.MORPH_OPEN, np.ones((1, side), np.uint8))
    bridged: Mask = mask.copy()
    bridged[y : y + h, x : x + w] |= band
    return bridged


def _parts(mask: Mask, least: float) -> list[Part]:
    """Return the components of a mask [h, w] with at least `least` pixels, the largest first.

    From outlines, which cost a third of labels with statistics. A hole that is small against its
    component is filled (a torso like the wall).
    """
    contours, tree = cv2.findContours(mask, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
    parts = []
    outer = [i for i in range(len(contours)) if tree[0][i][3] < 0]
    for i in outer:
        x, y, w, h = cv2.boundingRect(contours[i])
        if w * h < least:
            continue
        inside: Mask = np.zeros((h, w), np.uint8)
        cv2.drawContours(inside, contours, i, 255, cv2.FILLED, offset=(-x, -y))
        hole = tree[0][i][2]
        while hole >= 0:
            if cv2.contourArea(contours[hole]) >= HOLE_SHARE * w * h:
                cv2.drawContours(inside, contours, hole, 0, cv2.FILLED, offset=(-x, -y))
                cv2.drawContours(inside, contours, hole, 255, 1, offset=(-x, -y))
            hole = tree[0][hole][0]
        area = mask_area(inside)
        if area >= least:
            parts.append(Part((x, y, w, h), inside, area))
    return sorted(parts, key=lambda part: (-part.area, part.box))


def candidates(
    mask: Mask, expected: Sequence[Box] = (), parts: Sequence[Part] | None = None
) -> list[Blob]:
    """Return the candidate persons of a clean mask.

    Args:
        mask: uint8 [h, w], 0 or 255.
        expected: Boxes of known people.
        parts: Components of the mask, the largest first, where they are known already.
    """
    parts = _parts(mask, 1) if parts is None else parts
    groups = [_Group([part], part.box, part.area) for part in parts[:MAX_PARTS]]
    groups = _join_geometric(_join_expected(groups, expected))
    floor = MIN_HEIGHT_SHARE * mask.shape[0]
    blobs = []
    for group in groups:
        if group.box[3] >= floor:
            x, y, w, h = (int(v) for v in group.box)
            blob = Blob((x, y, w, h), group.mask(), near_border(group.box, mask.shape))
            blobs += _split(blob, mask.shape)
    blobs = [blob for blob in blobs if not _is_stray_shadow(blob, expected)]
    return [_mark_shared(blob, blobs, expected) for blob in blobs]


def _is_stray_shadow(blob: Blob, expected: Sequence[Box]) -> bool:
    """Return whether a blob lies on the ground: what a body outside the picture casts into it."""
    _, _, w, h = blob.box
    if blob.shared or w < h or mask_area(blob.mask) >= THIN * w * h:
        return False
    if np.count_nonzero(blob.mask, axis=0).max() >= UPRIGHT * h:
        return False
    return all(box_iou(blob.box, person) < EXPECTED_IOU for person in expected)


def _mark_shared(blob: Blob, blobs: Sequence[Blob], expected: Sequence[Box]) -> Blob:
    """Mark a blob that covers several expected people who have no blob of their own."""
    others = [b.box for b in blobs if b is not blob]
    hidden = sum(hides(blob.box, person, others) for person in expected)
    return replace(blob, shared=True) if hidden > 1 else blob


@dataclass
class _Group:
    """Components that are joined to one candidate."""

    parts: list[Part]
    box: Box
    area: int
    home: Box | None = None  # the expected person of whom this is a part

    def absorb(self, other: _Group) -> None:
        self.home = self.home or other.home
        self.parts += other.parts
        self.box = union_box(self.box, other.box)
        self.area += other.area

    def mask(self) -> Mask:
        """Return the mask of all parts on the box, [h, w]."""
        if len(self.parts) == 1:
            return self.parts[0].mask
        left, top, width, height = (int(v) for v in self.box)
        together: Mask = np.zeros((height, width), np.uint8)
        for part in self.parts:
            x, y, w, h = part.box
            together[y - top : y - top + h, x - left : x - left + w] |= part.mask
        return together


def _join_expected(groups: list[_Group], expected: Sequence[Box]) -> list[_Group]:
    """Join the fragments that lie in one expected box and in no other."""
    joined: list[_Group] = []
    leader: dict[int, _Group] = {}
    for group in groups:  # the largest first
        home = _home(group.box, expected)
        if home is not None and home in leader:
            if not _are_two(leader[home], group):
                leader[home].absorb(group)
                continue
        elif home is not None:
            leader[home] = group
            group.home = _grow(expected[home], 0.2)
        joined.append(group)
    return joined


def _home(box: Box, expected: Sequence[Box]) -> int | None:
    """Return the one expected box that holds most of `box`."""
    area = max(box[2] * box[3], 1.0)
    grown = [_grow(e, 0.1) for e in expected]
    inside = [i for i, e in enumerate(grown) if intersection(box, e) > 0.7 * area]
    return inside[0] if len(inside) == 1 else None


def _grow(box: Box, share: float) -> Box:
    x, y, w, h = box
    return x - share * w, y - share * h, w * (1 + 2 * share), h * (1 + 2 * share)


def _join_geometric(groups: list[_Group]) -> list[_Group]:
    """Join fragments until nothing fits any more."""
    while True:
        result: list[_Group] = []
        for group in groups:  # the largest first: small ones join what is there
            partner = next((g for g in result if _one_body(g, group)), None)
            if partner is None:
                result.append(group)
            else:
                partner.absorb(group)
        if len(result) == len(groups):
            return result
        groups = result


def _one_body(a: _Group, b: _Group) -> bool:
    x, y, w, h = union_box(a.box, b.box)
    gap_x, gap_y = w - a.box[2] - b.box[2], h - a.box[3] - b.box[3]
    if max(gap_x, gap_y) > JOIN_GAP * h or w > JOIN_ASPECT * h:
        return False
    homes = [home for home in (a.home, b.home) if home is not None]
    if any(intersection((x, y, w, h), home) < 0.9 * w * h for home in homes):
        return False  # together they would outgrow the person who is expected there
    if min(a.area, b.area) < SMALL_PART * (a.area + b.area):
        return not _are_two(a, b)
    return _overlap(a.box, b.box) > 0.5 and min(a.box[3], b.box[3]) < 0.7 * h


def _are_two(a: _Group, b: _Group) -> bool:
    """Return whether two groups stand beside each other like people, one of them farther away.

    What a pole parts, or hangs beside a body, is not as high or not as far from its middle.
    """
    height = union_box(a.box, b.box)[3]
    if _overlap(a.box, b.box) > 0.5 or min(a.box[3], b.box[3]) < TALL_PART * height:
        return False
    return abs(_middle(a, height) - _middle(b, height)) >= PEAK_DISTANCE * height


def _overlap(a: Box, b: Box) -> float:
    """Return the share of the narrower box's columns in the other, less than 0 where they gape."""
    shared = min(a[0] + a[2], b[0] + b[2]) - max(a[0], b[0])
    return shared / max(1.0, min(a[2], b[2]))


def _middle(group: _Group, height: float) -> float:
    """Return the column where most of a group is above each other, as for a body of a height."""
    return group.box[0] + float(_column_mass(group.mask(), height).argmax())


def _split(blob: Blob, shape: tuple[int, ...]) -> list[Blob]:
    """Split a blob of several people at the valleys of its column mass."""
    x, y, w, h = blob.box
    cuts = valleys(blob.mask) if w >= HEADS_ASPECT * h else []
    if not cuts:
        return [blob]
    parts = []
    for left, right in zip([0, *cuts], [*cuts, w], strict=True):
        piece = np.ascontiguousarray(blob.mask[:, left:right])
        column, row, width, height = cv2.boundingRect(piece)
        box = (x + left + column, y + row, width, height)
        crop = np.ascontiguousarray(piece[row : row + height, column : column + width])
        parts.append(Blob(box, crop, near_border(box, shape), shared=True))
    return parts


def valleys(mask: Mask) -> list[int]:
    """Return the columns at which a mask [h, w] of several people is cut, none for one person."""
    h, w = mask.shape
    smooth = _column_mass(mask, h)
    top = np.where(mask.any(axis=0), h - mask.argmax(axis=0), 0)  # above the foot
    upright = (smooth >= FAR_MASS * h) & (top >= HEAD * h)
    if w >= WIDE_ASPECT * h:
        upright |= smooth >= PEAK_MASS * h
    peaks: list[int] = []
    left = np.where(upright, smooth, -1.0)  # columns that may become peaks
    while left.size and left.max() >= 0:
        peak = int(left.argmax())
        peaks.append(peak)
        left[~_apart(smooth, peak, h)] = -1
    peaks.sort()
    return [a + int(smooth[a:b].argmin()) for a, b in itertools.pairwise(peaks)]


def _column_mass(mask: Mask, height: float) -> Floats:
    """Return the pixels of each column of a mask [h, w], smooth for a body of a height."""
    mass = np.count_nonzero(mask, axis=0).astype(np.float32)
    window = max(3, round(0.12 * height)) | 1
    smooth: Floats = cv2.blur(mass[None], (window, 1), borderType=cv2.BORDER_CONSTANT)[0]
    return smooth


def _apart(smooth: Floats, peak: int, height: int) -> Bools:
    """Return, for each column, whether a valley parts it from a peak."""
    lowest = np.empty_like(smooth)  # between the column and the peak
    lowest[: peak + 1] = np.minimum.accumulate(smooth[peak::-1])[::-1]
    lowest[peak:] = np.minimum.accumulate(smooth[peak:])
    far = np.abs(np.arange(len(smooth)) - peak) >= PEAK_DISTANCE * height
    return np.asarray(far & (lowest < VALLEY_DEPTH * np.minimum(smooth, smooth[peak])))


def mean_colours(pixels: Bytes, blob: Blob) -> Colours:
    """Return the mean colours of a blob's halves; pixels: uint8 YCrCb [h, w, 3] at its scale."""
    x, y, w, h = blob.box
    person = pixels[y : y + h, x : x + w]
    halves = slice(0, max(1, h // 2)), slice(h // 2, h)
    means = [cv2.mean(person[half], blob.mask[half])[:3] for half in halves]
    return tuple(float(value) for mean in means for value in mean)
