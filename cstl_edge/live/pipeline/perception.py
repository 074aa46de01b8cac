"""Perception thread: frames in; tracks with checked, aligned silhouettes out.

A bounded queue joins it to the recognition stage, so that two cores work at once and the order, and
with it every result for a file, stays the same. A full queue makes this thread wait: a file waits
with it, a live source meanwhile keeps only its newest frame and counts the others as dropped.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import queue
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np

from cstl_edge.arrays import Floats, Image, Mask
from cstl_edge.errors import CstlEdgeError
from cstl_edge.live.boxes import Box
from cstl_edge.live.pipeline.options import PipelineOptions
from cstl_edge.live.pipeline.pace import MaskPace
from cstl_edge.live.pipeline.upright import UprightCheck
from cstl_edge.live.segmentation.base import Colours, Detection, SceneState, Segmenter
from cstl_edge.live.sources.base import DEFAULT_FPS, Frame, FrameSource, SourceState
from cstl_edge.live.tracking.track import Track
from cstl_edge.live.tracking.tracker import Tracker
from cstl_edge.live.tracking.walk_filter import Reason, WalkFilter
from cstl_edge.measure.nvtx import nvtx_range
from cstl_edge.measure.stats import Samples
from cstl_edge.silhouette import align

log = logging.getLogger(__name__)

MAX_FPS = 30.0  # of a faster source frames are left out, evenly
QUEUE_FRAMES = 4  # between thread and recognition: more would only add latency
BACKGROUND_SAMPLES = 60  # of a recording, spread over all of it,
SAMPLES_PER_S = 8  # and no more of a short one: samples closer together show the same once more
LEAST_SAMPLES = 12
BACKGROUND_MAX_FRAMES = 6000  # a longer recording is learned from its beginning, then like a camera
BACKGROUND_UNKNOWN_EVERY = 15  # frames between samples where the length is not known
PAIR_GAP_S = 0.1  # between the two frames of a sample
PUT_TICK_S = 0.1  # between two checks of a waiting put for a stop


@dataclass(frozen=True)
class TrackObservation:
    """One track in one frame."""

    id: int
    box: Box
    mask: Mask | None
    reason: Reason | None  # why the frame must not be used
    silhouette: Mask | None  # aligned; None where `reason` forbids it, and of who rests
    heading: float | None = None  # body heights per second to the right
    colours: Colours | None = None  # clothes: Y, Cr, Cb of the upper half, then of the lower one
    clothes: Floats | None = None  # their descriptor (`live.clothes`); None in a meeting
    resting: bool = False  # only tracked in this frame; `reason` is older


@dataclass(frozen=True)
class FrameResult:
    """Everything that perception finds in one frame."""

    frame: Frame
    read_at: float  # time.perf_counter() when the frame came
    scene: SceneState
    observations: list[TrackObservation] = field(default_factory=list)
    born: list[int] = field(default_factory=list)
    closed: list[int] = field(default_factory=list)
    inverted: bool = False  # everybody so far walks on their head
    masking: str | None = None  # a sentence where not everybody gets the better mask
    doubtful: list[int] = field(default_factory=list)  # of `closed`: may be another person by now


@dataclass(frozen=True)
class EndOfStream:
    """The source has ended, or is offline for a while: these tracks are closed."""

    closed: list[int]
    error: BaseException | None = None
    final: bool = True


Message = FrameResult | EndOfStream | SourceState


class PerceptionThread(threading.Thread):
    """Runs source, segmentation, tracking and walk filters; puts messages into `messages`."""

    def __init__(
        self,
        source: FrameSource,
        segmenter: Segmenter,
        options: PipelineOptions,
        size: tuple[int, int],
    ) -> None:
        """Prepare the thread; `start` runs it.

        Args:
            source: Frames; stays the caller's to close.
            segmenter: Finds people; learns the background of a recording first.
            options: Tracks at once, and which people are usable.
            size: Height and width of the silhouettes.
        """
        super().__init__(name="cstl-edge-perception", daemon=True)
        self.messages: queue.Queue[Message] = queue.Queue(QUEUE_FRAMES)
        self.samples = Samples()
        self.frames = 0
        self.busy_since_s: float | None = None  # time.perf_counter() when the frame in work came
        self._source, self._segmenter = source, segmenter
        self._rest: Callable[[list[Box]], None] | None = getattr(segmenter, "rest", None)
        self._ahead: Callable[[Image], None] | None = getattr(segmenter, "ahead", None)
        self._options, self._size = options, size
        self._tracker = Tracker(max_tracks=options.max_walkers)
        self._filters: dict[int, WalkFilter] = {}
        self._pace = MaskPace(options.paced_fps, options.min_frames)
        self._upright = UprightCheck()
        self._forgetting = threading.Event()  # end all tracks: everybody is a new one
        self._stopping = threading.Event()  # no more frames; the tracks are still closed
        self._abandoned = threading.Event()  # the messages have no reader any more

    def run(self) -> None:
        """Process frames until the source ends, an error comes or a stop is requested."""
        error: BaseException | None = None
        try:
            if not self._source.live:
                with self.samples.time("learn"):
                    learn_background(self._source, self._segmenter, self._stopping)
            self._process_frames()
        except BaseException as err:  # raised by the recognition stage, in the caller's thread
            error = None if self._stopping.is_set() else err
        self._put(EndOfStream(self._close_all(), error))

    @property
    def stride(self) -> int:
        """Number of frames of which one is used; a live source knows its rate late.

        The network was trained on 8 to 30 frames per second: a faster source is thinned.
        """
        return max(1, round(self._source.fps / MAX_FPS))

    @property
    def unfollowed(self) -> int:
        """Detections that got no track because there were too many people."""
        return self._tracker.unfollowed

    def finish(self) -> None:
        """Stop after the present frame; the tracks are closed as at the end of a source."""
        self._stopping.set()

    def forget(self) -> None:
        """End all tracks with the next frame; who is in view gets a new one."""
        self._forgetting.set()

    def abandon(self) -> None:
        """Stop at once, without further messages."""
        self._stopping.set()
        self._abandoned.set()

    def report(self, state: SourceState) -> None:
        """Pass on the state of a live source; when it goes offline all tracks end."""
        if state.state == "offline":
            self._put(EndOfStream(self._close_all(), final=False))
        self._put(state)

    def _process_frames(self) -> None:
        start = time.perf_counter()
        for frame, following in self._with_following(self._captured()):
            if self._stopping.is_set():
                return
            if following is not None and self._ahead is not None:
                self._ahead(following.image)
            if self._forgetting.is_set():
                self._forgetting.clear()
                self._put(EndOfStream(self._close_all(), final=False))
                self._filters.clear()
            read_at = time.perf_counter()
            self.samples.add("source", (read_at - start) * 1e3)
            self.frames += 1
            self.busy_since_s = read_at
            result = self._perceive(frame, read_at)
            self.busy_since_s = None
            self._put(result)
            start = time.perf_counter()

    def _captured(self) -> Iterator[Frame]:
        """Yield the source's frames that are used, each wait for one marked for Nsight."""
        frames = iter(self._source)
        for number in itertools.count():
            with nvtx_range("capture"):
                frame = next(frames, None)
            if frame is None or self._stopping.is_set():
                return
            if number % self.stride == 0:
                yield frame

    def _with_following(self, frames: Iterator[Frame]) -> Iterator[tuple[Frame, Frame | None]]:
        """Yield frames, those of a recording with the one that follows where there is one.

        A fault of the recording is raised behind the last good frame.
        """
        if self._source.live:
            for frame in frames:
                yield frame, None
            return
        fault: Exception | None = None
        now = next(frames, None)
        while now is not None:
            try:
                following = next(frames, None)
            except Exception as err:
                following, fault = None, err
            yield now, following
            now = following
        if fault is not None:
            raise fault

    def _perceive(self, frame: Frame, read_at: float) -> FrameResult:
        with self.samples.time("segment"):
            expected = self._tracker.expected_people(frame.time_s)
            due = self._pace.due(expected, frame.time_s)
            if self._rest is not None:
                self._rest([box for track, box in expected.items() if track not in due])
            boxes = list(expected.values())
            detections = self._segmenter.segment(frame.image, frame.time_s, boxes)
        with self.samples.time("track"):
            height, width = frame.image.shape[:2]
            update = self._tracker.update(detections, frame.time_s, (height, width))
        with self.samples.time("silhouette"):
            born_now = {track.id for track in update.born}
            observations = [
                self._observe(track, frame.time_s, rests=track.id not in due | born_now)
                for track in update.active
            ]
        born, closed = self._ids(update.born), self._forget(update.closed)
        doubtful = [track.id for track in update.closed if track.doubt]
        inverted, scene = self._upright.everybody_inverted, self._segmenter.state
        masking: str | None = getattr(self._segmenter, "detail", None)  # of `auto`
        return FrameResult(
            frame, read_at, scene, observations, born, closed, inverted, masking, doubtful
        )

    def _close_all(self) -> list[int]:
        """Close every track; return their numbers."""
        return self._forget(self._tracker.finish().closed)

    def _forget(self, tracks: list[Track]) -> list[int]:
        """Forget tracks that are closed; return their numbers."""
        for track in tracks:
            self._filters.pop(track.id, None)
            self._pace.forget(track.id)
            self._upright.close(track.id)
        return self._ids(tracks)

    def _observe(self, track: Track, time_s: float, *, rests: bool) -> TrackObservation:
        walk_filter, detection = self._filter_of(track.id), track.detection
        alone = detection is not None and not track.merged
        resting = alone and (rests or bool(detection and detection.interim))
        # a camera that moves: somebody who stands moves with the picture
        offset: tuple[float, float] = getattr(self._segmenter, "camera_offset", (0.0, 0.0))
        reason = walk_filter.reason if resting else walk_filter.check(track, time_s, offset)
        if detection is None:
            return TrackObservation(track.id, track.box, None, reason, None)
        if reason in (None, Reason.NOT_PERSON):
            self._upright.observe(track.id, detection.mask)
        if resting:
            return _observation(track, detection, walk_filter, reason, resting=True)
        # TOO_FEW only means that it is early: the frame may count once the walk is plain
        usable = reason in (None, Reason.TOO_FEW)
        silhouette = align(detection.mask, self._size) if usable else None
        counts = None if reason is Reason.TOO_FEW else usable
        self._pace.take(track.id, time_s, usable=counts)
        return _observation(track, detection, walk_filter, reason, silhouette)

    def _filter_of(self, track: int) -> WalkFilter:
        """Return the walk filter of a track, a new one for a new track."""
        if track not in self._filters:
            self._filters[track] = WalkFilter(
                min_height_px=self._options.min_height_px,
                demand_walking=self._options.demand_walking,
            )
        return self._filters[track]

    @staticmethod
    def _ids(tracks: list[Track]) -> list[int]:
        return [track.id for track in tracks]

    def _put(self, message: Message) -> None:
        while not self._abandoned.is_set():
            with contextlib.suppress(queue.Full):
                self.messages.put(message, timeout=PUT_TICK_S)
                return


