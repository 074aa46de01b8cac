"""Collect the walks of a source, for enrolment and identification, until they are enough."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cstl_edge.errors import ConfigError, DataError
from cstl_edge.live.annotate import WalkerView
from cstl_edge.live.pipeline.options import PipelineOptions, TrackRecord
from cstl_edge.live.pipeline.run import Observer, PipelineRun
from cstl_edge.live.sources.base import Frame, FrameSource
from cstl_edge.runtime.base import Encoder

if TYPE_CHECKING:
    from cstl_edge.gallery.gallery import Gallery
    from cstl_edge.live.sources.options import SourceOptions


@dataclass(frozen=True)
class CollectLimit:
    """When to stop looking; a recording without a limit is read to its end."""

    seconds: float | None = None  # of the clock at a live source, else of media time
    windows: int | None = None  # of one walk, which are enough; counts at a live source alone

    def __post_init__(self) -> None:
        """Raise ConfigError for values out of range."""
        if self.seconds is not None and not self.seconds > 0:
            raise ConfigError(f"expected seconds above 0; got {self.seconds:g}")


@dataclass(frozen=True)
class CollectState:
    """How far a collection is, for a progress bar."""

    live: bool
    done: float  # frames of a recording; seconds at a live source
    total: float | None  # of the same
    windows: int  # of the best walk
    fps: float  # frames per second that the observer gets, 0 where nobody knows


def collect(
    source: str | os.PathLike[str] | FrameSource | PipelineRun,
    encoder: Encoder,
    options: PipelineOptions | None = None,
    observer: Observer | None = None,
    *,
    gallery: Gallery | None = None,
    limit: CollectLimit | None = None,
    source_options: SourceOptions | None = None,
    progress: Callable[[CollectState], None] | None = None,
) -> list[TrackRecord]:
    """Return the tracks of a source that have embeddings, the longest walk first.

    Args:
        source: An address, or an open source, which is closed; or a run that has begun and keeps
            its records, with the options and source options that it was given.
        encoder: Embeds the silhouettes; stays the caller's to close.
        options: Segmentation and windows.
        observer: As for `run`.
        gallery: Searched for every walk, for what the observer draws.
        limit: When to stop before the end.
        source_options: Orientation and frame rate of an address.
        progress: Called with every frame, before the observer.

    Raises:
        DataError: Where nobody was seen, or no track has enough usable frames; the message has the
            account of the best one.
    """
    chosen, end = options or PipelineOptions(), limit or CollectLimit()
    watch = _Watch(end, observer, progress)
    if not isinstance(source, PipelineRun):
        source = PipelineRun(
            source, encoder, None, chosen, keep=True, source_options=source_options
        )
    with source as events:
        events.attach(watch.see, gallery)
        watch.over(events)
        for _ in events:
            pass
    within = f" within {end.seconds:g} s" if end.seconds is not None else ""
    chosen_side = source_options is not None and source_options.rotate is not None
    return _usable(events, within, chosen_side)


def _usable(events: PipelineRun, within: str, chosen_side: bool) -> list[TrackRecord]:
    """Return the records of a run that have embeddings, the longest walk first.

    Args:
        events: The run, at its end.
        within: Words of its limit, for messages.
        chosen_side: Whether somebody said which side of the picture is up.

    Raises:
        DataError: There are none, or everybody walks on their head.
    """
    if events.upside_down and not chosen_side:
        raise DataError(
            f"everybody walks on their head in {events.source.uri}",
            remedy="turn the picture with --rotate 180; where it is right, say so with --rotate 0",
        )
    records = sorted(events.records, key=lambda r: (-r.frames, r.track))
    if not records:
        raise DataError(
            f"nobody was seen in {events.source.uri}{within}",
            remedy="let the camera stand still and show people from head to foot",
        )
    usable = [record for record in records if len(record.embeddings) and record.frames]
    if not usable:
        best = max(records, key=lambda r: (r.frames, sum(r.refusals.values())))
        raise DataError(f"no usable walk in {events.source.uri}{within}: {best.account}")
    return usable


class _Watch:
    """Watches a run: tells how far it is, and stops it at its limit."""

    def __init__(
        self,
        limit: CollectLimit,
        observer: Observer | None,
        progress: Callable[[CollectState], None] | None,
    ) -> None:
        self._limit, self._observer, self._progress = limit, observer, progress
        self._run: PipelineRun | None = None
        self._first_s: float | None = None
        self._started = time.monotonic()

    def over(self, run: PipelineRun) -> None:
        """Watch a run; the clock ends one of a live source, frames or not."""
        self._run = run
        if run.source.live:
            run.duration_s = self._limit.seconds

    def see(self, frame: Frame, walkers: list[WalkerView], note: str | None) -> None:
        """Take a frame of the run."""
        if self._run is not None:
            state = self._state(self._run, frame)
            if self._progress is not None:
                self._progress(state)
            if self._is_over(state, frame):
                self._run.stop()
        if self._observer is not None:
            self._observer(frame, walkers, note)

    def _state(self, run: PipelineRun, frame: Frame) -> CollectState:
        windows, fps = run.most_windows, run.fps
        if run.source.live:
            elapsed = time.monotonic() - self._started
            return CollectState(True, elapsed, self._limit.seconds, windows, fps)
        return CollectState(False, frame.index + 1, run.source.frames, windows, fps)

    def _is_over(self, state: CollectState, frame: Frame) -> bool:
        if self._first_s is None:
            self._first_s = frame.time_s
        seconds, windows = self._limit.seconds, self._limit.windows
        if state.live:
            return windows is not None and state.windows >= windows
        return seconds is not None and frame.time_s - self._first_s >= seconds
