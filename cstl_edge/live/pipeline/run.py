"""Run the pipeline over a source: `run` yields events.

    with run("walk.mp4", encoder=load(), gallery=gallery) as events:
        for event in events:
            print(event)

Two threads: `perception` reads, segments, tracks and checks the walk; `recognition` embeds and
identifies in the caller's own thread. Frames pass in order, so a file gives the same events in
every run. The end of the iteration, an error, or `close()` stops both.
"""

from __future__ import annotations

import logging
import os
import queue
import time
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from cstl_edge.errors import BackendAway, BackendUnavailable
from cstl_edge.live.annotate import WalkerView
from cstl_edge.live.events import Event
from cstl_edge.live.pipeline.options import PipelineOptions, RunSummary, TrackRecord
from cstl_edge.live.pipeline.perception import EndOfStream, FrameResult, PerceptionThread
from cstl_edge.live.pipeline.recognition import RecognitionStage
from cstl_edge.live.segmentation.base import SceneState, Segmenter
from cstl_edge.live.segmentation.open import open_segmenter
from cstl_edge.live.sources.base import Frame, FrameSource, SourceState
from cstl_edge.live.sources.open import open_source
from cstl_edge.live.sources.options import SourceOptions
from cstl_edge.live.sources.read_ahead import ReadAhead, read_ahead
from cstl_edge.runtime.base import Encoder, usable_cores

if TYPE_CHECKING:
    from cstl_edge.gallery.gallery import Gallery

log = logging.getLogger(__name__)

JOIN_S = 3.0  # that closing waits for the other thread
BACKEND_RETRY_S = 1.0  # between two tries of a server that is away
TICK_S = 0.2  # between two looks whether the run has to end
LAST_WORDS_S = 1.5  # from asking for the end to closing what does not end by itself
SEGMENTER_THREADS = 2  # at most: the rest belongs to the encoder

Observer = Callable[[Frame, list[WalkerView], "str | None"], None]


class PipelineRun(Iterator[Event]):
    """A running pipeline: an iterator of events, to be closed; use it as a context manager."""

    def __init__(
        self,
        source: str | os.PathLike[str] | FrameSource,
        encoder: Encoder,
        gallery: Gallery | None,
        options: PipelineOptions,
        *,
        observer: Observer | None = None,
        keep: bool = False,
        source_options: SourceOptions | None = None,
        duration_s: float | None = None,
    ) -> None:
        """Open segmenter and source and start perception.

        Args:
            source: An address, or an open source, which is closed with the run.
            encoder: Embeds the silhouettes.
            gallery: Searched for every walk, or None.
            options: Segmentation, windows and thresholds.
            observer: Called with every frame.
            keep: Keep silhouettes and embeddings of closed tracks in `records`.
            source_options: How an address is opened; its changes of state become events.
            duration_s: End after so many seconds, whether the source gives frames or not.
        """
        self.summary = RunSummary()
        self.upside_down = False  # everybody so far walks on their head
        self._observer = observer
        self._early: list[SourceState] = []  # while the source opens
        self._backend_retry_at: float | None = None  # while a server is away
        self._failed: BackendUnavailable | None = None  # to be raised behind the last words
        self._perception: PerceptionThread | None = None
        self.duration_s = duration_s
        self._stopping = False
        self._stopped_at: float | None = None  # time.perf_counter() when frames were ended
        if isinstance(source, str | os.PathLike):  # a recording opens while the networks do
            source = read_ahead(source, source_options) or source
        segmenter = _open_segmenter(encoder, options, source)
        if isinstance(source, str | os.PathLike):
            source = open_source(source, source_options, on_state=self._on_state)
        self.source = source
        self._recognition = RecognitionStage(
            source.uri, encoder, gallery, options, self.summary, keep=keep
        )
        self._ready = deque(self._recognition.source_event(state) for state in self._early)
        self._perception = PerceptionThread(source, segmenter, options, encoder.info.size)
        self._started = time.perf_counter()
        self._perception.start()

    def attach(self, observer: Observer | None, gallery: Gallery | None) -> None:
        """Add what a run needs from its first frame on, before it is iterated.

        observer: called with every frame, or None
        gallery: searched for every walk, or None
        """
        self._observer = observer
        self._recognition.search_in(gallery)

    @property
    def fps(self) -> float:
        """Frames per second that the observer gets, as far as the source knows its own."""
        stride = self._perception.stride if self._perception is not None else 1
        return self.source.fps / stride

    @property
    def records(self) -> list[TrackRecord]:
        """The tracks closed so far, where they are kept."""
        return self._recognition.records

    @property
    def most_windows(self) -> int:
        """Windows of the walk that has the most of them so far."""
        return self._recognition.most_windows

    def __next__(self) -> Event:
        """Return the next event; an error of any stage is raised once."""
        while not self._ready:
            if self._failed is not None:
                failed, self._failed = self._failed, None
                raise failed
            if self._perception is None:
                raise StopIteration
            self._step(self._perception)
        return self._ready.popleft()

    def stop(self) -> None:
        """Take no more frames; iterating on gives the last words of all tracks.

        It may be called from a signal handler and from any thread, and returns at once.
        """
        self._stopping = True

    def close(self) -> None:
        """Stop both threads at once and close the source; a second call does nothing."""
        self._shut()
        self._ready.clear()
        self._failed = None

    def _shut(self) -> None:
        perception, self._perception = self._perception, None
        if perception is None:
            return
        perception.abandon()
        if self.source.live:
            self.source.close()
        perception.join(JOIN_S)
        if perception.is_alive():  # closing a file under its reader would crash cv2
            log.warning("the reading thread did not stop within %g s", JOIN_S)
        else:
            self.source.close()
        learning_ms = sum(perception.samples.by_stage.get("learn", ()))
        summary = self.summary
        summary.not_finite, summary.unfollowed = self._recognition.not_finite, perception.unfollowed
        summary.seconds = time.perf_counter() - self._started - learning_ms / 1e3
        summary.frames, summary.dropped = perception.frames, self.source.dropped
        summary.samples.update(perception.samples)

    def __enter__(self) -> PipelineRun:
        """Return the run."""
        return self

    def __exit__(self, *exc: object) -> None:
        """Close it."""
        self.close()

    def _on_state(self, state: SourceState) -> None:
        if self._perception is None:
            self._early.append(state)
        else:
            self._perception.report(state)

    def _step(self, perception: PerceptionThread) -> None:
        """Process one message of the perception thread, if one comes."""
        self._ready.extend(self._recognition.purged())
        if self._must_end(perception):
            self._ready.extend(self._recognition.close_all())
            self._shut()
            return
        try:
            message = perception.messages.get(timeout=TICK_S)
        except queue.Empty:
            return
        try:
            if isinstance(message, FrameResult):
                if self._backend_retry_at is not None and not self._backend_is_back(perception):
                    return
                self._ready.extend(self._recognition.process(message))
                self._check_upright(message)
                self._show(message)
                total_ms = (time.perf_counter() - message.read_at) * 1e3
                self.summary.samples.add("frame", total_ms)
            elif isinstance(message, EndOfStream):
                self._end(message)
            else:
                self._ready.append(self._recognition.source_event(message))
        except BackendUnavailable as err:
            if isinstance(err, BackendAway) and self.source.live:
                self._backend_goes(str(err))
                return
            # the GPU is gone: the supervisor has to know
            self._ready.extend(self._recognition.backend_down(str(err)))
            self._failed = err
            self._shut()
        except Exception:
            self._shut()
            raise

    def _backend_goes(self, error: str) -> None:
        """Report once that a server is away, and try it again from time to time."""
        if self._backend_retry_at is None:
            self._ready.extend(self._recognition.backend_down(error))
        self._backend_retry_at = time.perf_counter() + BACKEND_RETRY_S

    def _backend_is_back(self, perception: PerceptionThread) -> bool:
        """Tell whether a server that was away answers again; everybody is a new track then."""
        if time.perf_counter() < (self._backend_retry_at or 0.0):
            return False
        self._ready.extend(self._recognition.backend_is_back())
        self._backend_retry_at = None
        perception.forget()
        return True

    def _check_upright(self, result: FrameResult) -> None:
        """Report once that everybody walks on their head."""
        if result.inverted and not self.upside_down:
            self._ready.append(self._recognition.upside_down())
        self.upside_down = result.inverted

    def _must_end(self, perception: PerceptionThread) -> bool:
        """End the frames when that is due; return whether waiting for the rest is over as well."""
        now = time.perf_counter()
        if self.duration_s is not None and now - self._started > self.duration_s:
            self._stopping = True
        if self._stopping and self._stopped_at is None:
            self._stopped_at = now
            perception.finish()
            if self.source.live:  # wakes a reader that waits for a camera
                self.source.close()
        return self._stopped_at is not None and now - self._stopped_at > LAST_WORDS_S

    def _show(self, result: FrameResult) -> None:
        if self._observer is None:
            return
        note = None if result.scene is SceneState.READY else result.scene.value
        views = [self._recognition.view(observation) for observation in result.observations]
        with self.summary.samples.time("observe"):
            self._observer(result.frame, views, note)

    def _end(self, end: EndOfStream) -> None:
        self._ready.extend(self._recognition.close(end.closed))
        if not end.final:
            return
        self._shut()
        if end.error is not None:
            raise end.error


