"""Work of the verbs `live`, `enroll`, `identify` and `gallery`; `recognise` declares them."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path

from cstl_edge.arrays import Array
from cstl_edge.cli.console import notify, print_result, progress
from cstl_edge.errors import DataError, one_line
from cstl_edge.gallery.gallery import Gallery
from cstl_edge.gallery.match import Decision
from cstl_edge.live import event_schema_1
from cstl_edge.live.annotate import AnnotatedVideo
from cstl_edge.live.events import Event, JsonLines, model_digits
from cstl_edge.live.pipeline.options import PipelineOptions, RunSummary, TrackRecord
from cstl_edge.live.pipeline.run import Observer, PipelineRun, collect, run
from cstl_edge.live.sources.base import DEFAULT_FPS, redact
from cstl_edge.live.sources.open import open_source
from cstl_edge.runtime.base import Encoder
from cstl_edge.silhouette import read_silhouettes

LINE_OF: dict[int, Callable[[Event], str]] = {1: event_schema_1.event_line, 2: Event.to_json}
"""Writers of an event's JSON line, by schema."""


def default_gallery() -> Path:
    """Return the gallery's default place: in XDG_DATA_HOME, else in ~/.local/share."""
    home = os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share"
    return Path(home) / "cstl-edge" / "gallery.db"


def follow(
    source: str,
    gallery: Path | None,
    encoder: Encoder,
    options: PipelineOptions,
    annotate: Path | None,
    events: Path | None,
    duration_s: float | None,
    as_json: bool,
    schema: int,
) -> None:
    """Print the events of a source until it ends, the time is up, or Ctrl-C; then a summary.

    The arguments are the options of `cstl-edge live`.
    """
    line_of = LINE_OF[schema]
    with ExitStack() as stack:
        searched = gallery is not None or default_gallery().exists()
        people = stack.enter_context(_existing(gallery, encoder)) if searched else None
        if people is None:
            notify("no gallery yet: nobody is named; begin with cstl-edge enroll")
        opened = open_source(source)
        rate = opened.fps or DEFAULT_FPS
        video = stack.enter_context(AnnotatedVideo(annotate, rate)) if annotate else None
        log = stack.enter_context(JsonLines(events, line_of)) if events else None
        observer = None if video is None else _observer(video)
        running = stack.enter_context(
            run(opened, encoder=encoder, gallery=people, options=options, observer=observer)
        )
        text_of = line_of if as_json else str
        try:
            _print_events(running, log, duration_s, text_of)
        except KeyboardInterrupt:
            running.stop()
            _print_events(running, log, None, text_of)  # the last word on everybody
            raise
        finally:
            running.close()
            notify(_account(running.summary))


def _print_events(
    running: PipelineRun,
    log: JsonLines | None,
    duration_s: float | None,
    text_of: Callable[[Event], str],
) -> None:
    """Print and log events as they come; stop taking frames when the time is up."""
    start = time.monotonic()
    for event in running:
        print(text_of(event), flush=True)
        if log is not None:
            log.write(event)
        if duration_s is not None and time.monotonic() - start > duration_s:
            running.stop()


def _observer(video: AnnotatedVideo) -> Observer:
    return lambda frame, walkers, note: video.write(frame.image, walkers, note)


def _account(summary: RunSummary) -> str:
    return (
        f"{summary.frames} frames at {summary.fps:.1f} per second, {summary.dropped} dropped, "
        f"{summary.tracks} walkers, {summary.answers} answers"
    )


def enrol_walk(
    name: str,
    source: str,
    consent: str,
    gallery: Path | None,
    encoder: Encoder,
    options: PipelineOptions,
    retention_days: float | None,
    track: int | None,
    silhouettes: str | None,
    as_json: bool,
) -> None:
    """Store one person's walk.

    The arguments are the options of `cstl-edge enroll`.
    """
    walk: Array
    if silhouettes:
        walk = read_silhouettes(source, encoder.info.size, mirrored=silhouettes == "right")
        frames = len(walk)
    else:
        record = _choose(_collect(source, encoder, options), track)
        walk, frames = record.embeddings, record.frames
    with Gallery.open(gallery or default_gallery(), model=encoder) as people:
        stored = people.enroll(name, walk, consent=consent, retention_days=retention_days)
    text = f"enrolled {one_line(name)}: {stored} templates from {frames} frames"
    print_result({"name": name, "templates": stored, "frames": frames}, text, as_json)