def _observation(
    track: Track,
    detection: Detection,
    walk_filter: WalkFilter,
    reason: Reason | None,
    silhouette: Mask | None = None,
    *,
    resting: bool = False,
) -> TrackObservation:
    """Return what is seen of a track that has a detection.

    Args:
        track: The track.
        detection: Its own, or the one of a meeting.
        walk_filter: That of the track.
        reason: Why the frame must not be used.
        silhouette: Aligned, where it may be.
        resting: Whether it is only tracked in this frame.
    """
    return TrackObservation(
        track.id,
        detection.box,
        detection.mask,
        reason,
        silhouette,
        walk_filter.heading,
        detection.colours,
        None if track.merged else detection.clothes,
        resting,
    )


def learn_background(
    source: FrameSource, segmenter: Segmenter, stopping: threading.Event | None = None
) -> None:
    """Learn the background from samples of the whole recording, before its first frame.

    Args:
        source: A recording, which is read through.
        segmenter: What learns.
        stopping: Ends the learning when it is set.
    """
    total = source.frames
    whole = total is not None and total <= BACKGROUND_MAX_FRAMES
    with source.reopen() as copy:
        segmenter.learn(_pairs(copy, total, stopping or threading.Event()), rolling=not whole)


def _sample_count(frames: int, fps: float) -> int:
    """Return how many samples a recording of so many frames is learned from."""
    return min(BACKGROUND_SAMPLES, max(LEAST_SAMPLES, round(SAMPLES_PER_S * frames / fps)))


def _pairs(
    source: FrameSource, total: int | None, stopping: threading.Event
) -> Iterator[tuple[Image, Image]]:
    """Yield pairs of frames a moment apart, spread over the recording."""
    fps = source.fps or DEFAULT_FPS
    gap = max(1, round(PAIR_GAP_S * fps))
    frames = min(total or BACKGROUND_SAMPLES * BACKGROUND_UNKNOWN_EVERY, BACKGROUND_MAX_FRAMES)
    spread = np.linspace(0, max(frames - 1 - gap, 0), _sample_count(frames, fps))
    starts = np.unique(spread.round().astype(int)).tolist()
    start_numbers, waiting = set(starts), dict[int, Image]()
    # a fault in the recording is raised when the run itself comes to it, after the good frames
    with contextlib.suppress(CstlEdgeError):
        for number, frame in enumerate(source):
            if stopping.is_set():
                return
            before = waiting.pop(number - gap, None)
            if before is not None:
                yield before, frame.image
            if number in start_numbers:
                waiting[number] = frame.image
            if number > starts[-1] + gap:
                return
    for image in waiting.values():  # a recording shorter than the gap
        yield image, image
