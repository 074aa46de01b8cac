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

from cstl_edge.arrays import Bools, Bytes, Floats, Indices, Ints, Mask
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
    shadow: Mask = np.zeros_like(weak)
    x, y, w, h = cv2.boundingRect(weak)
    if not w:
        return shadow
    # begins at an even pixel, so that the halves are those of the whole picture
    left, top = (max(0, n - 2 * MARGIN) & ~1 for n in (x, y))
    right, bottom = ((n + 2 * MARGIN + 1) & ~1 for n in (x + w, y + h))
    part = np.s_[top:bottom, left:right]
    inside = weak[part]
    small = _small_shadow(_halved(pixels[part]), _halved(background[part]), _halved(inside))
    shadow[part] = inside & cv2.resize(small, inside.shape[::-1], interpolation=NEAREST)
    return shadow


def _halved(image: Bytes) -> Bytes:
    """Return a picture or mask at half resolution: shadows are larger than a pixel."""
    size = (image.shape[1] + 1) // 2, (image.shape[0] + 1) // 2
    small: Bytes = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    return small


def _small_shadow(pixels: Bytes, background: Bytes, weak: Bytes) -> Mask:
    """Return the shadow, all at half resolution; weak: mean of the foreground, 0..255."""
    inside = _at_least(weak, ANY)
    sure, deep = _candidates(pixels, background, inside)
    if not cv2.countNonZero(deep):
        return deep
    body = _at_least(weak, HALF)
    shadow: Mask = _flat(body, _solid(body, deep), deep)
    rest: Mask = cv2.medianBlur(sure & ~shadow, 3)
    x, y, w, h = cv2.boundingRect(rest)
    if w:
        part = np.s_[max(0, y - MARGIN) : y + h + MARGIN, max(0, x - MARGIN) : x + w + MARGIN]
        a, b = (np.ascontiguousarray(image[part][..., 0]) for image in (pixels, background))
        seen_through = _follows_texture(a, b, sure[part], rest[part])
        whole_columns = np.s_[:, part[1]]
        enclosed = _between(body[whole_columns], _solid(body, sure)[whole_columns])[part[0]]
        shadow[part] |= seen_through & ~enclosed
    return shadow


def _at_least(picture: Bytes, least: int) -> Mask:
    """Return 255 where a picture is `least` or more; `cv2.compare` takes 20 times as long."""
    mask: Mask = cv2.threshold(picture, least - 1, 255, cv2.THRESH_BINARY)[1]
    return mask


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
    """Runs of the rows of a mask [h, w]: `starts` and `ends` count along its padded rows.

    A row is padded by one pixel, so that no run goes on in the next one.
    """

    shape: tuple[int, int]
    starts: Indices
    ends: Indices

    @classmethod
    def of(cls, mask: Mask) -> _Runs:
        """Return the runs of a mask, row by row."""
        padded = _padded(mask)
        changes = np.flatnonzero(padded[1:] != padded[:-1])
        return cls((mask.shape[0], mask.shape[1]), changes[::2], changes[1::2])

    @property
    def lengths(self) -> Indices:
        """Pixels of each run."""
        return self.ends - self.starts

    def places(self) -> tuple[Indices, Indices]:
        """Return row and column of each run's first pixel."""
        rows, columns = np.divmod(self.starts, self.shape[1] + 1)
        return rows, columns

    def contain(self, mask: Mask) -> Bools:
        """Return, for each run, whether a mask of the same shape has a pixel in it."""
        if not len(self.starts):
            return np.zeros(0, np.bool_)
        both = np.stack([self.starts, self.ends], axis=1).ravel()
        return np.asarray(np.maximum.reduceat(_padded(mask)[1:], both)[::2] > 0)

    def painted(self, values: Indices) -> Shorts:
        """Return [h, w]: in the pixels of each run its value, 0 elsewhere."""
        steps = np.zeros(self.shape[0] * (self.shape[1] + 1), np.int16)
        steps[self.starts], steps[self.ends] = values, -values
        return np.cumsum(steps, dtype=np.int16).reshape(self.shape[0], -1)[:, :-1]  # [h, w]


