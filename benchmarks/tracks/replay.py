"""Replay of a street: its foreground is computed once and stored; blobs and tracks come anew.

Rendering and background subtraction take most of the time of a run, and do not depend on tracks.
What is stored of a frame: the clean foreground, its pixels, and who is where. Joining fragments and
splitting groups (`blobs.candidates`), which listen to the tracker, are computed at every replay.
One thing is not the same as in a run of its own: the light that the background follows was
followed around the blobs of the first run. Letters: `f` frames, `H W` pixels.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cstl_edge.arrays import Array, Bytes, Image
from cstl_edge.live.boxes import Box
from cstl_edge.live.pipeline.perception import learn_background
from cstl_edge.live.segmentation import background, background_model, blobs, shadows
from cstl_edge.live.segmentation.background import BackgroundSegmenter
from cstl_edge.live.segmentation.base import Detection, SceneState
from cstl_edge.live.segmentation.blobs import Blob
from cstl_edge.live.sources.base import Frame, FrameSource
from cstl_edge.live.sources.synthetic import actor, cast, scene, source
from cstl_edge.live.sources.synthetic.source import SyntheticSource, WalkerTruth
from cstl_edge.live.tracking.tracker import Tracker
from cstl_edge.opencv import import_cv2

cv2 = import_cv2()

CODE = (
    background,
    background_model,
    shadows,
    actor,
    cast,
    scene,
    source,
)  # a change of it makes all anew
LABEL_STEP = 2  # pixels: truth of silhouettes needs no more


@dataclass(frozen=True)
class StoredStreet:
    """Everything of a street that does not depend on tracks."""

    fps: float
    size: tuple[int, int]  # H, W
    masks: Bytes  # [f, H * W / 8], packed bits of the foreground
    pixels: Bytes  # [k, 3], YCrCb of the foreground's pixels, all frames after another
    starts: Array  # [f + 1], where those of a frame begin
    labels: Bytes  # [f, H / 2, W / 2], 0 the street, i + 1 walker i
    truth: Array  # [k, 7]: frame, walker, x, y, w, h, visible share

    @property
    def frames(self) -> int:
        """Number of frames."""
        return len(self.masks)

    def foreground(self, index: int) -> Bytes:
        """Return the foreground of a frame, uint8 [H, W], 0 or 255."""
        count = self.size[0] * self.size[1]
        return np.unpackbits(self.masks[index], count=count).reshape(self.size) * np.uint8(255)

    def picture(self, index: int) -> Bytes:
        """Return the foreground's pixels before black, YCrCb [H, W, 3]."""
        canvas = np.zeros((*self.size, 3), np.uint8)
        part = self.pixels[self.starts[index] : self.starts[index + 1]]
        canvas[self.foreground(index) > 0] = part
        return canvas

    def people(self, index: int) -> list[tuple[int, Box, float]]:
        """Return walker, box and visible share of everybody in sight in a frame."""
        rows = self.truth[self.truth[:, 0] == index]
        return [(int(r[1]), (r[2], r[3], r[4], r[5]), float(r[6])) for r in rows.tolist()]


def stored_street(street: SyntheticSource, folder: Path) -> StoredStreet:
    """Return a street from the folder; what is not there yet, or of other code, is made.

    Args:
        street: The street; its address is the name of the file.
        folder: Where such files lie (some 60 megabytes each).
    """
    text = "".join(Path(module.__file__ or "").read_text("utf-8") for module in CODE)
    digits = hashlib.sha256((text + street.uri).encode()).hexdigest()[:12]
    path = folder / f"{street.uri.replace(' ', '_').replace(',', '')}_{digits}.npz"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        np.savez(path, **_record(street))  # type: ignore[arg-type]  # numpy's stubs
    with np.load(path) as stored:
        arrays = dict(stored)
    return StoredStreet(street.fps, street.size, **arrays)


class _Recorder(BackgroundSegmenter):
    """Background subtraction that stores the foreground of every frame."""

    def __init__(self) -> None:
        super().__init__()
        self.recording = False
        self.masks: list[Bytes] = []
        self.pixels: list[Bytes] = []

    def _blobs(self, pixels: Bytes, expected: Sequence[Box] = ()) -> list[Blob]:
        seen = super()._blobs(pixels, expected)
        if self.recording:
            assert self._foreground is not None
            self.masks.append(np.packbits(self._foreground > 0))
            self.pixels.append(pixels[self._foreground > 0])
        return seen


def _record(street: SyntheticSource) -> dict[str, Array]:
    """Run a street once; return the arrays of a StoredStreet."""
    recorder, tracker = _Recorder(), Tracker()
    learn_background(street, recorder)
    recorder.recording = True
    labels, truth = [], []
    for frame in street.reopen():
        expected = tracker.expected(frame.time_s)
        tracker.update(recorder.segment(frame.image, frame.time_s, expected), frame.time_s)
        labels.append(street.labels(frame.index)[::LABEL_STEP, ::LABEL_STEP])
        truth += [_row(frame.index, walker) for walker in street.truth(frame.index)]
    return {
        "masks": np.stack(recorder.masks),
        "pixels": np.concatenate(recorder.pixels),
        "starts": np.cumsum([0, *(len(part) for part in recorder.pixels)]),
        "labels": np.stack(labels),
        "truth": np.array(truth, float),
    }


def _row(index: int, truth: WalkerTruth) -> tuple[float, ...]:
    return index, truth.walker, *truth.box, truth.visible


class ReplaySource(FrameSource):
    """The frames of a stored street: people before black."""

    def __init__(self, street: StoredStreet) -> None:
        super().__init__("replay")
        self.fps, self.size, self.frames = street.fps, street.size, street.frames
        self._street, self._index = street, 0

    def reopen(self) -> ReplaySource:
        """Return the same from the beginning."""
        return ReplaySource(self._street)

    def _next(self) -> Frame | None:
        if self._index >= self._street.frames:
            return None
        index, self._index = self._index, self._index + 1
        picture = self._street.picture(index)
        return Frame(index, cv2.cvtColor(picture, cv2.COLOR_YCrCb2BGR), index / self.fps)


class ReplaySegmenter(BackgroundSegmenter):
    """Blobs of a stored foreground; remembers the detections of every frame."""

    def __init__(self, street: StoredStreet) -> None:
        super().__init__()
        self._street = street
        self._size = (*street.size, 3)
        self.detections: list[list[Detection]] = []

    @property
    def state(self) -> SceneState:
        """Ready: the empty scene was learned when the street was stored."""
        return SceneState.READY

    def learn(self, samples: object, **more: object) -> None:
        """Learn nothing."""

    def segment(self, image: Image, time_s: float, expected: Sequence[Box] = ()) -> list[Detection]:
        """Return the people of the next frame.

        Args:
            image: Not looked at.
            time_s: Media time of the frame.
            expected: Boxes that the tracker predicts.
        """
        index = len(self.detections)
        pixels = self._street.picture(index)
        people = blobs.candidates(self._street.foreground(index), expected)
        self.detections.append([self._detection(blob, pixels) for blob in people])
        return self.detections[-1]
