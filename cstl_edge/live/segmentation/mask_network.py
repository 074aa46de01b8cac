"""The network that draws a person in a square crop (see `assets/NOTICE-blazepose.md`)."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from cstl_edge.arrays import Image, Mask
from cstl_edge.errors import ModelError
from cstl_edge.live.boxes import Box
from cstl_edge.live.segmentation.base import Detection
from cstl_edge.opencv import import_cv2

cv2 = import_cv2()

SIDE = 256  # pixels of a square's grid


def square(box: Box, margin: float) -> Box:
    """Return the square around the middle of a box, `margin` times its larger side."""
    x, y, w, h = box
    side = margin * max(w, h)
    return x + (w - side) / 2, y + (h - side) / 2, side, side


def cut(image: Image, region: Box) -> Image:
    """Return the square of the frame at 256 pixels, black outside the frame."""
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


def near_border(box: Box, frame: tuple[int, ...], distance: float) -> bool:
    """Tell whether a box comes this close to the edge of a frame of shape [H, W, 3]."""
    x, y, w, h = box
    right, bottom = frame[1] - x - w, frame[0] - y - h
    return min(x, y, right, bottom) <= distance


def paste(detection: Detection, region: Box) -> Mask:
    """Return a detection's mask on the 256x256 grid of a square."""
    x, y, w, _ = detection.box
    scale = SIDE / region[2]
    to_frame = w / detection.mask.shape[1]
    zoom = scale * to_frame
    matrix = np.array(
        [[zoom, 0, (x - region[0]) * scale], [0, zoom, (y - region[1]) * scale]], np.float32
    )
    pasted: Mask = cv2.warpAffine(detection.mask, matrix, (SIDE, SIDE), flags=cv2.INTER_NEAREST)
    return pasted


def overlaps(detection: Detection, region: Box) -> bool:
    """Tell whether a detection's mask may have a pixel on the grid of a square, after rounding."""
    x, y, w, h = detection.box
    margin = w / detection.mask.shape[1] + region[2] / SIDE  # one pixel of either grid
    return (
        region[0] - margin < x + w
        and x < region[0] + region[2] + margin
        and region[1] - margin < y + h
        and y < region[1] + region[3] + margin
    )


def reached(blob: Mask, distance: int) -> Mask:
    """Return what an ellipse of radius `distance` covers along the convex hull of a blob [h, w].

    It is `cv2.dilate` of the filled hull, each of whose rows is one run of pixels, in a quarter of
    the time.
    """
    filled: Mask = np.zeros_like(blob)
    outlines, _ = cv2.findContours(blob, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    if not outlines:
        return filled
    cv2.fillConvexPoly(filled, cv2.convexHull(np.concatenate(outlines)), 255)
    width = blob.shape[1]
    some, far = filled.any(axis=1), 4 * max(blob.shape)  # an empty row begins far behind its end
    begins = np.where(some, filled.argmax(axis=1), far)  # [h]
    ends = np.where(some, width - 1 - filled[:, ::-1].argmax(axis=1), -far)
    ellipse = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * distance + 1, 2 * distance + 1))
    half = ellipse.sum(axis=1, dtype=np.int64) // 2  # [2 * distance + 1]
    first = (_around(begins, distance, far) - half).min(axis=1)
    last = (_around(ends, distance, -far) + half).max(axis=1)
    columns = np.arange(width)
    inside = (columns >= first[:, None]) & (columns <= last[:, None])  # [h, w]
    return np.asarray(inside * np.uint8(255), np.uint8)


def _around(values: npt.NDArray[np.int64], distance: int, outside: int) -> npt.NDArray[np.int64]:
    """Return the neighbours of every value up to a distance: [h] -> [h, 2 * distance + 1]."""
    padded = np.pad(values, distance, constant_values=outside)
    return np.lib.stride_tricks.sliding_window_view(padded, 2 * distance + 1)


def main_part(mask: Mask) -> Mask:
    """Keep the largest component and what is at least a tenth of it (a foot behind a bench)."""
    count, labels, stats, _ = cv2.connectedComponentsWithStats(mask, connectivity=8)
    if count <= 2:
        return mask
    areas = stats[:, cv2.CC_STAT_AREA].copy()
    areas[0] = 0
    kept: Mask = ((areas >= 0.1 * areas.max()).astype(np.uint8) * 255)[labels]
    return kept


cv2 = import_cv2()

Answer = tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]  # [1, 256, 256, 1], [1, 1]

MODEL = Path(__file__).parents[2] / "assets" / "person_mask.onnx"


class PersonMask:
    """The network on square crops, one crop a run, `threads` of them at once.

    Two threads within its many small layers wait for each other: of five to eight crops on two busy
    cores each took 14 to 17 ms that way, and 7.5 ms this way.
    """

    def __init__(self, path: Path = MODEL, threads: int = 1) -> None:
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
                "or use --segmenter plate"
            ) from err
        self._helpers = threads - 1  # beside the caller, who would only wait
        self._workers = ThreadPoolExecutor(max(1, self._helpers), "cstl-edge-segment")

    def __call__(self, crops: Image) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
        """Return logits [m, 256, 256] and presence [m] of crops uint8 BGR [m, 256, 256, 3]."""
        answers: dict[int, Answer] = {}
        todo = iter(enumerate(crops))
        helpers = min(self._helpers, len(crops) - 1)
        helping = [self._workers.submit(self._work, todo, answers) for _ in range(helpers)]
        self._work(todo, answers)
        for helper in helping:
            if not helper.cancel():  # it has begun
                helper.result()
        logits, presence = zip(*(answers[i] for i in range(len(crops))), strict=True)
        return np.concatenate(logits)[..., 0], np.concatenate(presence)[:, 0]

    def _work(self, todo: Iterator[tuple[int, Image]], answers: dict[int, Answer]) -> None:
        """Take crops as long as there are any; who shares `todo` shares the work."""
        for i, crop in todo:
            answers[i] = self._one(crop)

    def _one(self, crop: Image) -> Answer:
        rgb = cv2.cvtColor(crop, cv2.COLOR_BGR2RGB)[None].astype(np.float32) / 255.0
        logits, presence = self._session.run(["mask_logits", "presence"], {"image": rgb})
        return logits, presence
