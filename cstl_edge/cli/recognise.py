"""Verbs `enroll` and `identify`: add people to the gallery, and recognise them in a recording."""

from __future__ import annotations

from contextlib import ExitStack, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from cstl_edge.cli.console import print_result
from cstl_edge.cli.gallery import default_gallery, gallery_key, open_existing
from cstl_edge.cli.options import (
    Annotate,
    Backend,
    Camera,
    Flip,
    Fpir,
    Fps,
    GalleryPath,
    Json,
    Model,
    Overwrite,
    Rotate,
    Schema,
    Segmenter,
    Silhouettes,
    Source,
    Threshold,
    WalkerFps,
)
from cstl_edge.cli.remote import Server, enroll_remote, identify_remote
from cstl_edge.cli.walks import (
    Observers,
    Pictures,
    Seconds,
    SourceChoice,
    Track,
    TrackChoice,
    collect_walks,
    learning,
    reading,
)
from cstl_edge.errors import ConfigError, DataError, one_line
from cstl_edge.live.segmentation.open import DEFAULT_SEGMENTER, WALKER_FPS
from cstl_edge.runtime import load

if TYPE_CHECKING:  # every help text would wait for what these import
    from cstl_edge.arrays import Array
    from cstl_edge.gallery.gallery import Gallery
    from cstl_edge.gallery.match import Decision
    from cstl_edge.gallery.people import EnrolledPerson
    from cstl_edge.gallery.records import WalkOrigin
    from cstl_edge.live.pipeline.options import PipelineOptions, TrackRecord
    from cstl_edge.runtime.base import Encoder

Name = Annotated[str, typer.Argument(help="Name under which the person is enrolled.")]
Consent = Annotated[str, typer.Option(help="Who agreed to what, and when; kept with the person.")]
RetentionDays = Annotated[
    float | None,
    typer.Option(min=0, help="Days after which the person no longer matches and is erased."),
]
Force = Annotated[
    bool,
    typer.Option(
        "--force", help="Enroll a walk or a name that is there already, or looks like another."
    ),
]
KeepSilhouettes = Annotated[
    bool,
    typer.Option(
        "--keep-silhouettes", help="Keep the silhouettes too, which the consent must cover."
    ),
]
Encrypt = Annotated[
    bool,
    typer.Option(
        "--encrypt",
        help="Encrypt a gallery that is made, by a passphrase in CSTL_EDGE_GALLERY_PASSPHRASE or a"
        " key file that CSTL_EDGE_GALLERY_KEY_FILE names.",
    ),
]


def enroll(
    context: typer.Context,
    name: Name,
    source: Source,
    consent: Consent,
    gallery: GalleryPath = None,
    model: Model = None,
    backend: Backend = "auto",
    segmenter: Segmenter = DEFAULT_SEGMENTER,
    walker_fps: WalkerFps = WALKER_FPS,
    retention_days: RetentionDays = None,
    camera: Camera = None,
    track: Track = None,
    pictures: Pictures = None,
    seconds: Seconds = None,
    rotate: Rotate = None,
    flip: Flip = None,
    fps: Fps = None,
    silhouettes: Silhouettes = None,
    keep_silhouettes: KeepSilhouettes = False,
    encrypt: Encrypt = False,
    force: Force = False,
    server: Server = None,
    json: Json = False,
) -> None:
    """Add a person to the gallery from a walk in a video, at a camera, or in silhouettes."""
    if server is not None:
        enroll_remote(context, server, name, source, consent, json=json)
        return
    from cstl_edge.gallery.gallery import Gallery

    encoder = load(model, backend)
    if silhouettes:
        walk = _silhouette_walk(source, encoder, silhouettes)
    else:
        choice = SourceChoice(source, rotate, flip, fps, seconds)
        masks = segmenter, walker_fps
        walk = _watched_walk(choice, TrackChoice(source, pictures), track, encoder, masks)
    place, key = gallery or default_gallery(), gallery_key(confirm=encrypt)
    with Gallery.open(place, model=encoder, key=key, encrypt=encrypt) as people:
        people.enroll(
            name,
            walk.content,
            consent=consent,
            retention_days=retention_days,
            origin=_seen_by(camera, walk.origin),
            silhouettes=walk.silhouettes if keep_silhouettes else None,
            force=force,
        )
        _print_enrolment(people.show(name), walk.frames, json)


