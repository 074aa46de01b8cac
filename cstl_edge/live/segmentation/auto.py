"""Automatic segmenter: the person network masks as many people per frame as the time allows.

Background subtraction finds people in every frame. Of a recording the network masks all of them:
nothing waits, and the result must not depend on the machine. Of a camera the rule is:

1. A frame may take `LOAD` of the time between two frames; what background subtraction takes of it
   is measured, and so is what a crop costs. The rest is credit, which is spent crop by crop.
2. Masked first is who has waited longest; a doubtful mask counts as having waited twice as long. A
   mask is doubtful whose shape is not that of one person, or that differed from the network's when
   the two were last compared.
3. Who is not masked in a frame keeps the mask of background subtraction, and the network's last
   word on whether this is a person at all. Whose turn it is not (`rest`) is no candidate.
4. Every `HOLD_S` it is decided whether everybody is masked: no longer when it was less than
   `LEAST_COVERAGE` of the people, again when it was all of them. A `scene` event reports a change.
5. Where background subtraction fails, because the camera moves, the light changed or somebody
   stands still for long, a detector finds people instead (`without_motion`).
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from cstl_edge.arrays import Image
from cstl_edge.live.boxes import Box, box_iou, mask_area
from cstl_edge.live.segmentation.background import BackgroundSegmenter
from cstl_edge.live.segmentation.base import Detection, SceneState
from cstl_edge.live.segmentation.camera_motion import CameraMotion
from cstl_edge.live.segmentation.person_mask import (
    MAX_BOXES,
    MAX_SECOND_PASSES,
    PersonMaskSegmenter,
    drop_parts,
    split_resting,
    worth_masking,
)
from cstl_edge.live.segmentation.without_motion import PeopleFinder
from cstl_edge.runtime.detector import PersonDetector
from cstl_edge.runtime.masks.manifest import SHIPPED, SMALL
from cstl_edge.runtime.masks.open import open_mask_network

log = logging.getLogger(__name__)

LOAD = 0.7  # of the time between two frames: tracking and alignment need the rest
MAX_CREDIT = 2.0  # frames' worth of time that may be saved up
FIRST_CROP_S = 0.03  # cost of a crop before one was measured: one in the first frame
BLEND = 0.1  # weight of a new measurement of a cost
INTERVALS, INTERVAL_RANK = 200, 0.1  # frames looked back on; dropped frames make longer ones
BURST = 0.5  # of the mean interval, at least: a network that delivers several frames at once
HOLD_S = 3.0  # between two decisions whether everybody is masked
LEAST_COVERAGE = 0.9  # of the masks: less is reported, and taken back when it is all of them
SAME_PERSON = 0.3  # intersection over union of the boxes in two frames
FORGOTTEN_S = 2.0  # somebody unseen for so long is somebody new
BY_DETECTOR = (
    "the camera moves or the light changed: people are found by the person detector until the "
    "scene is still and learned again"
)
NOT_ALL = (
    "a crop takes {:.0f} ms here: not everybody is masked by the person network in every frame, "
    "the others by background subtraction"
)
AGREES = 0.75  # subtraction's mask against the network's, in area and in the box: less is doubtful


@dataclass
class _Seen:
    """What is known of somebody from earlier frames."""

    box: Box
    seen_s: float
    masked_s: float  # when the network masked them last
    doubtful: bool = False
    weight: float = 1.0  # of the score: below 1 where the network found nobody

    def urgency(self, time_s: float) -> float:
        """Return how long they have waited, doubled for a doubtful mask."""
        return (time_s - self.masked_s) * (2.0 if self.doubtful else 1.0)


def open_auto(threads: int, model: Path | None = None, manifest: Path = SHIPPED) -> AutoSegmenter:
    """Return the segmenter for the table of `open`; raises ModelError without its weights.

    Args:
        threads: Number of crops at once.
        model: Exported model whose engines are in use, see `open_mask_network`.
        manifest: Manifest of the person network.
    """
    background = BackgroundSegmenter()
    with ThreadPoolExecutor(1) as pool:  # both networks at once
        detector = pool.submit(PersonDetector)
        network = open_mask_network(manifest, threads=threads, model=model)
    finder = PeopleFinder(detector.result(), network)
    return AutoSegmenter(background, PersonMaskSegmenter(background, network), finder=finder)


def open_auto_small(threads: int, model: Path | None = None) -> AutoSegmenter:
    """Return the segmenter with the small network of the package, see `open_auto`."""
    return open_auto(threads, model, SMALL)


class AutoSegmenter:
    """Masks everybody of a recording, and of a camera whom the time allows."""

    def __init__(
        self,
        background: BackgroundSegmenter,
        person_mask: PersonMaskSegmenter,
        clock: Callable[[], float] = time.perf_counter,
        finder: PeopleFinder | None = None,
    ) -> None:
        """Join the two.

        Args:
            background: Finds people.
            person_mask: Masks them; finds them with the same background.
            clock: Seconds, for what a frame and a crop cost.
            finder: Finds people where the background does not; None: nobody is found there.
        """
        self._background, self._person_mask, self._clock = background, person_mask, clock
        self._finder, self._motion = finder, CameraMotion()
        self._by_detector = False
        self._recording = False
        self._resting: Sequence[Box] = ()
        self._seen: list[_Seen] = []
        self._intervals: deque[float] = deque(maxlen=INTERVALS)
        self._time_s: float | None = None
        self._crop_s, self._subtraction_s = FIRST_CROP_S, 0.0
        self._credit_s = 0.0
        self._coverage = _Coverage()

    @property
    def state(self) -> SceneState:
        """State of the background model; ready as well while the detector finds people."""
        return SceneState.READY if self._by_detector else self._background.state

    @property
    def camera_offset(self) -> tuple[float, float]:
        """How far a camera that moves has moved the picture, x and y in pixels of the frame."""
        return self._motion.offset

    @property
    def detail(self) -> str | None:
        """Return a sentence where not everybody gets the best mask in every frame, else None."""
        if self._by_detector:
            return BY_DETECTOR
        return self._coverage.sentence

    def learn(self, samples: Iterable[tuple[Image, Image]], *, rolling: bool = False) -> None:
        """Learn the background of a recording, of which everybody is masked."""
        self._recording = True
        self._person_mask.learn(samples, rolling=rolling)

    def rest(self, boxes: Sequence[Box]) -> None:
        """Take the expected boxes of those who need no mask of the network in the next frame."""
        self._resting = boxes
        if self._recording:
            self._person_mask.rest(boxes)

    def ahead(self, image: Image) -> None:
        """Take the picture of the frame after the next one."""
        self._person_mask.ahead(image)

    def segment(self, image: Image, time_s: float, expected: Sequence[Box] = ()) -> list[Detection]:
        """Return the people of one frame.

        Args:
            image: uint8 [H, W, 3], BGR.
            time_s: Media time of the frame in seconds; does not run backwards.
            expected: Boxes that the tracker predicts for this frame.
        """
        begun_s = self._clock()
        if self._takes_over(image, time_s):
            self._earn(time_s)
            return self._found_by_detector(image, time_s, expected)
        if self._recording:
            people = self._person_mask.segment(image, time_s, expected)
            return people + self._standing(image, time_s, expected, people)
        detections = self._background.segment(image, time_s, expected)
        found_s = self._clock()
        self._subtraction_s += BLEND * (found_s - begun_s - self._subtraction_s)
        self._earn(time_s)
        detections.sort(key=lambda d: (-d.box[2] * d.box[3], d.box))
        pairs, interim = split_resting(worth_masking(detections, expected), expected, self._resting)
        known = self._recognised([detection for detection, _ in pairs], time_s)
        crops = max(0, int(self._credit_s / self._crop_s))
        order = sorted(range(len(pairs)), key=lambda i: (-known[i].urgency(time_s), i))
        chosen = order[: min(crops, MAX_BOXES)]
        second_passes = min(crops - len(chosen), MAX_SECOND_PASSES)
        masked = self._person_mask.masked(
            image, [pairs[i] for i in chosen], detections, second_passes
        )
        self._pay(sum(count for _, count in masked), self._clock() - found_s)
        people = [
            replace(detection, score=seen.weight * detection.score)
            for (detection, _), seen in zip(pairs, known, strict=True)
        ]
        for i, (person, _) in zip(chosen, masked, strict=True):
            _compare(known[i], pairs[i][0], person, time_s)
            people[i] = person
        if self._coverage.update(len(chosen), len(pairs), time_s, self._crop_s):
            log.info("%s", self.detail or "the person network masks everybody in every frame")
        # a shared detection gives no silhouette and needs no better mask
        people = drop_parts(people + interim) + [d for d in detections if d.shared]
        return people + self._standing(image, time_s, expected, people)

    def _takes_over(self, image: Image, time_s: float) -> bool:
        """Return whether the detector finds people in this frame, by the rule of the finder."""
        if self._finder is None:
            return False
        moved = self._motion.moving
        moving = self._motion.update(image, time_s)
        if moving != moved:  # what was learned is another view
            self._background.relearn()
        fails = moving or self._background.state is SceneState.DISTURBED
        learns = self._by_detector and self._background.state is SceneState.LEARNING
        if self._by_detector and not (fails or learns):
            self._finder.forget()
        if (fails or learns) != self._by_detector:
            self._by_detector = fails or learns
            log.info("%s", self.detail or "people are found by background subtraction again")
        return self._by_detector

    def _found_by_detector(
        self, image: Image, time_s: float, expected: Sequence[Box]
    ) -> list[Detection]:
        """Return the people of a frame whom the detector finds and the network masks."""
        assert self._finder is not None
        if not self._motion.moving:  # what the scene is learned from, and whether it is still
            self._background.segment(image, time_s, expected)
        begun_s = self._clock()
        boxes = self._finder.candidates(image, time_s, expected)
        if not self._recording:
            known = self._recognised([_nobody(box) for box in boxes], time_s)
            most = max(1, int(self._credit_s / self._crop_s))
            order = sorted(range(len(boxes)), key=lambda i: (-known[i].urgency(time_s), i))[:most]
            for i in order:
                known[i].masked_s = time_s
            boxes = [boxes[i] for i in sorted(order)]
        found = self._finder.masked(image, boxes)
        people = drop_parts([person for person in found if person is not None])
        self._finder.remember(people)
        self._pay(len(boxes), self._clock() - begun_s)
        return people

    def _standing(
        self, image: Image, time_s: float, expected: Sequence[Box], people: Sequence[Detection]
    ) -> list[Detection]:
        """Return who stands still for so long that nothing of them differs from the scene."""
        if self._finder is None or self._background.state is not SceneState.READY:
            return []
        return self._finder.standing(image, time_s, expected, people)

    def _earn(self, time_s: float) -> None:
        """Add what this frame's time leaves for crops."""
        if self._time_s is not None and time_s > self._time_s:
            self._intervals.append(time_s - self._time_s)
        self._time_s = time_s
        if self._intervals:
            count = len(self._intervals)
            shortest_s = sorted(self._intervals)[int(INTERVAL_RANK * count)]
            interval_s = max(shortest_s, BURST * sum(self._intervals) / count)
            left_s = max(0.0, LOAD * interval_s - self._subtraction_s)
            most_s = max(MAX_CREDIT * left_s, self._crop_s)
            self._credit_s = min(self._credit_s + left_s, most_s)

    def _pay(self, crops: int, elapsed_s: float) -> None:
        """Take what crops have cost from the credit, and learn what one costs."""
        if crops:
            self._credit_s -= elapsed_s
            self._crop_s += BLEND * (elapsed_s / crops - self._crop_s)

    def _recognised(self, detections: Sequence[Detection], time_s: float) -> list[_Seen]:
        """Return what is known of each detection, from the box that overlaps most."""
        self._seen = [seen for seen in self._seen if time_s - seen.seen_s <= FORGOTTEN_S]
        left, known = list(self._seen), []
        for detection in detections:
            nearest = max(left, key=lambda seen: box_iou(seen.box, detection.box), default=None)
            if nearest is None or box_iou(nearest.box, detection.box) < SAME_PERSON:
                # somebody new is as urgent as who was never masked since they came
                nearest = _Seen(detection.box, time_s, time_s - FORGOTTEN_S)
                self._seen.append(nearest)
            else:
                left.remove(nearest)
            nearest.box, nearest.seen_s = detection.box, time_s
            known.append(nearest)
        return known


