"""Embed whole sequences with any encoder, into a folder from which a killed run resumes.

Sequences are sorted by length, so that batches need little padding; the trunk sees no padding and
the head masks it. Batches depend on the data alone: a resumed run writes the same bytes.

Letters: `n` sequences of a batch, `s` frames, `h w` pixels.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cstl_edge.arrays import Indices, Ints, Silhouettes
from cstl_edge.data.splits import LabelledSequences
from cstl_edge.errors import ConfigError, DataError, one_line
from cstl_edge.evaluation.embedding_store import EmbeddingStore, read_store
from cstl_edge.evaluation.embeddings import LabelledEmbeddings
from cstl_edge.runtime.base import Encoder, EncoderInfo

MAX_FRAMES = 720  # as the reference toolbox caps; longer sequences are cut
BATCH_FRAMES = 720  # with padding; features of the paper's widths take 16 KB a frame
BATCH_SEQUENCES = 32
SAVE_EVERY_S = 5.0


@dataclass(frozen=True)
class EmbedOptions:
    """Batch size and frame limits of embedding; every field is part of the embeddings' key."""

    batch_frames: int = BATCH_FRAMES
    """Frames of a batch, padding included; a longer sequence is a batch of its own."""
    min_frames: int = 1  # sequences with fewer fail to enroll
    max_frames: int = MAX_FRAMES  # frames of a sequence that count, from its first

    def __post_init__(self) -> None:
        if min(self.batch_frames, self.min_frames) < 1 or self.max_frames < self.min_frames:
            raise ConfigError(
                "expected batch_frames, min_frames >= 1 and max_frames >= min_frames; got "
                f"{self.batch_frames}, {self.min_frames} and {self.max_frames}"
            )


@dataclass(frozen=True)
class EmbeddedSet:
    """Embeddings as a memory-mapped float16 file, and the sequences that failed to enroll."""

    folder: Path
    labelled: LabelledEmbeddings
    short: Indices  # indices of sequences with fewer than `min_frames`
    not_finite: Indices  # indices of embeddings with a NaN, an infinity, or a number beyond float16