def identify(
    context: typer.Context,
    source: Source,
    gallery: GalleryPath = None,
    model: Model = None,
    backend: Backend = "auto",
    segmenter: Segmenter = DEFAULT_SEGMENTER,
    walker_fps: WalkerFps = WALKER_FPS,
    fpir: Fpir = 0.01,
    threshold: Threshold = None,
    camera: Camera = None,
    annotate: Annotate = None,
    overwrite: Overwrite = False,
    track: Track = None,
    pictures: Pictures = None,
    seconds: Seconds = None,
    rotate: Rotate = None,
    flip: Flip = None,
    fps: Fps = None,
    silhouettes: Silhouettes = None,
    schema: Schema = 2,
    server: Server = None,
    json: Json = False,
) -> None:
    """Say who walks in a recording or past a camera: one line for each walker."""
    if server is not None:
        identify_remote(context, server, source, json=json)
        return
    annotate = _claim([source, gallery, model], annotate, overwrite, silhouettes is not None)
    choice = SourceChoice(source, rotate, flip, fps, seconds)
    with nullcontext(choice) if silhouettes else reading(choice) as choice:
        from cstl_edge.live.pipeline.options import PipelineOptions

        more: dict[str, Any] = {"threshold": threshold, "camera": camera}
        options = PipelineOptions(segmenter, walker_fps=walker_fps or None, fpir=fpir, **more)
        encoder = load(model, backend)
        with learning(choice, encoder, options) as begun, open_existing(gallery, encoder) as people:
            if silhouettes:
                walks = [_silhouette_walk(source, encoder, silhouettes)]
            else:
                tracks = TrackChoice(source, pictures)
                records = _collect(begun, encoder, options, people, annotate, tracks)
                chosen = records if track is None else [tracks.choose(records, track)]
                tracks.show(chosen)
                walks = [_recorded_walk(record) for record in chosen]
            more = {"camera": camera, "learn": False}
            decisions = [people.identify(w.content, fpir, threshold, **more) for w in walks]
    _print_decisions(walks, decisions, source, encoder, schema, json)


class RecordedWalk(NamedTuple):
    """One walk to enroll or to identify."""

    content: Array  # embeddings [k, p, d], or silhouettes [s, h, w]
    track: int
    frames: int  # usable ones
    account: str | None = None  # what became of its frames
    origin: WalkOrigin | None = None
    silhouettes: Array | None = None  # [s, h, w]


def _silhouette_walk(folder: str, encoder: Encoder, side: str) -> RecordedWalk:
    """Return the walk whose silhouettes lie in a folder."""
    from cstl_edge.gallery.records import WalkOrigin
    from cstl_edge.silhouette import read_silhouettes

    content = read_silhouettes(folder, encoder.info.size, mirrored=side == "right")
    return RecordedWalk(content, 0, len(content), origin=WalkOrigin(view=side), silhouettes=content)


def _watched_walk(
    choice: SourceChoice,
    tracks: TrackChoice,
    track: int | None,
    encoder: Encoder,
    masks: tuple[str, float],
) -> RecordedWalk:
    """Return the walk of a source, that of a track where several people walk.

    Args:
        choice: Where and how to look.
        tracks: Walkers and their pictures.
        track: Number of the one that is meant.
        encoder: Embeds the silhouettes.
        masks: The segmenter, and how many frames of a walker per second are masked.
    """
    from cstl_edge.live.pipeline.options import PipelineOptions

    options = PipelineOptions(masks[0], walker_fps=masks[1] or None)
    observers = Observers()
    observers.seen.append(tracks.see)
    records = collect_walks(choice, encoder, options, observers)
    return _recorded_walk(tracks.choose(records, track, encoder.info))


def _recorded_walk(record: TrackRecord) -> RecordedWalk:
    """Return the walk of a track."""
    from cstl_edge.gallery.records import WalkOrigin

    length_s = None
    if record.started_s is not None and record.ended_s is not None:
        length_s = record.ended_s - record.started_s
    origin = WalkOrigin(
        view=record.view, frames_per_second=record.frames_per_second, seconds=length_s
    )
    return RecordedWalk(
        record.embeddings,
        record.track,
        record.frames,
        record.account,
        origin,
        record.silhouettes,
    )


