"""Live path for ten-line programs: `watch` yields events, `read_walks` returns walks."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, closing, nullcontext
from typing import TYPE_CHECKING, Any

from cstl_edge.live.events import Event
from cstl_edge.live.pipeline.collect import CollectLimit, collect
from cstl_edge.live.pipeline.options import PipelineOptions, TrackRecord
from cstl_edge.live.pipeline.run import run
from cstl_edge.live.sources.base import FrameSource
from cstl_edge.live.sources.options import SourceOptions
from cstl_edge.runtime import load

if TYPE_CHECKING:
    from cstl_edge.gallery.gallery import Gallery
    from cstl_edge.runtime.base import Encoder


def watch(
    source: str | FrameSource,
    gallery: Gallery | None = None,
    *,
    model: Encoder | None = None,
    source_options: SourceOptions | None = None,
    duration_s: float | None = None,
    **options: Any,
) -> Iterator[Event]:
    """Yield the events of a source as they happen; stop iterating to stop the run.

    Args:
        source: An address as for `cstl-edge live`, or an open source.
        gallery: Searched for every walk; without one nobody is named.
        model: Embeds the silhouettes; the shipped one by default.
        source_options: How an address is opened: orientation, rate, whether to wait for it.
        duration_s: End after so many seconds, whether the source gives frames or not.
        **options: Fields of `live.pipeline.options.PipelineOptions`.

    Raises:
        SourceUnavailable, DataError: And the other errors of a stage, once.
    """
    chosen = PipelineOptions(**options)
    with (
        _encoder(model) as encoder,
        run(
            source,
            encoder=encoder,
            gallery=gallery,
            options=chosen,
            source_options=source_options,
            duration_s=duration_s,
        ) as events,
    ):
        yield from events


def read_walks(
    source: str | FrameSource,
    *,
    model: Encoder | None = None,
    source_options: SourceOptions | None = None,
    duration_s: float | None = None,
    **options: Any,
) -> list[TrackRecord]:
    """Return the walkers of a source, the longest walk first, with silhouettes and embeddings.

    Args:
        source: An address as for `cstl-edge live`, or an open source.
        model: Embeds the silhouettes; the shipped one by default.
        source_options: How an address is opened: orientation, rate, whether to wait for it.
        duration_s: End after so many seconds; a live source has no end of its own.
        **options: Fields of `live.pipeline.options.PipelineOptions`.

    Raises:
        DataError: With the reasons when nobody has enough usable frames.
    """
    with _encoder(model) as encoder:
        chosen = PipelineOptions(**options)
        limit = CollectLimit(seconds=duration_s)
        return collect(source, encoder, chosen, limit=limit, source_options=source_options)


def _encoder(model: Encoder | None) -> AbstractContextManager[Encoder]:
    """Lend the caller's encoder, or the shipped one for as long as it is needed."""
    return closing(load()) if model is None else nullcontext(model)
