"""Embed items of an archive and write their results, each whole or not at all.

`NAME.npz` holds embeddings float32 [n, p, d], salient frames int32 [n, p] and the walk of each
window int32 [n]; `NAME.json` beside it what they are of, written last: an item with a record that
fits, and with the very file that the record names by its sha256, is done. So nothing has to be
synced file by file, which took as long as a fifth of the embedding: what a power cut leaves fits
no record and is embedded anew.
"""

from __future__ import annotations

import hashlib
import io
import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from cstl_edge.arrays import Array, Silhouettes
from cstl_edge.errors import CstlEdgeError, one_line
from cstl_edge.live.api import read_walks
from cstl_edge.live.archive.items import Item
from cstl_edge.live.segmentation.open import DEFAULT_SEGMENTER
from cstl_edge.output import storing, write_one_of_many
from cstl_edge.runtime import load
from cstl_edge.runtime.base import Encoder
from cstl_edge.runtime.graph import Arrays
from cstl_edge.silhouette import read_silhouettes

FORMAT = 1
BATCH = 8
"""Walks of a call: one by itself takes 1.1 (float32) to 1.3 (INT8) of its time in a batch of 8, and
16 gain nothing more."""
BATCH_FRAMES = 600  # of a batch, those included that fill shorter walks up
SHARES = 4  # groups that each process has at least


@dataclass(frozen=True)
class ArchiveOptions:
    """How an archive is embedded; the same on every machine that works on it."""

    output: str  # folder of the results
    model: str | None = None
    backend: str = "auto"
    precision: str | None = None
    segmenter: str = DEFAULT_SEGMENTER


@dataclass(frozen=True)
class ItemResult:
    """What became of one item."""

    source: str
    key: str  # of the item, the model and the options: another one is embedded anew
    walks: list[dict[str, Any]] = field(default_factory=list)
    windows: int = 0
    model: str | None = None  # sha256 of the weights
    error: str | None = None
    seconds: float = 0.0
    sha256: str | None = None  # of `NAME.npz`; records of earlier versions, which synced, have none
    computed_by: str | None = None  # backend and precision
    format: int = FORMAT


def open_encoder(options: ArchiveOptions) -> Encoder:
    """Return the encoder of a worker, which has one core."""
    return load(options.model, options.backend, threads=1, precision=options.precision)


def key_of(item: Item, options: ArchiveOptions, weights_sha256: str) -> str:
    """Return the key of an item's results.

    Args:
        item: Item with its files (OSError where they are gone).
        options: Options of the run.
        weights_sha256: Of the model.
    """
    parts = [item.state(), options.segmenter, options.backend, options.precision, weights_sha256]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def is_done(item: Item, options: ArchiveOptions, weights_sha256: str) -> bool:
    """Tell whether results are there that the same call would write again.

    Args:
        item: Item.
        options: Options of the run.
        weights_sha256: Of the model.
    """
    record = Path(options.output) / f"{item.name}.json"
    try:
        known = json.loads(record.read_text(encoding="utf-8"))
        data = record.with_name(f"{Path(item.name).name}.npz").read_bytes()
        return (
            known["error"] is None
            and known["key"] == key_of(item, options, weights_sha256)
            and known.get("sha256") in (None, hashlib.sha256(data).hexdigest())
        )
    except (OSError, ValueError, KeyError, TypeError):
        return False


def embed_items(
    items: Sequence[Item], options: ArchiveOptions, encoder: Encoder
) -> Iterator[ItemResult]:
    """Embed items, walks in batches, write their results, and yield what became of each, in order.

    What is wrong with an item is in its result, not raised.

    Args:
        items: Items, of one archive.
        options: Options of the run.
        encoder: Encoder that embeds; storage that fails is a StorageError.
    """
    waiting: list[_Walk] = []
    for item in items:
        if item.kind == "video":
            yield from _embed_walks(waiting, options, encoder)
            waiting = []
            yield _embed_video(item, options, encoder)
            continue
        try:
            key = key_of(item, options, encoder.info.weights_sha256)
            walk = _Walk(item, key, read_silhouettes(item.path, encoder.info.size))
        except (CstlEdgeError, OSError) as err:
            yield _failed(item, encoder, err)
            continue
        longest = max(len(other.silhouettes) for other in [*waiting, walk])
        if len(waiting) == BATCH or longest * (len(waiting) + 1) > BATCH_FRAMES:
            yield from _embed_walks(waiting, options, encoder)
            waiting = []
        waiting.append(walk)
    yield from _embed_walks(waiting, options, encoder)


