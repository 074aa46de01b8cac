"""The first half of the live path, in a thread of its own: frames in, judged silhouettes out.

A bounded queue joins it to the second half, so that two cores work at once and the order, and with
it every result for a file, stays the same. A full queue makes this half wait: a file waits with it,
a live source meanwhile keeps only its newest frame and counts the others as dropped.
"""

from __future__ import annotations

import contextlib
import logging
import queue
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from cstl_edge.arrays import Image, Mask
from cstl_edge.errors import CstlEdgeError
from cstl_edge.live.segmentation.base import SceneState, Segmenter
from cstl_edge.live.sources.base import Frame, FrameSource, SourceState
from cstl_edge.live.tracking.tracker import Track, Tracker, TrackUpdate
from cstl_edge.live.tracking.walk_filter import Reason, WalkGate
from cstl_edge.measure.stats import Samples
from cstl_edge.silhouette import align

log = logging.getLogger(__name__)

MAX_FPS = 30.0  # of a faster source frames are left out, evenly
QUEUE_FRAMES = 4  # between the halves: more would only add latency
PLATE_SAMPLES = 60  # of a recording, spread over all of it
PLATE_MAX_FRAMES = 6000  # a longer recording is learned from its beginning, then like a camera
PLATE_UNKNOWN_EVERY = 15  # frames between samples where the length is not known
PAIR_GAP_S = 0.1  # between the two frames of a sample
PUT_TICK_S = 0.1  # how often a waiting put looks whether it should stop


@dataclass(frozen=True)
class Seen:
    """One track in one frame."""

    id: int
    box: tuple[float, float, float, float]
    mask: Mask | None
    reason: Reason | None  # why the frame must not be used
    silhouette: Mask | None  # aligned; None where `reason` forbids it
    heading: float | None = None  # body heights per second to the right


@dataclass(frozen=True)
class Looked:
    """What the first half says about one frame."""

    frame: Frame
    read_at: float  # time.perf_counter() when the frame came
    scene: SceneState
    seen: list[Seen] = field(default_factory=list)
    born: list[int] = field(default_factory=list)
    closed: list[int] = field(default_factory=list)


@dataclass(frozen=True)
class Ended:
    """The source is over, or stopped being there: these tracks are closed."""

    closed: list[int]
    error: BaseException | None = None
    final: bool = True


Message = Looked | Ended | SourceState


