"""The live path in one call each, for ten-line programs: `watch` and `read_walks`."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from cstl_edge.live.events import Event
from cstl_edge.live.pipeline.run import Options, TrackRecord, collect, run
from cstl_edge.live.sources.base import FrameSource
from cstl_edge.runtime import load

if TYPE_CHECKING:
    from cstl_edge.gallery.gallery import Gallery
    from cstl_edge.runtime.base import Encoder


def watch(
    source: str | FrameSource,
    gallery: Gallery | None = None,
    *,
    model: Encoder | None = None,
    **options: Any,
) -> Iterator[Event]:
    """Yield the events of a source as they happen: who was born, identified, closed, and why not.

    source: an address as for `cstl-edge live`; options: fields of `live.pipeline.Options`
    Raises SourceUnavailable, DataError and whatever else a stage raises, once. Stop iterating, or
    close the generator, to stop.
    """
    chosen = Options(**options)
    with (
        _borrowed(model) as encoder,
        run(source, encoder=encoder, gallery=gallery, options=chosen) as events,
    ):
        yield from events


def read_walks(
    source: str | FrameSource, *, model: Encoder | None = None, **options: Any
) -> list[TrackRecord]:
    """Return the walkers of a source, the longest walk first, with silhouettes and embeddings.

    Raises DataError with the reasons when nobody has enough usable frames.
    """
    with _borrowed(model) as encoder:
        return collect(source, encoder, Options(**options))


@contextlib.contextmanager
def _borrowed(model: Encoder | None) -> Iterator[Encoder]:
    """Lend the caller's encoder, or the shipped one for as long as it is needed."""
    if model is not None:
        yield model
        return
    encoder = load()
    try:
        yield encoder
    finally:
        encoder.close()