def groups_of(items: Sequence[Item], workers: int) -> list[list[Item]]:
    """Return items in groups that a process takes at once, few enough that all have work.

    A recording is a group of its own.

    Args:
        items: Items of an archive.
        workers: Number of processes.
    """
    size = max(1, min(BATCH, len(items) // (SHARES * workers)))
    groups: list[list[Item]] = []
    for item in items:
        last = groups[-1] if groups else []
        if item.kind == "video" or not last or last[-1].kind == "video" or len(last) == size:
            groups.append(last := [])
        last.append(item)
    return groups


@dataclass(frozen=True)
class _Walk:
    """Silhouettes that were read, with the key of their results."""

    item: Item
    key: str
    silhouettes: Silhouettes


def _failed(item: Item, encoder: Encoder, err: Exception) -> ItemResult:
    weights = encoder.info.weights_sha256
    return ItemResult(item.path, "", model=weights, error=one_line(err, 400))


def _embed_walks(
    walks: Sequence[_Walk], options: ArchiveOptions, encoder: Encoder
) -> Iterator[ItemResult]:
    """Embed whole walks in one batch, or one by one where that fails, and write their results."""
    if not walks:
        return
    begin = time.perf_counter()
    lengths = np.array([len(walk.silhouettes) for walk in walks], np.int32)
    batch = np.zeros((len(walks), lengths.max(), *encoder.info.size), np.uint8)
    for row, walk in zip(batch, walks, strict=True):
        row[: len(walk.silhouettes)] = walk.silhouettes
    try:
        embedded = encoder.encode(batch, lengths)
    except CstlEdgeError as err:
        if len(walks) == 1:
            yield _failed(walks[0].item, encoder, err)
        else:
            for walk in walks:
                yield from _embed_walks([walk], options, encoder)
        return
    seconds = (time.perf_counter() - begin) / len(walks)
    for i, walk in enumerate(walks):
        arrays: dict[str, Array] = {"embeddings": embedded.embedding[i : i + 1]}
        arrays |= {"walk": np.zeros(1, np.int32)}
        arrays["salient_frames"] = embedded.salient_frames[i : i + 1]
        report = [{"frames": len(walk.silhouettes), "windows": 1}]
        yield _write(walk.item, walk.key, arrays, report, seconds, options, encoder)


def _embed_video(item: Item, options: ArchiveOptions, encoder: Encoder) -> ItemResult:
    """Embed everybody who walks through a recording, and write the results."""
    begin = time.perf_counter()
    try:
        key = key_of(item, options, encoder.info.weights_sha256)
        arrays, walks = _walks_of(item, options, encoder)
    except (CstlEdgeError, OSError) as err:
        return _failed(item, encoder, err)
    return _write(item, key, arrays, walks, time.perf_counter() - begin, options, encoder)


def _walks_of(
    item: Item, options: ArchiveOptions, encoder: Encoder
) -> tuple[Arrays, list[dict[str, Any]]]:
    """Return the windows of everybody who walks through a recording, and their walks."""
    records = read_walks(item.path, model=encoder, segmenter=options.segmenter)
    embeddings = np.concatenate([record.embeddings for record in records])
    counts = [len(record.embeddings) for record in records]
    walks = [
        {
            "track": record.track,
            "frames": record.frames,
            "windows": count,
            "started_s": record.started_s,
            "ended_s": record.ended_s,
        }
        for record, count in zip(records, counts, strict=True)
    ]
    numbers = np.repeat(np.arange(len(records), dtype=np.int32), counts)
    return {"embeddings": embeddings, "walk": numbers}, walks


def _write(
    item: Item,
    key: str,
    arrays: Arrays,
    walks: list[dict[str, Any]],
    seconds: float,
    options: ArchiveOptions,
    encoder: Encoder,
) -> ItemResult:
    """Write the results of an item, the record last, and return it.

    Args:
        item: Item.
        key: Its key.
        arrays: What `NAME.npz` holds.
        walks: What the record says of each walk.
        seconds: Time that it took.
        options: Options of the run.
        encoder: Encoder that embedded.
    """
    place, info = Path(options.output) / item.name, encoder.info
    with storing(place):
        place.parent.mkdir(parents=True, exist_ok=True)
    content, named = io.BytesIO(), dict[str, Any](arrays)
    np.savez(content, **named)
    data = content.getvalue()
    result = ItemResult(
        item.path,
        key,
        walks,
        windows=len(arrays["embeddings"]),
        model=info.weights_sha256,
        seconds=round(seconds, 4),
        sha256=hashlib.sha256(data).hexdigest(),
        computed_by=f"{info.backend} {info.precision}",
    )
    write_one_of_many(place.with_name(f"{place.name}.npz"), data)
    record = json.dumps(vars(result)) + "\n"  # on one line: indented, it took 0.2 ms
    write_one_of_many(place.with_name(f"{place.name}.json"), record.encode())
    return result
