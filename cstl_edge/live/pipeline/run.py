"""From a source to events: `run` for answers, `collect` for the silhouettes of an enrolment.

    with run("walk.mp4", encoder=load(), gallery=gallery) as events:
        for event in events:
            print(event)

Two threads: `pipeline_vision` reads, segments, tracks and judges; `pipeline_answers` embeds and
identifies in the caller's own thread. Frames pass in order, so a file gives the same events in
every run. The end of the iteration, an error, or `close()` stops both.
"""

from __future__ import annotations

import logging
import os
import time
from collections import deque
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import TYPE_CHECKING

from cstl_edge.errors import BackendUnavailable, DataError
from cstl_edge.live.annotate import WalkerView
from cstl_edge.live.events import Event
from cstl_edge.live.pipeline.options import Options, Summary, TrackRecord
from cstl_edge.live.pipeline.perception import Ended, Looked, Vision
from cstl_edge.live.pipeline.recognition import Answers
from cstl_edge.live.segmentation.base import SceneState
from cstl_edge.live.segmentation.open import make_segmenter
from cstl_edge.live.sources.base import Frame, FrameSource, SourceState
from cstl_edge.live.sources.open import open_source
from cstl_edge.live.tracking.tracker import Tracker
from cstl_edge.runtime.base import Encoder, usable_cores

if TYPE_CHECKING:
    from cstl_edge.gallery.gallery import Gallery


__all__ = ["Observer", "Options", "Run", "Summary", "TrackRecord", "collect", "run"]

log = logging.getLogger(__name__)

JOIN_S = 3.0  # that closing waits for the other thread
SEGMENTER_THREADS = 2  # at most: the rest belongs to the encoder

Observer = Callable[[Frame, list[WalkerView], "str | None"], None]


