"""Verb `live`: follow walkers in a source and say who they are, as it happens."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cstl_edge.cli.console import notify
from cstl_edge.cli.gallery import default_gallery, open_existing
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
    NoWait,
    Overwrite,
    Rotate,
    Schema,
    Segmenter,
    Source,
    Threshold,
    WalkerFps,
)
from cstl_edge.cli.signals import SignalEnd
from cstl_edge.cli.walks import Observers, SourceChoice
from cstl_edge.live.segmentation.open import DEFAULT_SEGMENTER, WALKER_FPS
from cstl_edge.runtime import load

if TYPE_CHECKING:  # every help text would wait for what these import
    from cstl_edge.gallery.gallery import Gallery
    from cstl_edge.live.events import Event, EventLog
    from cstl_edge.live.pipeline.run import PipelineRun
    from cstl_edge.runtime.base import Encoder

Events = Annotated[
    Path | None, typer.Option(help="Append events as JSON lines to this file (.jsonl).")
]
Duration = Annotated[
    float | None, typer.Option(min=0.1, help="End after so many seconds, frames or not.")
]


def live(
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
    events: Events = None,
    overwrite: Overwrite = False,
    duration: Duration = None,
    rotate: Rotate = None,
    flip: Flip = None,
    fps: Fps = None,
    no_wait: NoWait = False,
    schema: Schema = 2,
    json: Json = False,
) -> None:
    """Follow walkers in a source and say who they are, as it happens; a signal ends it cleanly."""
    from cstl_edge.live.pipeline.options import PipelineOptions
    from cstl_edge.live.pipeline.run import run

    annotate = _claim([source, gallery, model], annotate, events, overwrite)
    options = PipelineOptions(
        segmenter, walker_fps=walker_fps or None, fpir=fpir, threshold=threshold, camera=camera
    )
    encoder, line_of = load(model, backend), _form(schema)
    with ExitStack() as stack:
        observers, signals = Observers(), stack.enter_context(SignalEnd())
        choice = SourceChoice(source, rotate, flip, fps)
        if annotate is not None:
            observers.add_video(annotate, stack, live=choice.is_live)
        log = _log(events, line_of, overwrite, stack)
        pipeline = stack.enter_context(
            run(
                source,
                encoder=encoder,
                gallery=_gallery(gallery, encoder, stack),
                options=options,
                observer=observers if annotate else None,
                source_options=choice.options(wait=not no_wait),
                duration_s=duration,
            )
        )
        observers.fps_of, signals.stop = (lambda: pipeline.fps), pipeline.stop
        _print_all(pipeline, log, line_of if json else str)
        signals.finish()


def _form(schema: int) -> Callable[[Event], str]:
    """Return what makes a line of JSON of an event."""
    from cstl_edge.live.event_schema_1 import event_line
    from cstl_edge.live.events import Event

    return event_line if schema == 1 else Event.to_json


def _log(
    path: Path | None, line_of: Callable[[Event], str], overwrite: bool, stack: ExitStack
) -> EventLog | None:
    """Open the file of events, where one is wanted.

    Args:
        path: Of the file.
        line_of: Makes a line of an event.
        overwrite: Whether it may replace one.
        stack: Closes it.
    """
    from cstl_edge.live.events import EventLog

    if path is None:
        return None
    return stack.enter_context(EventLog(path, line_of, overwrite=overwrite))


def _gallery(path: str | None, encoder: Encoder, stack: ExitStack) -> Gallery | None:
    """Open the gallery that is named, or the default one; None, said so, where there is none."""
    if path is None and not default_gallery().exists():
        notify("no gallery yet: nobody is named; begin with cstl-edge enroll")
        return None
    return stack.enter_context(open_existing(path, encoder))


def _claim(
    inputs: list[str | Path | None], annotate: Path | None, events: Path | None, overwrite: bool
) -> Path | None:
    """Refuse outputs that would destroy something (ConfigError); return where the video goes."""
    from cstl_edge.live.events import is_event
    from cstl_edge.live.video.annotated import VIDEO_SUFFIXES, playable_path
    from cstl_edge.output import Outputs

    outputs = Outputs([*inputs, default_gallery()], overwrite=overwrite)
    if annotate is not None:
        annotate = playable_path(annotate)
        outputs.claim(annotate, "--annotate", suffixes=VIDEO_SUFFIXES)
    if events is not None:
        outputs.claim(events, "--events", is_ours=is_event)
    return annotate


def _print_all(
    pipeline: PipelineRun, log: EventLog | None, text_of: Callable[[Event], str]
) -> None:
    """Print and log all events as they come, then the summary."""
    try:
        for event in pipeline:
            print(text_of(event), flush=True)
            if log is not None:
                log.write(event)
    finally:
        pipeline.close()
        notify(str(pipeline.summary))
