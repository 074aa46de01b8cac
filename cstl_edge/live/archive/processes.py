"""Embed an archive by processes of this machine, one core each; a process that dies is replaced."""

from __future__ import annotations

import logging
import multiprocessing
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool

from cstl_edge.errors import one_line
from cstl_edge.live.archive.embed import (
    ArchiveOptions,
    ItemResult,
    embed_items,
    groups_of,
    open_encoder,
)
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
        groups = groups_of(waiting, workers)
        for group, results in _together(groups, options, workers):
            if results is None:
                unfinished += group
            else:
                yield from results
        unfinished.sort(key=waiting.index)
        under_way = 2 * workers * max(map(len, groups))
        suspects, waiting = unfinished[:under_way], unfinished[under_way:]
        if suspects:
            log.warning("a process died; %d items are embedded one by one", len(suspects))
        yield from _one_by_one(suspects, options)


def _together(
    groups: Sequence[list[Item]], options: ArchiveOptions, workers: int
) -> Iterator[tuple[list[Item], list[ItemResult] | None]]:
    """Yield groups with their results as they are done; None where a process died before.

    Args:
        groups: Items to embed, by what a process takes at once.
        options: Options of the run.
        workers: Number of processes.
    """
    context = multiprocessing.get_context("spawn")
    count = min(workers, len(groups))
    with ProcessPoolExecutor(count, context, _begin, (options,)) as pool:
        futures = {pool.submit(_embed, group): group for group in groups}
        for future in as_completed(futures):
            try:
                yield futures[future], future.result()
            except BrokenProcessPool:
                yield futures[future], None


def _one_by_one(items: Sequence[Item], options: ArchiveOptions) -> Iterator[ItemResult]:
    """Embed items by one process at a time: the first without a result is the one it died of."""
    waiting, deaths = list(items), 0
    while waiting:
        unfinished: list[Item] = []
        for group, results in _together([[item] for item in waiting], options, 1):
            if results is None:
                unfinished += group
            else:
                yield from results
        unfinished.sort(key=waiting.index)
        if unfinished:
            deaths = deaths + 1 if unfinished[0] is waiting[0] else 1
        if deaths == TRIES:
            dead, deaths = unfinished.pop(0), 0
            yield ItemResult(dead.path, "", error="the process that embeds it dies: out of memory?")
        waiting = unfinished


def _begin(options: ArchiveOptions) -> None:
    """Open the encoder of a process."""
    _WORKER[:] = [(options, open_encoder(options))]


def _embed(group: list[Item]) -> list[ItemResult]:
    """Embed a group in a process."""
    options, encoder = _WORKER[0]
    log.debug("embedding %s", one_line([item.path for item in group]))
    return list(embed_items(group, options, encoder))
