"""Options that several verbs share, as annotated types for typer."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from cstl_edge.live.segmentation.open import SEGMENTERS
from cstl_edge.live.sources.open import source_forms
from cstl_edge.runtime.load import BACKENDS

Source = Annotated[str, typer.Argument(help=f"where walkers are seen: {source_forms()}")]
GalleryPath = Annotated[
    Path | None, typer.Option(help="SQLite file of the gallery (default: in your data folder)")
]
Model = Annotated[
    Path | None,
    typer.Option(help="exported folder or .safetensors (default: the model that is shipped)"),
]
Backend = Annotated[str, typer.Option(help=BACKENDS.help())]
Segmenter = Annotated[str, typer.Option(help=SEGMENTERS.help())]
Fpir = Annotated[float, typer.Option(help="how often a stranger may be given a name, 0..1")]
Threshold = Annotated[
    float | None,
    typer.Option(help="distance below which a name is given, in place of the one for --fpir"),
]
Silhouettes = Annotated[
    Literal["left", "right"] | None,
    typer.Option(help="SOURCE holds silhouettes or masks of one walk, which goes to this side"),
]
Schema = Annotated[
    int, typer.Option(min=1, max=2, help="of the JSON: 2, or 1 as the version before")
]
Override = Annotated[
    list[str] | None, typer.Option("-o", metavar="KEY=VALUE", help="such as run.seed=1; repeatable")
]
Workers = Annotated[int, typer.Option(help="processes that make Walkers")]
Graphs = Annotated[str, typer.Option(help="which graphs, by commas")]
Markdown = Annotated[bool, typer.Option("--markdown", help="print Markdown tables")]
Json = Annotated[bool, typer.Option("--json", help="print results as JSON")]
