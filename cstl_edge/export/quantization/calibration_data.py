"""Silhouettes to calibrate a reduced precision on, and labelled sequences to evaluate it on.

Both are Walkers by default: other people for the one than for the other, and neither in any
training.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cstl_edge.arrays import Silhouettes
from cstl_edge.errors import ExportError, one_line
from cstl_edge.runtime.base import usable_cores
from cstl_edge.silhouette import read_silhouette_folders
from cstl_edge.walkers import collection
from cstl_edge.walkers.collection import WalkersSet

TEST_ID, CALIBRATION_ID = 930_000, 940_000
PEOPLE = 12  # evaluated on; each has 10 recordings in the CASIA-B protocol
CALIBRATION_PEOPLE = 6
FRAMES = 30
CALIBRATION_FRAMES = 12
VIEWS_DEG = (18, 90, 162)


@dataclass(frozen=True)
class CalibrationData:
    """What a precision is calibrated and evaluated on."""

    calibration: list[Silhouettes]  # sequences, uint8 [s, h, w] each
    evaluation: WalkersSet  # sequences in the CASIA-B protocol
    report: dict[str, Any]  # what both are, for the manifest


def gather(
    size: tuple[int, int], people: int = PEOPLE, calibrate: str | Path | None = None
) -> CalibrationData:
    """Make Walkers to evaluate on; make other Walkers to calibrate on, or read silhouettes.

    Args:
        size: Height and width of a silhouette, pixels.
        people: Number of people to evaluate on, at least 2.
        calibrate: Folder with the silhouettes of one sequence, or with such folders.

    Raises:
        ExportError: Walkers are not made in this size.
        DataError: the silhouettes cannot be used.
    """
    if people < 2:
        raise ExportError(f"expected at least 2 people to judge on; got {people}")
    calibration, calibrated_on = _calibration(size, calibrate)
    protocol = collection.CASIA_B
    evaluation = _walkers(TEST_ID, people, size=size, frames=FRAMES, recordings=protocol)
    report = {
        "calibrated_on": calibrated_on,
        "calibration_frames": sum(map(len, calibration)),
        "judged_on": f"Walkers {TEST_ID} to {TEST_ID + people - 1}, {FRAMES} frames, "
        f"views {', '.join(map(str, VIEWS_DEG))}",
        "sequences": len(evaluation.silhouettes),
    }
    return CalibrationData(calibration, evaluation, report)


def _calibration(
    size: tuple[int, int], calibrate: str | Path | None
) -> tuple[list[Silhouettes], str]:
    """Return the sequences to calibrate on, and their name."""
    if calibrate is None:
        once = {"nm": 1, "bg": 1, "cl": 1}
        walkers = _walkers(
            CALIBRATION_ID,
            CALIBRATION_PEOPLE,
            size=size,
            frames=CALIBRATION_FRAMES,
            recordings=once,
        )
        last = CALIBRATION_ID + CALIBRATION_PEOPLE - 1
        return list(walkers.silhouettes), f"Walkers {CALIBRATION_ID} to {last}"
    return read_silhouette_folders(calibrate, size), one_line(Path(calibrate).name)


def _walkers(first: int, people: int, **settings: Any) -> WalkersSet:
    """Make Walkers with ids from `first` on; settings: as of `collection.generate`."""
    ids, workers = range(first, first + people), usable_cores()
    try:
        return collection.generate(ids, views_deg=VIEWS_DEG, workers=workers, **settings)
    except ValueError as err:  # of its checks, before anything is made
        raise ExportError(f"fp16 and int8 are judged on Walkers: {err}. Export in float32") from err
