"""ByteTrack and OC-SORT of the package `trackers` on our detections, in another environment.

`trackers` brings a second OpenCV, so it lives in an environment of its own. Detections and tracks
pass as text files of the MOT challenge: frame, id, x, y, w, h, score.
"""

from __future__ import annotations

import subprocess
import sys
import venv
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # the other environment has no cstl_edge
    from cstl_edge.live.boxes import Box
    from cstl_edge.live.segmentation.base import Detection
    from tracks.scores import Boxes

PACKAGE = "trackers==2.6.1"
# the best of four each on seeds 0 and 6 of 8 people, 1 and 5 of dense streets
SETTINGS: dict[str, Mapping[str, object]] = {
    "bytetrack": {"lost_track_buffer": 30, "minimum_consecutive_frames": 3},
    "ocsort": {"lost_track_buffer": 60, "minimum_iou_threshold": 0.2},
}


def prepare(folder: Path) -> Path:
    """Return the Python of the environment; make it where it is not there."""
    python = folder / "bin" / "python"
    if not python.exists():
        venv.create(folder, with_pip=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", PACKAGE], check=True)
    return python


def peer_tracks(
    folder: Path,
    detections: Sequence[Sequence[Detection]],
    fps: float,
    settings: Mapping[str, Mapping[str, object]] = SETTINGS,
) -> dict[str, list[Boxes]]:
    """Return what each peer makes of the detections: boxes of every frame by track.

    Args:
        folder: The environment.
        detections: People of each frame.
        fps: Frames per second.
        settings: Arguments of each tracker, by `bytetrack…` and `ocsort…`.
    """
    python = prepare(folder)
    with TemporaryDirectory() as name:
        place = Path(name)
        lines = [
            f"{i + 1},-1,{','.join(f'{v:.2f}' for v in d.box)},{d.score:.3f},-1,-1,-1"
            for i, frame in enumerate(detections)
            for d in frame
        ]
        (place / "detections.txt").write_text("\n".join(lines), "utf-8")
        command = [str(python), __file__, str(place), str(len(detections)), str(fps)]
        subprocess.run([*command, repr(dict(settings))], check=True, stdout=sys.stderr)
        return {name: _read(place / f"{name}.txt", len(detections)) for name in settings}


def _read(path: Path, frames: int) -> list[Boxes]:
    """Return the boxes of a MOT file, by track, for every frame."""
    tracks: dict[int, dict[int, Box]] = defaultdict(dict)
    for line in path.read_text("utf-8").splitlines():
        frame, number, x, y, w, h = line.split(",")[:6]
        tracks[int(frame)][int(number)] = float(x), float(y), float(w), float(h)
    return [tracks[i + 1] for i in range(frames)]


def main(folder: Path, frames: int, fps: float, settings: str) -> None:
    """Track the detections of a folder with every peer; this runs in the other environment.

    Args:
        folder: It has `detections.txt` and gets a file for each peer.
        frames: Number of frames.
        fps: Frames per second.
        settings: Arguments of each tracker, as Python writes them.
    """
    import ast

    import numpy as np
    import supervision  # type: ignore[import-not-found]  # in the other environment
    import trackers  # type: ignore[import-not-found]

    rows = np.loadtxt(folder / "detections.txt", delimiter=",", ndmin=2)
    kinds = {"bytetrack": trackers.ByteTrackTracker, "ocsort": trackers.OCSORTTracker}
    for name, arguments in ast.literal_eval(settings).items():
        kind = next(kinds[known] for known in kinds if name.startswith(known))
        tracker, lines = kind(frame_rate=fps, **arguments), []
        for index in range(1, frames + 1):
            found = rows[rows[:, 0] == index]
            boxes = np.concatenate([found[:, 2:4], found[:, 2:4] + found[:, 4:6]], axis=1)
            people = supervision.Detections(
                xyxy=boxes.astype(np.float32),
                confidence=found[:, 6].astype(np.float32),
                class_id=np.zeros(len(found), int),
            )
            tracked = tracker.update(people)
            if tracked.tracker_id is None:
                continue
            for number, (x0, y0, x1, y1) in zip(tracked.tracker_id, tracked.xyxy, strict=True):
                if number >= 0:
                    lines.append(f"{index},{number},{x0},{y0},{x1 - x0},{y1 - y0},1,-1,-1,-1")
        (folder / f"{name}.txt").write_text("\n".join(lines), "utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]), sys.argv[4])
