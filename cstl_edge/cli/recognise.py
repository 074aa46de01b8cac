"""Verbs `live`, `enroll`, `identify` and `gallery`; `recognise_run` does their work."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

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
from cstl_edge.live.segmentation.open import DEFAULT_SEGMENTER

if TYPE_CHECKING:
    from cstl_edge.live.pipeline.options import PipelineOptions
    from cstl_edge.runtime.base import Encoder

people = typer.Typer(help="List, show or remove the people of a gallery.", no_args_is_help=True)


def live(
    source: Source,
    gallery: GalleryPath = None,
    model: Model = None,
    backend: Backend = "auto",
    segmenter: Segmenter = DEFAULT_SEGMENTER,
    fpir: Fpir = 0.01,
    threshold: Threshold = None,
    annotate: Annotated[
        Path | None,
        typer.Option(help="write an annotated video here"),
    ] = None,
    events: Annotated[
        Path | None,
        typer.Option(help="append events as JSON lines to this file"),
    ] = None,
    duration: Annotated[
        float | None,
        typer.Option(help="stop after so many seconds"),
    ] = None,
    schema: Schema = 2,
    json: Json = False,
) -> None:
    """Follow walkers in a source and say who they are, as it happens; Ctrl-C ends it cleanly."""
    from cstl_edge.cli.recognise_run import follow

    options, encoder = _pipeline(segmenter, fpir, threshold), _load(model, backend)
    follow(source, gallery, encoder, options, annotate, events, duration, json, schema)


def enroll(
    name: Annotated[str, typer.Argument(help="of the person")],
    source: Source,
    consent: Annotated[str, typer.Option(help="who agreed to what, when: kept with the person")],
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
    from cstl_edge.cli.recognise_run import enrol_walk

    options, encoder = _pipeline(segmenter), _load(model, backend)
    enrol_walk(
        name, source, consent, gallery, encoder, options, retention_days, track, silhouettes, json
    )


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
    from cstl_edge.cli.recognise_run import identify_walks

    options, encoder = _pipeline(segmenter, fpir, threshold), _load(model, backend)
    identify_walks(source, gallery, encoder, options, silhouettes, json, schema)


@people.command("list")
def list_people(gallery: GalleryPath = None, json: Json = False) -> None:
    """List everybody: name, templates, since when, until when, consent."""
    from cstl_edge.cli.recognise_run import list_gallery

    list_gallery(gallery, json)


@people.command("show")
def show_person(
    name: Annotated[str, typer.Argument()], gallery: GalleryPath = None, json: Json = False
) -> None:
    """Show what is kept of one person."""
    from cstl_edge.cli.recognise_run import show_in_gallery

    show_in_gallery(name, gallery, json)


@people.command("remove")
def remove_person(
    name: Annotated[str, typer.Argument()], gallery: GalleryPath = None, json: Json = False
) -> None:
    """Erase one person, without residue in the file."""
    from cstl_edge.cli.recognise_run import remove_from_gallery

    remove_from_gallery(name, gallery, json)


def _load(model: Path | None, backend: str) -> Encoder:
    from cstl_edge.runtime import load

    return load(model, backend)


def _pipeline(
    segmenter: str, fpir: float = 0.01, threshold: float | None = None
) -> PipelineOptions:
    from cstl_edge.live.pipeline.options import PipelineOptions

    return PipelineOptions(segmenter=segmenter, fpir=fpir, threshold=threshold)