class Vision(threading.Thread):
    """Source, segmentation, tracking and gates; puts messages into `messages`."""

    def __init__(
        self,
        source: FrameSource,
        segmenter: Segmenter,
        tracker: Tracker,
        *,
        size: tuple[int, int],
        min_height_px: int,
        demand_walking: bool,
    ) -> None:
        super().__init__(name="cstl-edge-vision", daemon=True)
        self.messages: queue.Queue[Message] = queue.Queue(QUEUE_FRAMES)
        self.samples = Samples()
        self.frames = 0
        # the network knows 8 to 30 frames per second: of a faster source every second or third
        self.stride = max(1, round(source.fps / MAX_FPS))
        self._source, self._segmenter, self._tracker = source, segmenter, tracker
        self._size, self._min_height_px = size, min_height_px
        self._demand_walking = demand_walking
        self._gates: dict[int, WalkGate] = {}
        self._enough = threading.Event()  # no more frames, but the tracks are still closed
        self._abandoned = threading.Event()  # nobody reads the messages any more

    def run(self) -> None:
        """Work until the source ends, an error comes or somebody asks to stop."""
        error: BaseException | None = None
        try:
            if not self._source.live:
                with self.samples.time("learn"):
                    learn_plate(self._source, self._segmenter)
            self._work()
        except BaseException as err:  # told by the half that the caller sees
            error = err
        self._put(Ended(self._ids(self._tracker.finish().closed), error))

    @property
    def unfollowed(self) -> int:
        """Detections that got no track because there were too many people."""
        return self._tracker.unfollowed

    def finish(self) -> None:
        """Stop after the present frame; the tracks are closed as at the end of a source."""
        self._enough.set()

    def abandon(self) -> None:
        """Stop at once; nothing more is told."""
        self._enough.set()
        self._abandoned.set()

    def tell(self, state: SourceState) -> None:
        """Pass on what a live source says of itself; while it is away all tracks end."""
        if state.state == "offline":
            self._put(Ended(self._ids(self._tracker.finish().closed), final=False))
        self._put(state)

    def _work(self) -> None:
        start = time.perf_counter()
        for number, frame in enumerate(self._source):
            if self._enough.is_set():
                return
            if number % self.stride:
                continue
            read_at = time.perf_counter()
            self.samples.add("source", (read_at - start) * 1e3)
            self.frames += 1
            self._put(self._look(frame, read_at))
            start = time.perf_counter()

    def _look(self, frame: Frame, read_at: float) -> Looked:
        with self.samples.time("segment"):
            expected = self._tracker.expected(frame.time_s)
            found = self._segmenter.segment(frame.image, frame.time_s, expected)
        with self.samples.time("track"):
            update = self._tracker.update(found, frame.time_s)
        with self.samples.time("silhouette"):
            seen = [self._judge(track, frame.time_s) for track in update.active]
        return Looked(
            frame,
            read_at,
            self._segmenter.state,
            seen,
            self._ids(update.born),
            self._closed(update),
        )

    def _judge(self, track: Track, time_s: float) -> Seen:
        gate = self._gates.get(track.id)
        if gate is None:
            gate = WalkGate(min_height_px=self._min_height_px, demand_walking=self._demand_walking)
            self._gates[track.id] = gate
        reason = gate.judge(track, time_s)
        detection = track.detection
        if detection is None:
            return Seen(track.id, track.box, None, reason, None)
        # TOO_FEW only means that it is early: the frame may count once the walk is plain
        usable = reason in (None, Reason.TOO_FEW)
        silhouette = align(detection.mask, self._size) if usable else None
        return Seen(track.id, detection.box, detection.mask, reason, silhouette, gate.heading)

    def _closed(self, update: TrackUpdate) -> list[int]:
        for track in update.closed:
            self._gates.pop(track.id, None)
        return self._ids(update.closed)

    @staticmethod
    def _ids(tracks: list[Track]) -> list[int]:
        return [track.id for track in tracks]

    def _put(self, message: Message) -> None:
        while not self._abandoned.is_set():
            with contextlib.suppress(queue.Full):
                self.messages.put(message, timeout=PUT_TICK_S)
                return


def learn_plate(source: FrameSource, segmenter: Segmenter) -> None:
    """Show the segmenter samples of the whole recording before its first frame is looked at."""
    total = source.frames
    whole = total is not None and total <= PLATE_MAX_FRAMES
    with source.reopen() as copy:
        segmenter.learn(_pairs(copy, total), rolling=not whole)


def _pairs(source: FrameSource, total: int | None) -> Iterator[tuple[Image, Image]]:
    """Yield pairs of frames a moment apart, spread over the recording."""
    gap = max(1, round(PAIR_GAP_S * (source.fps or 25.0)))
    last = min(total or PLATE_SAMPLES * PLATE_UNKNOWN_EVERY, PLATE_MAX_FRAMES) - 1 - gap
    starts = np.unique(np.linspace(0, max(last, 0), PLATE_SAMPLES).round().astype(int)).tolist()
    wanted, waiting = set(starts), dict[int, Image]()
    # a fault in the recording is told when the run itself comes to it, after the good frames
    with contextlib.suppress(CstlEdgeError):
        for number, frame in enumerate(source):
            before = waiting.pop(number - gap, None)
            if before is not None:
                yield before, frame.image
            if number in wanted:
                waiting[number] = frame.image
            if number > starts[-1] + gap:
                return
    for image in waiting.values():  # a recording shorter than the gap
        yield image, image
