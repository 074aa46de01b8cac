"""Embed an archive by processes of this machine, one core each; a process that dies is replaced."""

from __future__ import annotations

import logging
import multiprocessing
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool

from cstl_edge.errors import one_line
from cstl_edge.live.archive.embed import ArchiveOptions, ItemResult, embed_item, open_encoder
from cstl_edge.live.archive.items import Item
from cstl_edge.runtime.base import Encoder

log = logging.getLogger(__name__)

TRIES = 2  # of an item whose process may have died of it
_WORKER: list[tuple[ArchiveOptions, Encoder]] = []  # of this process


def embed_by_processes(
    items: Sequence[Item], options: ArchiveOptions, workers: int
) -> Iterator[ItemResult]:
    """Yield what became of every item, as they are done.

    When a process dies, what may have been under way is embedded again item by item, each in a
    process of its own; then the others go on.

    Args:
        items: Items to embed.
        options: Options of the run.
        workers: Number of processes.
    """
    waiting = list(items)
    while waiting:
        unfinished: list[Item] = []
        for item, result in _together(waiting, options, workers):
            if result is None:
                unfinished.append(item)
            else:
                yield result
        unfinished.sort(key=waiting.index)
        suspects, waiting = unfinished[: 2 * workers], unfinished[2 * workers :]
        if suspects:
            log.warning("a process died; %d items are embedded one by one", len(suspects))
        for item in suspects:
            yield _alone(item, options)


def _together(
    items: Sequence[Item], options: ArchiveOptions, workers: int
) -> Iterator[tuple[Item, ItemResult | None]]:
    """Yield items with their results as they are done; None where a process died before.

    Args:
        items: Items to embed.
        options: Options of the run.
        workers: Number of processes.
    """
    context = multiprocessing.get_context("spawn")
    count = min(workers, len(items))
    with ProcessPoolExecutor(count, context, _begin, (options,)) as pool:
        futures = {pool.submit(_embed, item): item for item in items}
        for future in as_completed(futures):
            try:
                yield futures[future], future.result()
            except BrokenProcessPool:
                yield futures[future], None


def _alone(item: Item, options: ArchiveOptions) -> ItemResult:
    """Embed one item in a process of its own, which may die."""
    for _ in range(TRIES):
        for _item, result in _together([item], options, 1):
            if result is not None:
                return result
    return ItemResult(item.path, "", error="the process that embeds it dies: out of memory?")


def _begin(options: ArchiveOptions) -> None:
    """Open the encoder of a process."""
    _WORKER[:] = [(options, open_encoder(options))]


def _embed(item: Item) -> ItemResult:
    """Embed an item in a process."""
    options, encoder = _WORKER[0]
    log.debug("embedding %s", one_line(item.path))
    return embed_item(item, options, encoder)
