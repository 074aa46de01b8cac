"""Person mask network: masks of people in square crops, and the geometry of these crops.

The network is BlazePose lite, cut down to its person mask and its presence flag (see
`assets/NOTICE-blazepose.md`), run by ONNX Runtime. Letters: `m` crops.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from cstl_edge.arrays import Floats, Image, Indices, Mask
from cstl_edge.errors import ModelError
from cstl_edge.live.boxes import Box, intersection
from cstl_edge.live.segmentation.base import Detection
from cstl_edge.opencv import import_cv2

cv2 = import_cv2()

SIDE = 256  # pixels of a crop
MODEL = Path(__file__).parents[2] / "assets" / "person_mask.onnx"

Output = tuple[Floats, Floats]  # mask logits [1, 256, 256, 1], presence [1, 1]


def square_around(box: Box, margin: float) -> Box:
    """Return the square around the middle of a box, `margin` times its larger side."""
    x, y, w, h = box
    side = margin * max(w, h)
    return x + (w - side) / 2, y + (h - side) / 2, side, side


def crop_square(image: Image, region: Box) -> Image:
    """Return a square of the frame, uint8 [256, 256, 3], black outside the frame."""
    x, y, side, _ = region
    scale = SIDE / side
    # INTER_AREA does not exist for warps: shrink first where the crop is much larger than 256
    if scale < 0.6:
        x0, y0 = max(0, int(x)), max(0, int(y))
        part = image[y0 : int(y + side) + 1, x0 : int(x + side) + 1]
        small = cv2.resize(part, None, fx=2 * scale, fy=2 * scale, interpolation=cv2.INTER_AREA)
        image, x, y, scale = small, (x - x0) * 2 * scale, (y - y0) * 2 * scale, 0.5
    matrix = np.array([[scale, 0, -x * scale], [0, scale, -y * scale]], np.float32)
    crop: Image = cv2.warpAffine(image, matrix, (SIDE, SIDE), flags=cv2.INTER_LINEAR)
    return crop


def paste_mask(detection: Detection, region: Box) -> Mask:
    """Return a detection's mask on the grid of a crop of `region`: uint8 [256, 256]."""
    x, y, w, _ = detection.box
    scale = SIDE / region[2]
    to_frame = w / detection.mask.shape[1]
    zoom = scale * to_frame
    matrix = np.array(
        [[zoom, 0, (x - region[0]) * scale], [0, zoom, (y - region[1]) * scale]], np.float32
    )
    pasted: Mask = cv2.warpAffine(detection.mask, matrix, (SIDE, SIDE), flags=cv2.INTER_NEAREST)
    return pasted


def may_overlap(detection: Detection, region: Box) -> bool:
    """Return whether a detection's mask may have a pixel in a crop of `region`, after rounding."""
    x, y, w, h = detection.box
    margin = w / detection.mask.shape[1] + region[2] / SIDE  # one pixel of either grid
    grown = (x - margin, y - margin, w + 2 * margin, h + 2 * margin)
    return intersection(grown, region) > 0


def dilated_hull(blob: Mask, distance: int) -> Mask:
    """Return the filled convex hull of a blob [h, w], dilated by an ellipse of radius `distance`.

    The same as `cv2.dilate` of the filled hull in a quarter of the time, because each row of a hull
    is one run of pixels.
    """
    filled: Mask = np.zeros_like(blob)
    outlines, _ = cv2.findContours(blob, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    if not outlines:
        return filled
    cv2.fillConvexPoly(filled, cv2.convexHull(np.concatenate(outlines)), 255)
    width = blob.shape[1]
    has_pixels, beyond = filled.any(axis=1), 4 * max(blob.shape)  # empty rows begin past their end
    begins = np.where(has_pixels, filled.argmax(axis=1), beyond)  # [h]
    ends = np.where(has_pixels, width - 1 - filled[:, ::-1].argmax(axis=1), -beyond)
    ellipse = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * distance + 1, 2 * distance + 1))
    half = ellipse.sum(axis=1, dtype=np.int64) // 2  # [2 * distance + 1]
    first = (_around(begins, distance, beyond) - half).min(axis=1)
    last = (_around(ends, distance, -beyond) + half).max(axis=1)
    columns = np.arange(width)
    inside = (columns >= first[:, None]) & (columns <= last[:, None])  # [h, w]
    return np.asarray(inside * np.uint8(255), np.uint8)


def _around(values: Indices, distance: int, outside: int) -> Indices:
    """Return the neighbours of every value up to a distance: [h] -> [h, 2 * distance + 1]."""
    padded = np.pad(values, distance, constant_values=outside)
    return np.lib.stride_tricks.sliding_window_view(padded, 2 * distance + 1)


def main_components(mask: Mask) -> Mask:
    """Keep the largest component and those of at least a tenth of it (a foot behind a bench)."""
    count, labels, stats, _ = cv2.connectedComponentsWithStats(mask, connectivity=8)
    if count <= 2:
        return mask
    areas = stats[:, cv2.CC_STAT_AREA].copy()
    areas[0] = 0
    main: Mask = ((areas >= 0.1 * areas.max()).astype(np.uint8) * 255)[labels]
    return main


class MaskNetwork:
    """Runs the network on crops, one crop per run and `threads` runs at once.

    Threads inside the network wait for each other at its many small layers: of five to eight crops
    on two busy cores each took 14 to 17 ms that way, and 7.5 ms this way.
    """

    def __init__(self, path: Path = MODEL, threads: int = 1) -> None:
        """Load the network; raises ModelError."""
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        try:
            self._session: Any = onnxruntime.InferenceSession(
                str(path), options, providers=["CPUExecutionProvider"]
            )
        except Exception as err:  # ONNX Runtime has no common base class of its errors
            raise ModelError(
                f"cannot load the person segmenter {path.name}: {err}; reinstall cstl-edge "
                "or use --segmenter background"
            ) from err
        self._helpers = threads - 1  # beside the calling thread, which would only wait
        self._workers = ThreadPoolExecutor(max(1, self._helpers), "cstl-edge-segment")

    def __call__(self, crops: Image) -> tuple[Floats, Floats]:
        """Return logits [m, 256, 256] and presence [m] of crops uint8 BGR [m, 256, 256, 3]."""
        outputs: dict[int, Output] = {}
        todo = iter(enumerate(crops))
        helpers = min(self._helpers, len(crops) - 1)
        helping = [self._workers.submit(self._work, todo, outputs) for _ in range(helpers)]
        self._work(todo, outputs)
        for helper in helping:
            if not helper.cancel():  # it has begun
                helper.result()
        logits, presence = zip(*(outputs[i] for i in range(len(crops))), strict=True)
        return np.concatenate(logits)[..., 0], np.concatenate(presence)[:, 0]

    def _work(self, todo: Iterator[tuple[int, Image]], outputs: dict[int, Output]) -> None:
        """Run crops as long as `todo` has any; threads that share `todo` share the work."""
        for i, crop in todo:
            rgb = cv2.cvtColor(crop, cv2.COLOR_BGR2RGB)[None].astype(np.float32) / 255.0
            outputs[i] = tuple(self._session.run(["mask_logits", "presence"], {"image": rgb}))
