"""Run the verbs `live`, `enroll`, `identify` and `gallery`."""

from __future__ import annotations

import os
import time
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any

from cstl_edge.cli.console import progress, say, show
from cstl_edge.errors import DataError, one_line
from cstl_edge.gallery.gallery import Gallery
from cstl_edge.live.annotate import AnnotatedVideo
from cstl_edge.live.events import JsonLines
from cstl_edge.live.pipeline.run import Observer, Options, Run, Summary, TrackRecord, collect, run
from cstl_edge.live.sources.base import DEFAULT_FPS
from cstl_edge.live.sources.open import open_source
from cstl_edge.runtime.base import Encoder
from cstl_edge.silhouette import read_silhouettes


def default_gallery() -> Path:
    """Return where the gallery is kept when nobody says: XDG_DATA_HOME, else ~/.local/share."""
    home = os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share"
    return Path(home) / "cstl-edge" / "gallery.db"


def follow(
    source: str,
    gallery: Path | None,
    encoder: Encoder,
    options: Options,
    annotate: Path | None,
    events: Path | None,
    duration_s: float | None,
    as_json: bool,
) -> None:
    """Print the events of a source until it ends, the time is up, or Ctrl-C; then a summary."""
    with ExitStack() as stack:
        people = stack.enter_context(_existing(gallery, encoder)) if _wanted(gallery) else None
        if people is None:
            say("no gallery yet: nobody is named; begin with cstl-edge enroll")
        opened = open_source(source)
        rate = opened.fps or DEFAULT_FPS
        video = stack.enter_context(AnnotatedVideo(annotate, rate)) if annotate else None
        log = stack.enter_context(JsonLines(events)) if events else None
        observer = None if video is None else _drawer(video)
        running = stack.enter_context(
            run(opened, encoder=encoder, gallery=people, options=options, observer=observer)
        )
        try:
            _tell(running, log, duration_s, as_json)
        except KeyboardInterrupt:
            running.stop()
            _tell(running, log, None, as_json)  # the last word on everybody
            raise
        finally:
            running.close()
            say(_account(running.summary))


def _tell(running: Run, log: JsonLines | None, duration_s: float | None, as_json: bool) -> None:
    """Print and log events as they come; stop taking frames when the time is up."""
    start = time.monotonic()
    for event in running:
        print(event.to_json() if as_json else str(event), flush=True)
        if log is not None:
            log.write(event)
        if duration_s is not None and time.monotonic() - start > duration_s:
            running.stop()


def _account(summary: Summary) -> str:
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
    options: Options,
    retention_days: float | None,
    track: int | None,
    silhouettes: str | None,
    as_json: bool,
) -> None:
    """Store one person's walk."""
    if silhouettes:
        what: Any = read_silhouettes(source, encoder.info.size, mirrored=silhouettes == "right")
        frames = len(what)
    else:
        with progress(f"looking at {one_line(source)}"):
            record = _choose(collect(source, encoder, options), track)
        what, frames = record.embeddings, record.frames
    with Gallery.open(gallery or default_gallery(), model=encoder) as people:
        stored = people.enroll(name, what, consent=consent, retention_days=retention_days)
    text = f"enrolled {one_line(name)}: {stored} templates from {frames} frames"
    show({"name": name, "templates": stored, "frames": frames}, text, as_json)


def identify_walks(
    source: str,
    gallery: Path | None,
    encoder: Encoder,
    options: Options,
    silhouettes: str | None,
    as_json: bool,
) -> None:
    """Print one decision per walker."""
    with _existing(gallery, encoder) as people:
        walks: list[tuple[int, int, Any]]
        if silhouettes:
            read = read_silhouettes(source, encoder.info.size, mirrored=silhouettes == "right")
            walks = [(0, len(read), read)]
        else:
            with progress(f"looking at {one_line(source)}"):
                records = collect(source, encoder, options)
            walks = [(r.track, r.frames, r.embeddings) for r in records]
        rows = []
        for track, frames, what in walks:
            decision = people.identify(what, options.fpir, options.threshold)
            row = {"track": track, "frames": frames, "answer": decision.name or "unknown"}
            rows.append(row | asdict(decision))
    show(rows, "\n".join(_sentence(row) for row in rows), as_json)


def list_gallery(gallery: Path | None, as_json: bool) -> None:
    """Print one line per person."""
    with _existing(gallery) as people:
        rows = [asdict(person) for person in people.people()]
    lines = [
        f"{one_line(row['name'])}: {row['templates']} templates, since {row['created_utc']}, "
        f"until {row['expires_utc'] or 'removed'}; consent: {one_line(row['consent'])}"
        for row in rows
    ]
    show(rows, "\n".join(lines) or "nobody is enrolled", as_json)


def show_in_gallery(name: str, gallery: Path | None, as_json: bool) -> None:
    """Print everything kept of one person but the templates themselves."""
    with _existing(gallery) as people:
        row = asdict(people.show(name))
    lines = [f"{key}: {one_line(value, 500)}" for key, value in row.items()]
    show(row, "\n".join(lines), as_json)


def remove_from_gallery(name: str, gallery: Path | None, as_json: bool) -> None:
    """Erase one person."""
    with _existing(gallery) as people:
        erased = people.remove(name)
    show({"name": name, "erased": erased}, f"erased {one_line(name)}: {erased} templates", as_json)


def _drawer(video: AnnotatedVideo) -> Observer:
    return lambda frame, walkers, note: video.write(frame.image, walkers, note)


def _wanted(gallery: Path | None) -> bool:
    return gallery is not None or default_gallery().exists()


def _existing(gallery: Path | None, encoder: Encoder | None = None) -> Gallery:
    return Gallery.open(gallery or default_gallery(), model=encoder, create=False)


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


def _sentence(row: dict[str, Any]) -> str:
    """Say one decision to a person."""
    words = f"track {row['track']}: {one_line(row['answer'])}"
    if row["distance"] is not None:
        threshold = "none" if row["threshold"] is None else f"{row['threshold']:.3f}"
        words += f", distance {row['distance']:.3f} (threshold {threshold} from "
        words += f"the {row['threshold_source']}, {row['people']} people)"
    if row["runner_up"] is not None:
        words += f", next {one_line(row['runner_up'])} {row['margin']:+.3f}"
    return words + f", {row['frames']} frames" + (f" - {row['reason']}" if row["reason"] else "")
