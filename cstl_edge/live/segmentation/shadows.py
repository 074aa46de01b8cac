"""Cast shadows in the foreground: the scene seen darker, where it lies or shows through.

A shadow scales the light of the scene: darker, nearly the same hue. Much of a person may look so,
dark trousers before a grey wall for instance, so that the colour alone decides nothing. Two things
decide. *Where it lies*: a shadow on the ground is flat, sticks out at the feet, and has nothing
solid above or below it in its column, while a garment has a body around it. *What shows through*:
inside a shadow the luma follows that of the background. Texture is compared inside the candidate
region alone, since the shadow's own edge would hide every texture near it. Letters: `h w` pixels at
the working scale, or at half of it; colours are YCrCb.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from cstl_edge.arrays import Bools, Bytes, Floats, Ints, Mask
from cstl_edge.opencv import import_cv2

cv2 = import_cv2()
NEAREST: int = cv2.INTER_NEAREST

Shorts = npt.NDArray[np.int16]

HIGH = 124  # of 128: luma / luma of the background, at most, inside a shadow
SURE_LOW, SURE_CHROMA = 64, 6  # of 128, at least; chroma difference after scaling with luma
DEEP_LOW, DEEP_CHROMA = 45, 14  # the same of a deep or bluish one, which has to lie flat as well
FLAT = 0.25  # of the body's height: a column of a shadow on the ground is no higher
LOW = 0.5  # of the body's height, from above: where it begins
WIDE = 0.2  # of the body's height: a foot is narrower
LYING_ASPECT = 1.3  # row / column of a shadow on the ground, through a pixel of it: a leg is higher
SOLID_SHARE = 0.15  # of a component: below it is no body
DETACHED_ASPECT = 1.5  # width / height of a shadow apart from its body: legs apart are narrower
TEXTURE_SIDE = 7  # pixels of the window, at half resolution, in which texture is compared
TEXTURE = 12.0  # variance of luma from which a window of the background has a texture
SAME_TEXTURE = 0.6  # correlation of luma that shows the scene through a shadow
MARGIN = 4  # pixels around the foreground, at half resolution
ANY, HALF = 64, 128  # of 255: a pixel of half resolution is foreground in part, or mostly
LEAST_SHARE = 0.2  # of a window: fewer candidates decide nothing


def shadow_mask(pixels: Bytes, background: Bytes, weak: Mask) -> Mask:
    """Return uint8 [h, w], 255 where foreground is the scene in shadow.

    Args:
        pixels: uint8 YCrCb [h, w, 3], the frame.
        background: uint8 YCrCb [h, w, 3].
        weak: uint8 [h, w], 0 or 255, the foreground.
    """
    small_weak = _halved(weak)
    x, y, w, h = cv2.boundingRect(small_weak)
    shadow = np.zeros_like(small_weak)
    if w:
        part = np.s_[max(0, y - MARGIN) : y + h + MARGIN, max(0, x - MARGIN) : x + w + MARGIN]
        images = (_halved(pixels), _halved(background), small_weak)
        small, scene, inside = (np.ascontiguousarray(image[part]) for image in images)
        shadow[part] = _small_shadow(small, scene, inside)
    enlarged: Mask = cv2.resize(shadow, weak.shape[::-1], interpolation=NEAREST)
    return weak & enlarged


def _halved(image: Bytes) -> Bytes:
    """Return a picture or mask at half resolution: shadows are larger than a pixel."""
    size = (image.shape[1] + 1) // 2, (image.shape[0] + 1) // 2
    small: Bytes = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    return small


def _small_shadow(pixels: Bytes, background: Bytes, weak: Bytes) -> Mask:
    """Return the shadow, all at half resolution; weak: mean of the foreground, 0..255."""
    inside = cv2.compare(weak, ANY, cv2.CMP_GE)
    sure, deep = _candidates(pixels, background, inside)
    if not cv2.countNonZero(deep):
        return deep
    body = cv2.compare(weak, HALF, cv2.CMP_GE)
    shadow: Mask = _flat(body, _solid(body, deep), deep)
    rest = sure & ~shadow
    if cv2.countNonZero(rest):
        seen_through = _follows_texture(pixels[:, :, 0], background[:, :, 0], sure) & rest
        if cv2.countNonZero(seen_through):
            shadow |= seen_through & ~_runs(body, _solid(body, sure)).between
    return shadow


def _candidates(pixels: Bytes, background: Bytes, weak: Mask) -> tuple[Mask, Mask]:
    """Return where the foreground has the colour of a shadow: surely, and of a deep one."""
    luma, *chroma = (plane.astype(np.int16) for plane in cv2.split(pixels))
    scene, *scene_chroma = (plane.astype(np.int16) for plane in cv2.split(background))
    luma >>= 1  # products of 128 times a luma stay in 16 bits
    scene >>= 1
    # a shadow scales the colour with the luma: c - 128 = luma / scene * (scene's c - 128)
    away = [
        np.abs((c - 128) * scene - (s - 128) * luma)
        for c, s in zip(chroma, scene_chroma, strict=True)
    ]
    chroma_away: Shorts = np.maximum(*away)
    ratio = luma << 7
    darker = (ratio < HIGH * scene) & (weak > 0)
    deep = darker & (ratio > DEEP_LOW * scene) & (chroma_away < DEEP_CHROMA * scene)
    sure = deep & (ratio > SURE_LOW * scene) & (chroma_away < SURE_CHROMA * scene)
    return _mask(sure), _mask(deep)


def _mask(truth: Bools) -> Mask:
    """Return a mask, 255 where `truth` [h, w] is."""
    return np.asarray(truth.view(np.uint8) * np.uint8(255))


def _solid(foreground: Mask, candidates: Mask) -> Mask:
    """Return where foreground is surely no shadow, single pixels left out: uint8 [h, w]."""
    solid: Mask = cv2.medianBlur(foreground & ~candidates, 3)
    return solid


@dataclass(frozen=True)
class _Runs:
    """Of each foreground pixel, the run of its column without a gap: [h, w]."""

    lengths: Shorts
    first: Shorts  # the run's first row
    above: Mask  # 255 where something is solid in the run above the pixel, or at it
    below: Mask

    @property
    def between(self) -> Mask:
        """255 where something solid is both above and below."""
        return self.above & self.below


def _runs(foreground: Mask, solid: Mask) -> _Runs:
    """Walk the columns of a foreground [h, w] down and up."""
    height = foreground.shape[0]
    rows = np.arange(height, dtype=np.int16)[:, None]
    gap = foreground == 0
    last_gap = np.maximum.accumulate(np.where(gap, rows, np.int16(-1)), axis=0)
    last_solid = np.maximum.accumulate(np.where(solid, rows, np.int16(-1)), axis=0)
    back, end = slice(None, None, -1), np.int16(height)
    next_gap = np.minimum.accumulate(np.where(gap, rows, end)[back], axis=0)[back]
    next_solid = np.minimum.accumulate(np.where(solid, rows, end)[back], axis=0)[back]
    above, below = last_solid > last_gap, next_solid < next_gap
    first: Shorts = last_gap + np.int16(1)
    return _Runs(next_gap - first, first, _mask(above), _mask(below))


def _flat(foreground: Mask, solid: Mask, candidates: Mask) -> Mask:
    """Return uint8 [h, w]: candidates that lie on the ground beside a body, or apart from one."""
    count, labels, stats, _ = cv2.connectedComponentsWithStats(foreground, connectivity=8)
    areas, heights = stats[:, cv2.CC_STAT_AREA], stats[:, cv2.CC_STAT_HEIGHT]
    solid_areas = np.bincount(labels[solid > 0], minlength=count)
    with_body = solid_areas > SOLID_SHARE * areas
    apart = ~with_body & (stats[:, cv2.CC_STAT_WIDTH] > DETACHED_ASPECT * heights)
    with_body[0] = apart[0] = False
    # limits of each pixel's component, 0 outside of bodies
    most = np.where(with_body, np.ceil(FLAT * heights), 0).astype(np.int16)[labels]
    top = (stats[:, cv2.CC_STAT_TOP] + LOW * heights).astype(np.int16)[labels]
    runs = _runs(foreground, solid)
    lies = (runs.lengths < most) & (runs.first > top)
    lying = _mask(lies) & candidates & ~(runs.above | runs.below)
    lying &= _mask(_row_lengths(lying) > LYING_ASPECT * runs.lengths)
    alone: Mask = _mask(apart)[labels] & candidates
    return _wide(lying, labels, heights) | alone


def _row_lengths(region: Mask) -> Shorts:
    """Return [h, w]: how long the run of the region is in the row of each of its pixels."""
    width = region.shape[1]
    columns = np.arange(width, dtype=np.int16)
    last_gap = np.maximum.accumulate(np.where(region, np.int16(-1), columns), axis=1)
    back, end = np.s_[:, ::-1], np.int16(width)
    next_gap = np.minimum.accumulate(np.where(region, end, columns)[back], axis=1)[back]
    lengths: Shorts = next_gap - last_gap - np.int16(1)
    return lengths


def _wide(lying: Mask, labels: Ints, heights: Ints) -> Mask:
    """Keep the regions that are wide against the body that they touch.

    Args:
        lying: uint8 [h, w], 0 or 255.
        labels: int32 [h, w], the component of each pixel.
        heights: Of each component.
    """
    count, regions, stats, _ = cv2.connectedComponentsWithStats(lying, connectivity=8)
    if count == 1:
        return lying
    inside = lying > 0
    body = np.zeros(count, np.int32)
    body[regions[inside]] = heights[labels[inside]]
    keep = stats[:, cv2.CC_STAT_WIDTH] > WIDE * body
    keep[0] = False
    wide: Mask = _mask(keep)[regions]
    return wide


def _follows_texture(luma: Bytes, background: Bytes, candidates: Mask) -> Mask:
    """Return 255 where a window's luma follows the background's, all uint8 [h, w].

    Args:
        luma: Of the frame.
        background: Luma of the background.
        candidates: Pixels that count, 0 or 255: the shadow's edge is no texture.
    """
    weight = candidates.astype(np.float32) / 255
    window = (TEXTURE_SIDE, TEXTURE_SIDE)
    share: Floats = np.maximum(cv2.blur(weight, window), 1e-3)
    a, b = (image.astype(np.float32) * weight for image in (luma, background))
    mean_a, mean_b, aa, bb, ab = (cv2.blur(v, window) / share for v in (a, b, a * a, b * b, a * b))
    var_a, var_b, covariance = aa - mean_a * mean_a, bb - mean_b * mean_b, ab - mean_a * mean_b
    follows = covariance > SAME_TEXTURE * np.sqrt(np.maximum(var_a * var_b, 1e-6))
    alike = np.where(var_b < TEXTURE, var_a < TEXTURE, follows)
    return _mask(alike & (share > LEAST_SHARE))
