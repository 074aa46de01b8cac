"""Background model: a picture of the empty scene and its noise.

The background is, per pixel, the mean of the *densest* group of samples of a recording in which
people come, stand and go, not the median: where somebody stands for most of a clip the median is
that person, while the floor still agrees with itself better than different people do. A second vote
gives little weight to person-sized foreground of the first, so that three people in black do not
outvote a floor. Letters: `k` samples, `h w` pixels at the working scale; colours
are YCrCb.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import numpy.typing as npt

from cstl_edge.arrays import Bytes, Floats
from cstl_edge.opencv import import_cv2

cv2 = import_cv2()
NEAREST: int = cv2.INTER_NEAREST

Pixels = Bytes  # YCrCb [h, w, 3]
Weights = Floats  # [h, w], 0..1

NEAR = (12, 8, 8)  # samples this close in Y, Cr, Cb vote for each other
NOISE_CAP = np.uint8(40)  # larger differences between neighbouring frames are movement, not noise
STRIP_ROWS = 16  # voted on at once: their samples stay in the cache
FULL_WEIGHT = 20  # votes of a sample where nobody is seen
OCCUPIED_WEIGHT = 0.1  # of a sample inside the largest person-sized foreground


def estimate_background(
    samples: Sequence[Pixels], weights: Sequence[Weights] | None = None, threads: int = 1
) -> Pixels:
    """Return the background: per pixel the mean of the densest group of samples.

    Args:
        samples: k of uint8 [h, w, 3].
        weights: k of float32 [h, w], 0..1, or None for equal votes.
        threads: Bands of rows at once, where the rows come in pairs.

    The vote is taken at half resolution (a quarter of the k² / 2 comparisons), the mean at full
    resolution.
    """
    height = samples[0].shape[0]
    if threads == 1 or _odd(samples[0]):
        return _estimate(samples, weights)
    edges = [2 * (i * height // (2 * threads)) for i in range(threads)] + [height]
    bands = [slice(a, b) for a, b in itertools.pairwise(edges) if b > a]

    def band(rows: slice) -> Pixels:
        shares = None if weights is None else [w[rows] for w in weights]
        return _estimate([s[rows] for s in samples], shares)

    with ThreadPoolExecutor(threads) as pool:
        return np.concatenate(list(pool.map(band, bands)))


def revise_background(
    background: Pixels, samples: Sequence[Pixels], weights: Sequence[Weights], threads: int = 1
) -> Pixels:
    """Return `estimate_background` of weighted votes, counted again only where they can differ.

    Args:
        background: The same of equal votes, [h, w, 3].
        samples: k of uint8 [h, w, 3].
        weights: k of float32 [h, w].
        threads: As for `estimate_background`.
    """
    lower = np.minimum.reduce(weights) < 1
    x, y, w, h = cv2.boundingRect(lower.astype(np.uint8))
    if not w:
        return background
    if _odd(background):
        return _estimate(samples, weights)
    # halved, a pixel takes part in its neighbours' weights: whole pairs, and one more around
    rows, columns = (slice(max(0, a // 2 * 2 - 2), (b + 1) // 2 * 2 + 2)
                     for a, b in ((y, y + h), (x, x + w)))  # fmt: skip
    revised: Pixels = background.copy()
    revised[rows, columns] = estimate_background(
        [np.ascontiguousarray(s[rows, columns]) for s in samples],
        [np.ascontiguousarray(s[rows, columns]) for s in weights],
        threads,
    )
    return revised


def _odd(picture: Pixels) -> bool:
    """Return whether a picture [h, w, 3] does not halve into whole pairs of rows and columns."""
    return bool(picture.shape[0] % 2 or picture.shape[1] % 2)


def _estimate(samples: Sequence[Pixels], weights: Sequence[Weights] | None) -> Pixels:
    """Return the background of some rows, see `estimate_background`."""
    height, width = samples[0].shape[:2]
    half = (max(1, width // 2), max(1, height // 2))
    small: list[Pixels] = [cv2.resize(s, half, interpolation=cv2.INTER_AREA) for s in samples]
    small_weights = None if weights is None else [cv2.resize(w, half) for w in weights]
    winner = _count_votes(small, small_weights).argmax(axis=0).astype(np.uint8)  # [h/2, w/2]
    return _mean_of_near(samples, cv2.resize(winner, (width, height), interpolation=NEAREST))


def _count_votes(
    samples: Sequence[Pixels], weights: Sequence[Weights] | None
) -> npt.NDArray[np.uint16]:
    """Return how many votes each sample gets at each pixel: [k, h, w]."""
    stack = np.stack(samples)  # [k, h, w, 3]
    vote_weights: Bytes = np.full(stack.shape[:3], FULL_WEIGHT, np.uint8)
    if weights is not None:
        vote_weights = (np.stack(weights) * FULL_WEIGHT).round().astype(np.uint8)  # [k, h, w]
    votes = vote_weights.astype(np.uint16)  # integers: ten times as fast as float32 with a mask
    for first in range(0, stack.shape[1], STRIP_ROWS):
        rows = slice(first, first + STRIP_ROWS)
        _add_votes(votes[:, rows], stack[:, rows], vote_weights[:, rows])
    return votes


def _add_votes(votes: npt.NDArray[np.uint16], stack: Pixels, vote_weights: Bytes) -> None:
    """Add the votes [k, h, w] that samples [k, h, w, 3] give each other, each with its weight."""
    k, h, w = vote_weights.shape
    for i in range(k - 1):
        rest = np.ascontiguousarray(stack[i + 1 :]).reshape(-1, w, 3)  # [later*h, w, 3]
        same = np.tile(stack[i], (k - 1 - i, 1, 1))
        near = cv2.inRange(cv2.absdiff(rest, same), (0, 0, 0), NEAR).reshape(-1, h, w)
        votes[i] += (near & vote_weights[i + 1 :]).sum(axis=0, dtype=np.uint16)
        votes[i + 1 :] += near & vote_weights[i]


def _mean_of_near(samples: Sequence[Pixels], winner: Bytes) -> Pixels:
    """Return per pixel the mean of the samples near the winner's, whose number is in [h, w]."""
    chosen = np.zeros_like(samples[0])
    for number, sample in enumerate(samples):
        cv2.copyTo(sample, (winner == number).astype(np.uint8), chosen)
    total = np.zeros(chosen.shape, np.float32)
    count = np.zeros(chosen.shape[:2], np.float32)
    for sample in samples:
        near = cv2.inRange(cv2.absdiff(sample, chosen), (0, 0, 0), NEAR)
        cv2.accumulate(sample, total, mask=near)
        count += near > 0  # at least the winner itself
    background: Pixels = (total / count[:, :, None]).round().astype(np.uint8)
    return background


