"""Verbs `live`, `enroll` and `identify`: enrol people and recognise them."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cstl_edge.cli.console import notify, print_result, progress
from cstl_edge.cli.gallery import default_gallery, open_existing
from cstl_edge.cli.options import (
    Backend,
    Fpir,
    GalleryPath,
    Json,
    Model,
    Schema,
    Segmenter,
    Silhouettes,
    Source,
    Threshold,
)
from cstl_edge.errors import DataError, one_line
from cstl_edge.live.segmentation.open import DEFAULT_SEGMENTER
from cstl_edge.live.sources.open import open_source
from cstl_edge.runtime import load

if TYPE_CHECKING:  # every help text would wait for what these import
    from cstl_edge.arrays import Array
    from cstl_edge.gallery.match import Decision
    from cstl_edge.live.events import Event, EventLog
    from cstl_edge.live.pipeline.options import PipelineOptions, TrackRecord
    from cstl_edge.live.pipeline.run import Observer, PipelineRun
    from cstl_edge.runtime.base import Encoder


def live(
    source: Source,
    gallery: GalleryPath = None,
    model: Model = None,
    backend: Backend = "auto",
    segmenter: Segmenter = DEFAULT_SEGMENTER,
    fpir: Fpir = 0.01,
    threshold: Threshold = None,
    annotate: Annotated[Path | None, typer.Option(help="write an annotated video here")] = None,
    events: Annotated[
        Path | None, typer.Option(help="append events as JSON lines to this file")
    ] = None,
    duration: Annotated[float | None, typer.Option(help="stop after so many seconds")] = None,
    schema: Schema = 2,
    json: Json = False,
) -> None:
    """Follow walkers in a source and say who they are, as it happens; Ctrl-C ends it cleanly."""
    from cstl_edge.live.event_schema_1 import event_line
    from cstl_edge.live.events import Event, EventLog
    from cstl_edge.live.pipeline.run import run

    options, encoder = _pipeline(segmenter, fpir, threshold), load(model, backend)
    line_of = event_line if schema == 1 else Event.to_json
    with ExitStack() as stack:
        has_gallery = gallery is not None or default_gallery().exists()
        open_gallery = stack.enter_context(open_existing(gallery, encoder)) if has_gallery else None
        if open_gallery is None:
            notify("no gallery yet: nobody is named; begin with cstl-edge enroll")
        frames = open_source(source)
        observer = _annotator(annotate, frames.fps, stack) if annotate else None
        log = stack.enter_context(EventLog(events, line_of)) if events else None
        pipeline = stack.enter_context(
            run(frames, encoder=encoder, gallery=open_gallery, options=options, observer=observer)
        )
        text_of = line_of if json else str
        try:
            _print_events(pipeline, log, duration, text_of)
        except KeyboardInterrupt:
            pipeline.stop()
            _print_events(pipeline, log, None, text_of)  # the last word on everybody
            raise
        finally:
            pipeline.close()
            notify(str(pipeline.summary))


def enroll(
    name: Annotated[str, typer.Argument(help="Name under which the person is enrolled.")],
    source: Source,
    consent: Annotated[
        str, typer.Option(help="Who agreed to what, and when; kept with the person.")
    ],
    gallery: GalleryPath = None,
    model: Model = None,
    backend: Backend = "auto",
    segmenter: Segmenter = DEFAULT_SEGMENTER,
    retention_days: Annotated[
        float | None,
        typer.Option(help="after so many days the person no longer matches and is purged"),
    ] = None,
    track: Annotated[
        int | None,
        typer.Option(help="which walker of the source (default: the only one with a usable walk)"),
    ] = None,
    silhouettes: Silhouettes = None,
    json: Json = False,
) -> None:
    """Add a person to the gallery from a walk in a video, at a camera, or in silhouettes."""
    from cstl_edge.gallery.gallery import Gallery

    options, encoder = _pipeline(segmenter), load(model, backend)
    walk: Array
    if silhouettes:
        walk = _silhouettes(source, encoder, silhouettes)
        frames = len(walk)
    else:
        record = _choose(_collect(source, encoder, options), track)
        walk, frames = record.embeddings, record.frames
    with Gallery.open(gallery or default_gallery(), model=encoder) as open_gallery:
        stored = open_gallery.enroll(name, walk, consent=consent, retention_days=retention_days)
    text = f"enrolled {one_line(name)}: {stored} templates from {frames} frames"
    print_result({"name": name, "templates": stored, "frames": frames}, text, json)


def identify(
    source: Source,
    gallery: GalleryPath = None,
    model: Model = None,
    backend: Backend = "auto",
    segmenter: Segmenter = DEFAULT_SEGMENTER,
    fpir: Fpir = 0.01,
    threshold: Threshold = None,
    silhouettes: Silhouettes = None,
    schema: Schema = 2,
    json: Json = False,
) -> None:
    """Say who walks in a recording: one line per walker, with distance, threshold and runner-up."""
    from cstl_edge.live.event_schema_1 import decision_row
    from cstl_edge.live.events import Event, model_digits
    from cstl_edge.live.sources.base import redact

    options, encoder = _pipeline(segmenter, fpir, threshold), load(model, backend)
    with open_existing(gallery, encoder) as open_gallery:
        walks: list[tuple[Array, int, int, str | None]]  # walk, track, frames, account of them
        if silhouettes:
            silhouette_walk = _silhouettes(source, encoder, silhouettes)
            walks = [(silhouette_walk, 0, len(silhouette_walk), None)]
        else:
            records = _collect(source, encoder, options)
            walks = [(r.embeddings, r.track, r.frames, r.account) for r in records]
        digits = model_digits(encoder.info.weights_sha256)
        closed = partial(Event, event="closed", source=redact(source), model=digits)
        rows, lines = [], []
        for walk, track, frames, account in walks:
            decision = open_gallery.identify(walk, options.fpir, options.threshold)
            if schema == 1:
                rows.append(decision_row(track, frames, decision))
            else:
                event = closed(track=track, frames=frames, detail=account)
                rows.append(event.with_decision(decision).to_dict())
            lines.append(_sentence(track, frames, decision))
    print_result(rows, lines, json)


def _pipeline(
    segmenter: str, fpir: float = 0.01, threshold: float | None = None
) -> PipelineOptions:
    from cstl_edge.live.pipeline.options import PipelineOptions

    return PipelineOptions(segmenter=segmenter, fpir=fpir, threshold=threshold)


def _annotator(path: Path, fps: float, stack: ExitStack) -> Observer:
    """Return the writer of an annotated video, which ends with the stack."""
    from cstl_edge.live.video.annotated import AnnotatedVideo

    video = stack.enter_context(AnnotatedVideo(path, fps))
    return lambda frame, walkers, note: video.write(frame.image, walkers, note)


def _print_events(
    pipeline: PipelineRun,
    log: EventLog | None,
    duration_s: float | None,
    text_of: Callable[[Event], str],
) -> None:
    """Print and log events as they come; stop taking frames when the time is up."""
    start = time.monotonic()
    for event in pipeline:
        print(text_of(event), flush=True)
        if log is not None:
            log.write(event)
        if duration_s is not None and time.monotonic() - start > duration_s:
            pipeline.stop()


def _sentence(track: int, frames: int, decision: Decision) -> str:
    """Return a decision as one line for people."""
    words = f"track {track}: {one_line(decision.name or 'unknown')}"
    if decision.distance is not None:
        threshold = "none" if decision.threshold is None else f"{decision.threshold:.3f}"
        words += f", distance {decision.distance:.3f} (threshold {threshold} from "
        words += f"the {decision.threshold_source}, {decision.people} people)"
    if decision.runner_up is not None:
        words += f", next {one_line(decision.runner_up)} {decision.margin:+.3f}"
    return words + f", {frames} frames" + (f" - {decision.reason}" if decision.reason else "")


def _silhouettes(folder: str, encoder: Encoder, side: str) -> Array:
    from cstl_edge.silhouette import read_silhouettes

    return read_silhouettes(folder, encoder.info.size, mirrored=side == "right")


def _collect(source: str, encoder: Encoder, options: PipelineOptions) -> list[TrackRecord]:
    from cstl_edge.live.pipeline.collect import collect

    with progress(f"looking at {one_line(source)}"):
        return collect(source, encoder, options)


def _choose(records: list[TrackRecord], track: int | None) -> TrackRecord:
    """Return the walk that is meant; raises DataError when that is not certain."""
    walks = ", ".join(f"track {record.track} ({record.frames} frames)" for record in records)
    if track is not None:
        for record in records:
            if record.track == track:
                return record
        raise DataError(f"no usable walk of track {track}; there are {walks}")
    if len(records) > 1:
        raise DataError(f"{len(records)} people walk here: {walks}; choose one with --track")
    return records[0]