class Run(Iterator[Event]):
    """A running pipeline: an iterator of events, to be closed; use it as a context manager."""

    def __init__(
        self,
        source: str | os.PathLike[str] | FrameSource,
        encoder: Encoder,
        gallery: Gallery | None,
        options: Options,
        *,
        observer: Observer | None = None,
        keep: bool = False,
        retry: bool = False,
    ) -> None:
        self.summary = Summary()
        self._observer = observer
        self._early: list[SourceState] = []  # told while the source opens
        self._failed: BackendUnavailable | None = None  # to be raised behind the last words
        self._vision: Vision | None = None
        segmenter = make_segmenter(
            options.segmenter, threads=min(SEGMENTER_THREADS, usable_cores())
        )
        if isinstance(source, str | os.PathLike):
            source = open_source(source, on_state=self._on_state, retry=retry)
        self.source = source
        self._answers = Answers(source.uri, encoder, gallery, options, self.summary, keep=keep)
        self._ready = deque(self._answers.state(state) for state in self._early)
        self._vision = Vision(
            source,
            segmenter,
            Tracker(max_tracks=options.max_walkers),
            size=encoder.info.size,
            min_height_px=options.min_height_px,
            demand_walking=options.demand_walking,
        )
        self._started = time.perf_counter()
        self._vision.start()

    @property
    def fps(self) -> float:
        """Frames per second that the observer gets, as far as the source knows its own."""
        stride = self._vision.stride if self._vision is not None else 1
        return self.source.fps / stride

    @property
    def records(self) -> list[TrackRecord]:
        """The tracks closed so far, where they are kept."""
        return self._answers.records

    def __next__(self) -> Event:
        """Return the next event; an error of any stage is raised once."""
        while not self._ready:
            if self._failed is not None:
                failed, self._failed = self._failed, None
                raise failed
            if self._vision is None:
                raise StopIteration
            self._step(self._vision)
        return self._ready.popleft()

    def stop(self) -> None:
        """Take no more frames (after Ctrl-C); iterating on gives the last words of all tracks."""
        if self._vision is not None:
            self._vision.finish()
            if self.source.live:  # wakes a reader that waits for a camera
                self.source.close()

    def close(self) -> None:
        """Stop both halves at once and close the source; a second call does nothing."""
        self._shut()
        self._ready.clear()
        self._failed = None

    def _shut(self) -> None:
        vision, self._vision = self._vision, None
        if vision is None:
            return
        vision.abandon()
        if self.source.live:
            self.source.close()
        vision.join(JOIN_S)
        if vision.is_alive():  # closing a file under its reader would crash cv2
            log.warning("the reading thread did not stop within %g s", JOIN_S)
        else:
            self.source.close()
        self._answers.count()
        self._count(vision)

    def __enter__(self) -> Run:
        """Return the run."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close it."""
        self.close()

    def _on_state(self, state: SourceState) -> None:
        if self._vision is None:
            self._early.append(state)
        else:
            self._vision.tell(state)

    def _step(self, vision: Vision) -> None:
        """Take one message of the first half."""
        message = vision.messages.get()
        try:
            if isinstance(message, Looked):
                self._ready.extend(self._answers.frame(message))
                self._show(message)
                total_ms = (time.perf_counter() - message.read_at) * 1e3
                self.summary.samples.add("frame", total_ms)
            elif isinstance(message, Ended):
                self._end(message)
            else:
                self._ready.append(self._answers.state(message))
        except BackendUnavailable as err:  # the GPU is gone: who supervises us has to know
            self._ready.extend(self._answers.backend_down(str(err)))
            self._failed = err
            self._shut()
        except Exception:
            self._shut()
            raise

    def _show(self, looked: Looked) -> None:
        if self._observer is None:
            return
        note = None if looked.scene is SceneState.READY else looked.scene.value
        views = [self._answers.view(seen) for seen in looked.seen]
        with self.summary.samples.time("observe"):
            self._observer(looked.frame, views, note)

    def _end(self, ended: Ended) -> None:
        self._ready.extend(self._answers.close(ended.closed))
        if not ended.final:
            return
        self._shut()
        if ended.error is not None:
            raise ended.error

    def _count(self, vision: Vision) -> None:
        learning_ms = sum(vision.samples.by_stage.get("learn", []))
        self.summary.seconds = time.perf_counter() - self._started - learning_ms / 1e3
        self.summary.frames, self.summary.dropped = vision.frames, self.source.dropped
        self.summary.unfollowed = vision.unfollowed
        self.summary.samples.by_stage.update(vision.samples.by_stage)


def run(
    source: str | os.PathLike[str] | FrameSource,
    *,
    encoder: Encoder,
    gallery: Gallery | None = None,
    options: Options | None = None,
    observer: Observer | None = None,
    retry: bool = False,
) -> Run:
    """Follow everybody in a source and say who they are; returns an iterator of events.

    source: an address, or an open source, which is closed with the run
    observer: called with every frame, what to draw on it and a note about the scene
    retry: keep trying a live source that does not open
    Raises what opening the source raises; errors of a stage come out of the iteration, once.
    """
    chosen = options or Options()
    return Run(source, encoder, gallery, chosen, observer=observer, retry=retry)


def collect(
    source: str | os.PathLike[str] | FrameSource,
    encoder: Encoder,
    options: Options | None = None,
    observer: Observer | None = None,
) -> list[TrackRecord]:
    """Return the tracks of a source that have embeddings, the longest walk first.

    Raises DataError where nobody was seen, or no track has enough usable frames; the message says
    what became of the frames of the best one.
    """
    run_it = Run(source, encoder, None, options or Options(), observer=observer, keep=True)
    with run_it as events:
        for _ in events:
            pass
    records = sorted(run_it.records, key=lambda r: (-r.frames, r.track))
    if not records:
        raise DataError(
            f"nobody was seen in {run_it.source.uri}; expected a camera that stands still and "
            "people in full view"
        )
    usable = [record for record in records if len(record.embeddings)]
    if not usable:
        best = max(records, key=lambda r: (r.frames, sum(r.refusals.values())))
        raise DataError(f"no usable walk in {run_it.source.uri}: {best.account}")
    return usable