def embed(
    encoder: Encoder,
    data: LabelledSequences,
    workdir: str | Path,
    rows: Indices | None = None,
    *,
    options: EmbedOptions | None = None,
    source: str = "",
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> EmbeddedSet:
    """Embed sequences, or load the embeddings that an earlier run has left.

    Args:
        encoder: The network on any backend.
        data: m sequences with labels.
        workdir: Folder of all embeddings; each set has a folder in it, named by its key. A complete
            one is loaded, an incomplete one is resumed.
        rows: Indices of the sequences to embed; all by default.
        options: Batch sizes and limits of frames.
        source: Identifier of the data among others with the same labels.
        progress: Callback for the number of sequences done and their total.

    Raises:
        DataError: Silhouettes of another size than the model's, a damaged folder, a full disk.
    """
    settings = options or EmbedOptions()
    chosen = np.arange(len(data.people)) if rows is None else np.asarray(rows, np.int64)
    if not chosen.size:
        raise DataError("expected at least one sequence to embed, got none")
    size = tuple(data.read(int(chosen[0])).shape[1:])
    if size != tuple(encoder.info.size):
        expected = "x".join(map(str, encoder.info.size))
        raise DataError(
            f"model {encoder.info.model_name!r} takes silhouettes of {expected}; this data has "
            f"{size[0]}x{size[1]}. Prepare it with --size {expected}, or give another model"
        )
    kinds = ("people", "sequences", "views_deg", "lengths")
    labels = {kind: getattr(data, kind)[chosen].tolist() for kind in kinds}
    key = embedding_key(encoder.info, settings, {**labels, "source": source})
    name = re.sub(r"[^\w.-]+", "_", encoder.info.model_name, flags=re.ASCII).strip(".")
    folder = Path(workdir) / f"{name[:40]}-{key[:12]}"
    if read_store(folder, key) is None:
        shape = (len(chosen), encoder.info.parts, encoder.info.embedding)
        with EmbeddingStore(folder, key, shape) as store:
            _fill(store, encoder, data, chosen, settings, progress)
            short = np.flatnonzero(data.lengths[chosen] < settings.min_frames).tolist()
            for row in short:
                store.fail(row)
            store.finish({**labels, "short": short})
    return read_embedded(folder)


def read_embedded(folder: str | Path) -> EmbeddedSet:
    """Open a complete folder of embeddings (DataError)."""
    stored = read_store(Path(folder))
    if stored is None:
        raise DataError(
            f"no complete embeddings in {one_line(folder)}: run the evaluation to its end"
        )
    array, labels = stored
    try:
        people, views, short, not_finite = (
            np.array(labels[name], np.int64)
            for name in ("people", "views_deg", "short", "not_finite")
        )
        sequences = np.array(labels["sequences"], np.str_)
    except (KeyError, ValueError, TypeError, OverflowError) as err:
        raise DataError(
            f"{one_line(folder)}: its labels are damaged ({one_line(err)}). Delete it"
        ) from err
    if not len(array) == len(people) == len(sequences) == len(views):
        raise DataError(f"{one_line(folder)}: expected {len(array)} labels of each kind. Delete it")
    return EmbeddedSet(
        Path(folder), LabelledEmbeddings(array, people, sequences, views), short, not_finite
    )


def embedding_key(info: EncoderInfo, options: EmbedOptions, data: Any) -> str:
    """Return the sha256 of everything that determines the embeddings.

    Args:
        info: Backend, precision and `weights_sha256` of the encoder.
        options: Batch size and frame limits.
        data: Labels and `source` of the data, as JSON can hold them.
    """
    # a network in memory has no sha256: it gets a key of its own and is embedded each time
    weights = info.weights_sha256 or os.urandom(8).hex()
    model = [weights, info.backend, info.provider, info.precision, *info.size]
    text = json.dumps([model, asdict(options), data], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def batches(lengths: Indices, options: EmbedOptions) -> list[Indices]:
    """Group sequences into batches, shortest first; those below `min_frames` are in none.

    lengths: [m] frames
    """
    usable = np.flatnonzero(lengths >= options.min_frames)
    order = usable[np.argsort(lengths[usable], kind="stable")]
    counted = np.minimum(lengths[order], options.max_frames)
    return split_rows(order, counted, options.batch_frames, BATCH_SEQUENCES)


def split_rows(
    rows: Indices, lengths: Indices, batch_frames: int, batch_sequences: int
) -> list[Indices]:
    """Split rows into batches whose padded size is limited; none is empty.

    Args:
        rows: [m], sorted by length.
        lengths: [m] frames of each.
        batch_frames: Frames of a batch, padding included; a longer sequence is a batch of its own.
        batch_sequences: Largest number of sequences of a batch.
    """
    starts = [0]
    for stop in range(1, len(rows)):
        count = stop + 1 - starts[-1]
        if count > batch_sequences or count * lengths[stop] > batch_frames:
            starts.append(stop)
    return np.split(rows, starts[1:]) if len(rows) else []


def pad(sequences: Sequence[Silhouettes], size: tuple[int, ...]) -> tuple[Silhouettes, Ints]:
    """Return sequences [s, h, w] of a size (h, w) padded at the end: [n, s, h, w], lengths [n]."""
    lengths = np.array([len(sequence) for sequence in sequences], np.int32)
    silhouettes = np.zeros((len(sequences), lengths.max(), *size), np.uint8)
    for row, sequence in zip(silhouettes, sequences, strict=True):
        row[: len(sequence)] = sequence
    return silhouettes, lengths


def _fill(
    store: EmbeddingStore,
    encoder: Encoder,
    data: LabelledSequences,
    chosen: Indices,
    options: EmbedOptions,
    progress: Callable[[int, int], None],
) -> None:
    """Embed the batches that a store lacks."""
    plan, first = batches(data.lengths[chosen], options), store.batches_done
    done = sum(len(batch) for batch in plan[:first])
    saved = time.monotonic()
    for number, batch in enumerate(plan[first:], first + 1):
        sequences = [data.read(int(chosen[row]))[: options.max_frames] for row in batch]
        embeddings = encoder.encode(*pad(sequences, encoder.info.size)).embedding
        for row, embedding in zip(batch, embeddings, strict=True):
            store.write(int(row), embedding)
        done += len(batch)
        progress(done, len(chosen))
        if time.monotonic() - saved > SAVE_EVERY_S:
            store.save(number)
            saved = time.monotonic()
