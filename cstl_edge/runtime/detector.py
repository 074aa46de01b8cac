"""Detector of people in a picture: FastestDet in ONNX Runtime on the CPU.

It looks at the whole picture at once, 352 x 352 pixels, and is for finding people where nothing
else does: it knows nothing of earlier frames. Origin: `assets/NOTICE-fastestdet.md`.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cstl_edge.arrays import Floats, Image
from cstl_edge.errors import ModelError, one_line
from cstl_edge.opencv import import_cv2
from cstl_edge.runtime.backends.ort_session import open_session
from cstl_edge.runtime.manifest import read_file

cv2 = import_cv2()

SHIPPED = Path(__file__).parents[1] / "assets" / "person_detector.onnx"
SHIPPED_SHA256 = "b323e5e6e798565f431fa19f3c4adab01434d1d3949321f2550fbf6ab8b8090b"
MAX_BYTES = 2**22
SIDE = 352  # pixels of the network's picture
PERSON = 5  # channel of the person among the outputs
OBJECTNESS_POWER = 0.6  # of the score; the class has the rest
LEAST_SCORE = 0.4
SAME = 0.45  # intersection over union of two boxes of one person
PEOPLE = 32  # per picture at most


@dataclass(frozen=True)
class FoundPerson:
    """A person in a picture."""

    box: tuple[float, float, float, float]  # x, y, w, h in pixels
    score: float  # 0..1


class PersonDetector:
    """Finds people in single pictures. One thread at a time calls it."""

    def __init__(self, path: Path = SHIPPED) -> None:
        """Open the shipped network; raises ModelError for any other file, BackendUnavailable."""
        data = read_file(path, MAX_BYTES)
        sha256 = hashlib.sha256(data).hexdigest()
        if sha256 != SHIPPED_SHA256:
            raise ModelError(
                f"{one_line(path)}: expected the shipped person detector, sha256 "
                f"{SHIPPED_SHA256[:12]}…; got {sha256[:12]}…. Install the package again"
            )
        self._session = open_session(path.name, data, threads=1)

    def __call__(self, image: Image) -> list[FoundPerson]:
        """Return the people of a picture uint8 BGR [H, W, 3], the surest first (ModelError)."""
        small = cv2.resize(image, (SIDE, SIDE), interpolation=cv2.INTER_AREA)
        pixels = small.transpose(2, 0, 1)[None].astype(np.float32) / np.float32(255)  # [1, 3, h, w]
        try:
            outputs: list[Any] = self._session.run(["cells"], {"image": pixels})
        except Exception as err:  # its exceptions have no public base
            raise ModelError(f"{SHIPPED.name}: ONNX Runtime failed: {one_line(err)}") from err
        return people_of(outputs[0][0], image.shape[:2])


def people_of(cells: Floats, shape: tuple[int, ...]) -> list[FoundPerson]:
    """Return the people in the network's output, the surest first, each once.

    Args:
        cells: float32 [85, rows, columns], see the notice.
        shape: Height and width of the picture in pixels.
    """
    score = cells[0] ** OBJECTNESS_POWER * cells[PERSON] ** (1 - OBJECTNESS_POWER)
    score = np.where(cells[PERSON:].argmax(axis=0) == 0, score, 0)
    rows, columns = np.nonzero(score >= LEAST_SCORE)
    order = np.argsort(-score[rows, columns], kind="stable")
    people: list[FoundPerson] = []
    for row, column in zip(rows[order], columns[order], strict=True):
        x, y = np.tanh(cells[1:3, row, column])
        w, h = 0.5 + 0.5 * np.tanh(0.5 * cells[3:5, row, column])  # the logistic function
        width, height = float(w) * shape[1], float(h) * shape[0]
        left = float(column + x) / cells.shape[2] * shape[1] - width / 2
        top = float(row + y) / cells.shape[1] * shape[0] - height / 2
        box = left, top, width, height
        if all(_overlap(box, person.box) < SAME for person in people):
            people.append(FoundPerson(box, float(score[row, column])))
        if len(people) == PEOPLE:
            break
    return people


def _overlap(a: tuple[float, ...], b: tuple[float, ...]) -> float:
    """Return intersection over union of two boxes x, y, w, h."""
    width = min(a[0] + a[2], b[0] + b[2]) - max(a[0], b[0])
    height = min(a[1] + a[3], b[1] + b[3]) - max(a[1], b[1])
    inside = max(width, 0.0) * max(height, 0.0)
    return inside / max(a[2] * a[3] + b[2] * b[3] - inside, 1e-9)
