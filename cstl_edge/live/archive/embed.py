"""Embed one item of an archive and write its results, whole or not at all.

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
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from cstl_edge.arrays import Array
from cstl_edge.errors import CstlEdgeError, one_line
from cstl_edge.live.api import read_walks
from cstl_edge.live.archive.items import Item
from cstl_edge.live.segmentation.open import DEFAULT_SEGMENTER
from cstl_edge.output import write_file
from cstl_edge.runtime import load
from cstl_edge.runtime.base import Encoder
from cstl_edge.runtime.graph import Arrays
from cstl_edge.silhouette import read_silhouettes

FORMAT = 1


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


def embed_item(item: Item, options: ArchiveOptions, encoder: Encoder) -> ItemResult:
    """Embed an item and write its results; what is wrong with it is in the result, not raised.

    Args:
        item: Item.
        options: Options of the run.
        encoder: Encoder that embeds; storage that fails is a StorageError.
    """
    begin = time.perf_counter()
    weights = encoder.info.weights_sha256
    try:
        key = key_of(item, options, weights)
        kind = _embed_video if item.kind == "video" else _embed_silhouettes
        arrays, walks = kind(item, options, encoder)
    except (CstlEdgeError, OSError) as err:
        return ItemResult(item.path, "", model=weights, error=one_line(err, 400))
    seconds = time.perf_counter() - begin
    windows = len(arrays["embeddings"])
    result = ItemResult(item.path, key, walks, windows, weights, None, round(seconds, 3))
    _write(Path(options.output) / item.name, arrays, result)
    return result


def _embed_video(
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


def _embed_silhouettes(
    item: Item, options: ArchiveOptions, encoder: Encoder
) -> tuple[Arrays, list[dict[str, Any]]]:
    """Return the embedding of a whole walk."""
    silhouettes = read_silhouettes(item.path, encoder.info.size)
    embedded = encoder.encode(silhouettes[None])
    arrays: dict[str, Array] = {"embeddings": embedded.embedding, "walk": np.zeros(1, np.int32)}
    arrays["salient_frames"] = embedded.salient_frames
    return arrays, [{"frames": len(silhouettes), "windows": 1}]


def _write(place: Path, arrays: Arrays, result: ItemResult) -> None:
    """Write the results of an item, the record last."""
    place.parent.mkdir(parents=True, exist_ok=True)
    content, named = io.BytesIO(), dict[str, Any](arrays)
    np.savez(content, **named)
    data = content.getvalue()
    write_file(place.with_name(f"{place.name}.npz"), data, one_of_many=True)
    written = replace(result, sha256=hashlib.sha256(data).hexdigest())
    record = json.dumps(asdict(written), indent=1)
    write_file(place.with_name(f"{place.name}.json"), record + "\n", one_of_many=True)
