"""Options that several verbs share, as annotated types for typer."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Literal

import typer

from cstl_edge.live.segmentation.open import SEGMENTERS
from cstl_edge.live.sources.open import source_forms
from cstl_edge.registry import Registry
from cstl_edge.runtime.load import BACKENDS


def names_of(table: Registry) -> Callable[[str], list[str]]:
    """Return the completion of a name of a table in the shell."""
    return lambda incomplete: [name for name in table.entries if name.startswith(incomplete)]


Source = Annotated[str, typer.Argument(help=f"Where walkers are seen: {source_forms()}.")]
GalleryPath = Annotated[
    str | None,
    typer.Option(
        metavar="FILE|ADDRESS",
        help="SQLite file of the gallery (default: in your data folder), or postgresql:// address"
        " of a server; {NAME} in it stands for credentials.",
    ),
]
Model = Annotated[
    Path | None,
    typer.Option(help="Exported folder or .safetensors checkpoint (default: the shipped model)."),
]
Backend = Annotated[
    str,
    typer.Option(
        help=f"What runs the network: {BACKENDS.help()}.", autocompletion=names_of(BACKENDS)
    ),
]
Segmenter = Annotated[
    str,
    typer.Option(
        help=f"How people are separated from the background: {SEGMENTERS.help()}; or the manifest "
        "(.json) of a network that masks people.",
        autocompletion=names_of(SEGMENTERS),
    ),
]
Fpir = Annotated[
    float,
    typer.Option(min=0, max=1, help="How often a stranger may be given a name, from 0 to 1."),
]
Threshold = Annotated[
    float | None,
    typer.Option(
        min=0, help="Distance below which a name is given, in place of the one for --fpir."
    ),
]
WalkerFps = Annotated[
    float,
    typer.Option(
        min=0,
        help="Frames per second of a walker that are masked and embedded after the first answer; "
        "the others are only tracked. 0: every frame.",
    ),
]
Silhouettes = Annotated[
    Literal["left", "right"] | None,
    typer.Option(help="SOURCE holds silhouettes or masks of one walk, which goes to this side."),
]
Schema = Annotated[
    int, typer.Option(min=1, max=2, help="Version of the events' form: 2, or the older 1.")
]
Rotate = Annotated[
    Literal["0", "90", "180", "270"] | None,
    typer.Option(help="Turn pictures clockwise by so many degrees, for a camera on its side."),
]
Flip = Annotated[
    Literal["h", "v"] | None,
    typer.Option(help="Mirror pictures: h exchanges left and right, v top and bottom."),
]
Fps = Annotated[
    float | None,
    typer.Option(
        min=0.1,
        max=1000,
        help="True frames per second of a recording whose file says something else (slow motion), "
        "or those wanted of a camera.",
    ),
]
Camera = Annotated[
    str | None,
    typer.Option(
        help="Name of the camera: what its walkers share is learned and removed under this name."
    ),
]
NoWait = Annotated[
    bool,
    typer.Option(
        "--no-wait", help="End with exit code 5 when a camera does not answer at the start."
    ),
]
Annotate = Annotated[
    Path | None,
    typer.Option(
        help="Write a video with boxes, names and silhouettes to this file: .mp4 (H.264) or .webm"
        " (VP8), in any case .webm where the system has no ffmpeg."
    ),
]
Overwrite = Annotated[
    bool, typer.Option("--overwrite", help="Replace files that exist; never one that is read.")
]
Override = Annotated[
    list[str] | None,
    typer.Option(
        "-o", metavar="KEY=VALUE", help="Override a setting, such as run.seed=1; may be repeated."
    ),
]
Workers = Annotated[int, typer.Option(min=1, help="Processes that make synthetic Walkers.")]
Graphs = Annotated[str, typer.Option(help="Graphs to write, separated by commas.")]
Markdown = Annotated[bool, typer.Option("--markdown", help="Print tables in Markdown.")]
Json = Annotated[
    bool, typer.Option("--json", help="Print the result, or the error, as JSON on stdout.")
]
