"""Clothes of a person: colour histograms of upper and lower body, and how far two are apart.

A histogram says more than a mean colour: a striped shirt is none of its mean, and a jacket seen in
part has the colours of the whole. Rows of the head, the waist and the feet belong to no garment.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from cstl_edge.arrays import Bytes, Floats, Mask
from cstl_edge.opencv import import_cv2

cv2 = import_cv2()

PARTS = (0.16, 0.46), (0.56, 0.90)  # of the height from the top: jacket, trousers
BINS = 16  # of each of Y, Cr and Cb
RANGES = (0.0, 256.0), (64.0, 192.0), (64.0, 192.0)
STEP = 2  # every second pixel of every second row is enough
_SPREAD = np.eye(BINS) / 2 + (np.eye(BINS, k=1) + np.eye(BINS, k=-1)) / 4
_SPREAD /= _SPREAD.sum(0)  # so that a colour at the border of two bins does not jump


def clothes_of(pixels: Bytes, mask: Mask) -> Floats:
    """Return the descriptor of a person's clothes, float32 [96], of unit length.

    Square roots of histograms: their scalar product is the Bhattacharyya coefficient.
    pixels: uint8 YCrCb [h, w, 3]; mask: [h, w], where the person is
    """
    h = mask.shape[0]
    counts = []
    for first, last in PARTS:
        rows = slice(int(first * h), max(int(first * h) + 1, int(last * h)), STEP)
        inside = np.ascontiguousarray(mask[rows, ::STEP])
        colours = np.ascontiguousarray(pixels[rows, ::STEP])
        counts += [
            cv2.calcHist([colours], [i], inside, [BINS], limits)[:, 0]
            for i, limits in enumerate(RANGES)
        ]
    smooth = np.array(counts) @ _SPREAD  # [6, BINS]
    shares = smooth / np.maximum(smooth.sum(1, keepdims=True), 1e-9)
    return np.asarray(np.sqrt(shares / len(shares)).ravel(), np.float32)


def clothes_distance(a: Floats | Sequence[float], b: Floats | Sequence[float]) -> float:
    """Return the Hellinger distance of two descriptors, 0 (the same colours) to 1 (none shared).

    >>> clothes_distance([0.6, 0.8], [0.6, 0.8])
    0.0
    """
    return math.sqrt(max(0.0, 1.0 - float(np.dot(a, b))))