def _seen_by(camera: str | None, origin: WalkOrigin | None) -> WalkOrigin | None:
    """Return where a walk comes from, with the camera's name."""
    return replace(origin, camera=camera) if origin is not None and camera else origin


def _print_enrolment(person: EnrolledPerson, frames: int, json: bool) -> None:
    """Say what an enrolment changed, and what would help to recognise the person."""
    from cstl_edge.gallery.advice import missing, seen_from

    stored = person.enrolments[-1].templates
    advice = missing(person)
    lines = [
        f"enrolled {one_line(person.name)}: {stored} templates from {frames} frames;"
        f" {person.templates - stored} before, {person.templates} now, {seen_from(person)}",
        *advice,
    ]
    record = {"name": person.name, "templates": stored, "frames": frames}
    totals = {"templates_before": person.templates - stored, "templates_now": person.templates}
    print_result({**record, **totals, "advice": advice}, lines, json)


def _claim(
    inputs: list[str | Path | None], annotate: Path | None, overwrite: bool, no_video: bool
) -> Path | None:
    """Return where the video goes; ConfigError where it would destroy something or has no source.

    Args:
        inputs: Files that are read.
        annotate: As the user named it.
        overwrite: Whether it may replace a file.
        no_video: Whether there are no pictures to draw on.
    """
    if annotate is None:
        return None
    if no_video:
        raise ConfigError("--annotate needs a video; silhouettes have none")
    from cstl_edge.live.video.annotated import VIDEO_SUFFIXES, playable_path
    from cstl_edge.output import Outputs

    outputs = Outputs([*inputs, default_gallery()], overwrite=overwrite)
    annotate = playable_path(annotate)
    outputs.claim(annotate, "--annotate", suffixes=VIDEO_SUFFIXES)
    return annotate


def _collect(
    choice: SourceChoice,
    encoder: Encoder,
    options: PipelineOptions,
    people: Gallery,
    annotate: Path | None,
    tracks: TrackChoice,
) -> list[TrackRecord]:
    """Return the walks of a source; its annotated video is whole even where nobody walks."""
    observers, refused = Observers(), None
    observers.seen.append(tracks.see)
    with ExitStack() as stack:
        if annotate is not None:
            observers.add_video(annotate, stack, live=choice.is_live)
        try:
            return collect_walks(choice, encoder, options, observers, people)
        except DataError as err:
            refused = err
    raise refused


def _print_decisions(
    walks: list[RecordedWalk],
    decisions: list[Decision],
    source: str,
    encoder: Encoder,
    schema: int,
    as_json: bool,
) -> None:
    """Print the decision on each walk: a sentence, or an event `closed`."""
    from cstl_edge.live.event_schema_1 import decision_row
    from cstl_edge.live.events import Event, model_digits, new_visit
    from cstl_edge.live.sources.base import redact

    digits = model_digits(encoder.info.weights_sha256)
    rows, lines = [], []
    for walk, decision in zip(walks, decisions, strict=True):
        if schema == 1:
            rows.append(decision_row(walk.track, walk.frames, decision))
        else:
            event = Event(
                event="closed", source=redact(source), model=digits, track=walk.track,
                frames=walk.frames, detail=walk.account, visit=new_visit(),
            )  # fmt: skip
            rows.append(event.with_decision(decision).to_dict())
        lines.append(_sentence(walk, decision))
    print_result(rows, lines, as_json)


def _sentence(walk: RecordedWalk, decision: Decision) -> str:
    """Return a decision as one line for people."""
    words = f"track {walk.track}: {one_line(decision.name or 'unknown')}"
    if decision.distance is not None:
        threshold = "none" if decision.threshold is None else f"{decision.threshold:.3f}"
        words += f", distance {decision.distance:.3f} (threshold {threshold} from "
        words += f"the {decision.threshold_source}, {decision.people} people)"
    if decision.runner_up is not None:
        words += f", next {one_line(decision.runner_up)} {decision.margin:+.3f}"
    reason = f" - {decision.reason}" if decision.reason else ""
    return f"{words}, {walk.frames} frames{reason}"
