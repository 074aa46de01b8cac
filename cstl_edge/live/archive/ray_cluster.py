"""Embed an archive on a Ray cluster: the same function, on every core of every machine.

Inputs and outputs lie where all machines of the cluster see them under the same paths. A worker
that dies is replaced by Ray, and its items are embedded anew.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from cstl_edge.errors import BackendUnavailable, one_line
from cstl_edge.extras import missing_package
from cstl_edge.live.archive.embed import (
    ArchiveOptions,
    ItemResult,
    embed_items,
    groups_of,
    open_encoder,
)
from cstl_edge.live.archive.items import Item
from cstl_edge.runtime.base import Encoder

RETRIES = 3  # of an item whose worker died
_ENCODERS: dict[ArchiveOptions, Encoder] = {}  # of this worker process


def embed_by_ray(
    items: Sequence[Item], options: ArchiveOptions, address: str
) -> Iterator[ItemResult]:
    """Yield what became of every item, as they are done.

    Args:
        items: Items to embed.
        options: Options of the run.
        address: Of the cluster, such as `ray://HOST:10001`; `auto` for the one of this machine,
            `local` for a new one on it.

    Raises:
        MissingPackage: Ray is not installed.
        BackendUnavailable: No cluster answers.
    """
    try:
        import ray
    except ImportError as err:
        raise missing_package("--ray", "ray") from err
    try:
        ray.init(address=address, log_to_driver=False, logging_level="error")
    except Exception as err:  # Ray has no common base class for this
        raise BackendUnavailable(
            f"no Ray cluster answers at {one_line(address)}: {one_line(err, 200)}. Start one: ray "
            "start --head"
        ) from err
    try:
        remote: Any = ray.remote(num_cpus=1, max_retries=RETRIES)(_embed)
        cores = int(ray.cluster_resources().get("CPU", 1))
        pending = {remote.remote(x, options): x for x in groups_of(items, cores)}
        while pending:
            done, _ = ray.wait(list(pending))
            for reference in done:
                group = pending.pop(reference)
                try:
                    yield from ray.get(reference)
                except ray.exceptions.RayError as err:
                    if len(group) > 1:  # one of them may be what a worker dies of
                        pending |= {remote.remote([item], options): [item] for item in group}
                        continue
                    reason = f"{type(err).__name__}: {one_line(err, 200)}"
                    yield ItemResult(group[0].path, "", error=f"its worker failed: {reason}")
    finally:
        ray.shutdown()


def _embed(group: list[Item], options: ArchiveOptions) -> list[ItemResult]:
    """Embed a group in a worker, whose encoder is opened once."""
    if options not in _ENCODERS:
        _ENCODERS.clear()
        _ENCODERS[options] = open_encoder(options)
    return list(embed_items(group, options, _ENCODERS[options]))