def _open_segmenter(encoder: Encoder, options: PipelineOptions, source: object) -> Segmenter:
    """Return the segmenter of a run; a recording that opens meanwhile is open then, or closed.

    Args:
        encoder: Made ready; where it has engines, the segmenter's may lie beside them.
        options: Name the segmenter.
        source: Of the run.
    """
    try:
        encoder.warm_up(options.max_walkers)  # so that the second walker does not wait for it
        model = Path(encoder.info.engines) if encoder.info.engines is not None else None
        threads = min(SEGMENTER_THREADS, usable_cores())
        segmenter = open_segmenter(options.segmenter, threads=threads, model=model)
        if isinstance(source, ReadAhead):
            source.wait()
    except BaseException:
        if isinstance(source, ReadAhead):
            source.close()
        raise
    return segmenter


def run(
    source: str | os.PathLike[str] | FrameSource,
    *,
    encoder: Encoder,
    gallery: Gallery | None = None,
    options: PipelineOptions | None = None,
    observer: Observer | None = None,
    source_options: SourceOptions | None = None,
    duration_s: float | None = None,
) -> PipelineRun:
    """Follow and identify everybody in a source; return an iterator of events.

    Args:
        source: An address, or an open source, which is closed with the run.
        encoder: Embeds the silhouettes; stays the caller's to close.
        gallery: Searched for every walk; without one nobody is named.
        options: Segmentation, windows and thresholds.
        observer: Called with every frame, the walkers to draw and a note about the scene.
        source_options: How an address is opened: orientation, rate, whether to wait for it.
        duration_s: End after so many seconds, whether the source gives frames or not.

    Raises:
        SourceUnavailable, DataError, ConfigError: From opening the source; errors of a stage come
            out of the iteration, once.
    """
    chosen = options or PipelineOptions()
    return PipelineRun(
        source,
        encoder,
        gallery,
        chosen,
        observer=observer,
        source_options=source_options,
        duration_s=duration_s,
    )