def _padded(mask: Mask) -> Mask:
    """Return the pixels of a mask [h, w] behind one 0, each row with one behind it."""
    height, width = mask.shape
    padded = np.zeros(1 + height * (width + 1), np.uint8)
    padded[1:].reshape(height, -1)[:, :-1] = mask  # [h, w + 1]
    return padded


def _between(foreground: Mask, solid: Mask) -> Mask:
    """Return 255 where the column's run has something solid both above and below the pixel."""
    runs, places = _Runs.of(foreground.T), _padded(solid.T)[1:]
    firsts, lasts = np.zeros((2, len(runs.starts)), np.int64)
    where = np.flatnonzero(places > 0)
    if len(where):
        begin, end = where.searchsorted(runs.starts), where.searchsorted(runs.ends)
        inside = end - begin > 1
        firsts[inside], lasts[inside] = where[begin[inside]], where[end[inside] - 1]
    kept = lasts > firsts
    enclosed = _Runs(runs.shape, firsts[kept], lasts[kept])
    return _mask(np.ascontiguousarray(enclosed.painted(enclosed.lengths).T) > 0)


def _flat(foreground: Mask, solid: Mask, candidates: Mask) -> Mask:
    """Return uint8 [h, w]: candidates that lie on the ground beside a body, or apart from one."""
    count, labels, stats, _ = cv2.connectedComponentsWithStats(foreground, connectivity=8)
    areas, heights = stats[:, cv2.CC_STAT_AREA], stats[:, cv2.CC_STAT_HEIGHT]
    solid_areas = np.bincount(labels[solid > 0], minlength=count)
    with_body = solid_areas > SOLID_SHARE * areas
    apart = ~with_body & (stats[:, cv2.CC_STAT_WIDTH] > DETACHED_ASPECT * heights)
    with_body[0] = apart[0] = False
    alone: Mask = np.zeros_like(candidates)
    if apart.any():
        alone = _mask(apart)[labels] & candidates
    # the runs of columns, each in one component; one with a body has room for flat ones
    runs = _Runs.of(foreground.T)
    columns, rows = runs.places()
    component = labels[rows, columns]
    lies = with_body[component] & (runs.lengths < FLAT * heights[component])
    lies &= rows > (stats[:, cv2.CC_STAT_TOP] + LOW * heights)[component]
    lies &= ~runs.contain(solid.T)
    if not lies.any():
        return alone
    rise = np.ascontiguousarray(runs.painted(lies * runs.lengths).T)  # of each pixel's run
    lying = _mask(rise > 0) & candidates
    across = _Runs.of(lying)
    lying &= _mask(across.painted(across.lengths) > LYING_ASPECT * rise)
    return alone | _wide(lying, labels, heights)


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


def _follows_texture(luma: Bytes, background: Bytes, candidates: Mask, asked: Mask) -> Mask:
    """Return 255 where a window's luma follows the background's, all uint8 [h, w].

    Args:
        luma: Of the frame.
        background: Luma of the background.
        candidates: Pixels that count, 0 or 255: the shadow's edge is no texture.
        asked: Pixels of interest, 0 or 255.
    """
    where = np.flatnonzero(asked > 0)
    one = (candidates > 0).astype(np.float32)
    a, b = (one * image.astype(np.float32) for image in (luma, background))

    def mean(values: Floats) -> Floats:
        averaged: Floats = cv2.blur(values, (TEXTURE_SIDE, TEXTURE_SIDE))
        return averaged.ravel()[where]

    share = np.maximum(mean(one), 1e-3)
    mean_a, mean_b, aa, bb, ab = (mean(product) / share for product in (a, b, a * a, b * b, a * b))
    var_a, var_b, covariance = aa - mean_a * mean_a, bb - mean_b * mean_b, ab - mean_a * mean_b
    follows = covariance > SAME_TEXTURE * np.sqrt(np.maximum(var_a * var_b, 1e-6))
    alike = np.where(var_b < TEXTURE, var_a < TEXTURE, follows) & (share > LEAST_SHARE)
    seen_through = np.zeros_like(asked)
    seen_through.ravel()[where[alike]] = 255
    return seen_through