def identify_walks(
    source: str,
    gallery: Path | None,
    encoder: Encoder,
    options: PipelineOptions,
    silhouettes: str | None,
    as_json: bool,
    schema: int,
) -> None:
    """Print one decision per walker.

    The arguments are the options of `cstl-edge identify`.
    """
    with _existing(gallery, encoder) as people:
        walks: list[tuple[Event, Array]]  # the event without its decision, and the walk
        if silhouettes:
            read = read_silhouettes(source, encoder.info.size, mirrored=silhouettes == "right")
            walks = [(_closed(source, encoder, 0, len(read)), read)]
        else:
            records = _collect(source, encoder, options)
            walks = [
                (_closed(source, encoder, r.track, r.frames, r.account), r.embeddings)
                for r in records
            ]
        decided = [
            (event, people.identify(walk, options.fpir, options.threshold)) for event, walk in walks
        ]
    rows = [
        event_schema_1.decision_row(event.track or 0, event.frames or 0, decision)
        if schema == 1
        else event.with_decision(decision).to_dict()
        for event, decision in decided
    ]
    print_result(
        rows, "\n".join(_sentence(event, decision) for event, decision in decided), as_json
    )


def _closed(
    source: str, encoder: Encoder, track: int, frames: int, account: str | None = None
) -> Event:
    """Return the event of a walk whose decision is still to come."""
    model = model_digits(encoder.info.weights_sha256)
    return Event(
        event="closed",
        source=redact(source),
        track=track,
        frames=frames,
        detail=account,
        model=model,
    )


def _sentence(event: Event, decision: Decision) -> str:
    """Return a decision as one line for people."""
    words = f"track {event.track}: {one_line(decision.name or 'unknown')}"
    if decision.distance is not None:
        threshold = "none" if decision.threshold is None else f"{decision.threshold:.3f}"
        words += f", distance {decision.distance:.3f} (threshold {threshold} from "
        words += f"the {decision.threshold_source}, {decision.people} people)"
    if decision.runner_up is not None:
        words += f", next {one_line(decision.runner_up)} {decision.margin:+.3f}"
    return words + f", {event.frames} frames" + (f" - {decision.reason}" if decision.reason else "")


def list_gallery(gallery: Path | None, as_json: bool) -> None:
    """Print one line per person."""
    with _existing(gallery) as people:
        rows = [asdict(person) for person in people.people()]
    lines = [
        f"{one_line(row['name'])}: {row['templates']} templates, since {row['created_utc']}, "
        f"until {row['expires_utc'] or 'removed'}; consent: {one_line(row['consent'])}"
        for row in rows
    ]
    print_result(rows, "\n".join(lines) or "nobody is enrolled", as_json)


def show_in_gallery(name: str, gallery: Path | None, as_json: bool) -> None:
    """Print everything kept of one person but the templates themselves."""
    with _existing(gallery) as people:
        row = asdict(people.show(name))
    lines = [f"{key}: {one_line(value, 500)}" for key, value in row.items()]
    print_result(row, "\n".join(lines), as_json)


def remove_from_gallery(name: str, gallery: Path | None, as_json: bool) -> None:
    """Erase one person."""
    with _existing(gallery) as people:
        erased = people.remove(name)
    print_result(
        {"name": name, "erased": erased}, f"erased {one_line(name)}: {erased} templates", as_json
    )


def _existing(gallery: Path | None, encoder: Encoder | None = None) -> Gallery:
    return Gallery.open(gallery or default_gallery(), model=encoder, create=False)


def _collect(source: str, encoder: Encoder, options: PipelineOptions) -> list[TrackRecord]:
    with progress(f"looking at {one_line(source)}"):
        return collect(source, encoder, options)


def _choose(records: list[TrackRecord], track: int | None) -> TrackRecord:
    """Return the walk that is meant; raises DataError when that is not certain."""
    usable = [record for record in records if len(record.embeddings)]
    if track is not None:
        for record in usable:
            if record.track == track:
                return record
        raise DataError(f"no usable walk of track {track}; there are {_tracks(usable)}")
    if len(usable) > 1:
        raise DataError(
            f"{len(usable)} people walk here: {_tracks(usable)}; choose one with --track"
        )
    return usable[0]


def _tracks(records: list[TrackRecord]) -> str:
    return ", ".join(f"track {r.track} ({r.frames} frames)" for r in records) or "none"