class _Coverage:
    """Whether the network masks everybody, decided every `HOLD_S`."""

    def __init__(self) -> None:
        self.whole = True
        self.sentence: str | None = None  # where not; the same until `whole` changes
        self._since_s: float | None = None
        self._masked = self._people = 0

    def update(self, masked: int, people: int, time_s: float, crop_s: float) -> bool:
        """Take what was masked of a frame; return whether `whole` changes.

        Args:
            masked: Number of people whom the network masked.
            people: Number of people whose turn it was.
            time_s: Media time of the frame in seconds.
            crop_s: What a crop takes.
        """
        self._masked, self._people = self._masked + masked, self._people + people
        if self._since_s is None:
            self._since_s = time_s
        if 0 <= time_s - self._since_s < HOLD_S:
            return False
        least = LEAST_COVERAGE if self.whole else 1.0
        whole = self._masked >= least * self._people
        changes, self.whole = whole != self.whole, whole
        if changes:
            self.sentence = None if whole else NOT_ALL.format(crop_s * 1e3)
        self._since_s, self._masked, self._people = time_s, 0, 0
        return changes


def _compare(seen: _Seen, blob: Detection, person: Detection, time_s: float) -> None:
    """Note when the network masked somebody, and whether the other mask is good enough."""
    seen.masked_s = time_s
    seen.weight = 1.0
    if person.mask is blob.mask:  # nobody found
        seen.weight = person.score / max(blob.score, 1e-9)
    overlap = box_iou(blob.box, person.box)
    areas = [mask_area(d.mask) * (d.box[3] / d.mask.shape[0]) ** 2 for d in (blob, person)]
    alike = min(areas) / max(*areas, 1e-9)
    seen.doubtful = min(overlap, alike) < AGREES or blob.score < 1


def _nobody(box: Box) -> Detection:
    """Return a detection of which only the box is known."""
    return Detection(box, np.zeros((1, 1), np.uint8), clipped=False)


def people_in_time(fps: float, threads: int) -> tuple[float, float]:
    """Measure a crop; return how many people are masked in every frame, and its seconds.

    Background subtraction is left out: its cost depends on the picture.

    fps: of a camera
    threads: crops at once
    """
    network = open_mask_network(None, threads=threads)
    crops = np.zeros((threads, network.side, network.side, 3), np.uint8)
    network(crops)
    begun_s = time.perf_counter()
    network(crops)
    crop_s = (time.perf_counter() - begun_s) / threads
    network.close()
    return LOAD / fps / crop_s, crop_s