def occupied_weights(
    boxes: Sequence[Sequence[tuple[float, float, float, float]]], shape: tuple[int, ...]
) -> list[Weights]:
    """Return the weight of each sample at each pixel: small where its foreground is person-sized.

    boxes: for each of k samples the x, y, w, h of its foreground in pixels at the working scale
    shape: h, w
    Person-sized means large against the largest foreground that ever covers the pixel: a ghost (a
    piece of a person left in the background) is smaller than the person who left it, so the second
    vote removes it.
    """
    weights = [np.ones(shape, np.float32) for _ in boxes]
    covers = [_cover(foreground, shape) for foreground in boxes]
    largest = np.maximum(np.maximum.reduce(covers), 1.0)
    x, y, w, h = cv2.boundingRect((largest > 1).astype(np.uint8))
    place = np.s_[y : y + h, x : x + w]  # elsewhere nobody ever is
    for weight, cover in zip(weights, covers, strict=True):
        # none to a sixth, all from a half
        occupied = np.clip(cover[place] / largest[place] * 3 - 0.5, 0, 1)
        weight[place] = 1 - (1 - OCCUPIED_WEIGHT) * occupied
    return weights


def _cover(boxes: Sequence[tuple[float, float, float, float]], shape: tuple[int, ...]) -> Floats:
    """Return the area of the largest box over each pixel."""
    cover = np.zeros(shape, np.float32)
    for x, y, w, h in sorted(boxes, key=lambda box: box[2] * box[3]):
        cover[max(0, int(y)) : int(y + h), max(0, int(x)) : int(x + w)] = w * h
    return cover


def noise_map(pairs: Sequence[tuple[Pixels, Pixels]]) -> Pixels:
    """Return how much each pixel flickers: the mean change between neighbouring frames.

    Leaves and water flicker, a person who stands does not: sensitivity is kept where people are.
    """
    total = np.zeros(pairs[0][0].shape, np.float32)
    for before, after in pairs:
        cv2.accumulate(np.minimum(cv2.absdiff(before, after), NOISE_CAP), total)
    return (total / len(pairs)).round().astype(np.uint8)
