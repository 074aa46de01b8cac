"""Run of the live path over a street: what was detected, tracked and embedded, beside the truth."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from cstl_edge.arrays import Bytes, Mask
from cstl_edge.live.boxes import Box
from cstl_edge.live.pipeline.options import PipelineOptions, RunSummary
from cstl_edge.live.pipeline.perception import EndOfStream, FrameResult, PerceptionThread
from cstl_edge.live.pipeline.recognition import RecognitionStage
from cstl_edge.live.segmentation.base import Segmenter
from cstl_edge.live.sources.base import FrameSource
from cstl_edge.runtime.base import Encoder

NOBODY = -1
LABEL_STEP = 2  # pixels: truth of silhouettes needs no more


@dataclass
class Outcome:
    """What the live path made of a street, frame by frame."""

    tracks: list[dict[int, Box]] = field(default_factory=list)  # boxes by number
    embedded: list[Counter[int]] = field(default_factory=list)
    """Of each walk that has an embedding: its silhouettes by the person whom they show."""


def follow(
    source: FrameSource,
    segmenter: Segmenter,
    encoder: Encoder,
    labels: Callable[[int], Bytes],
) -> Outcome:
    """Follow everybody in a street.

    Args:
        source: The street.
        segmenter: Finds people.
        encoder: Embeds their silhouettes.
        labels: Function of a frame's number that returns who is where: [H, W].
    """
    outcome, options = Outcome(), PipelineOptions()
    stage = RecognitionStage("street", encoder, None, options, RunSummary(), keep=True)
    perception = PerceptionThread(source, segmenter, options, encoder.info.size)
    shown: dict[bytes, int] = {}  # person of each silhouette, as it is and mirrored
    perception.start()
    while True:
        message = perception.messages.get()
        if isinstance(message, EndOfStream):
            if message.error is not None:
                raise message.error
            stage.close_all()
            break
        if not isinstance(message, FrameResult):
            continue
        stage.process(message)
        views = [stage.view(observation) for observation in message.observations]
        outcome.tracks.append({view.track: view.box for view in views})
        where = labels(message.frame.index)[::LABEL_STEP, ::LABEL_STEP]
        for seen in message.observations:
            if seen.silhouette is not None and seen.mask is not None:
                person = _person(seen.box, seen.mask, where)
                shown[seen.silhouette.tobytes()] = person
                shown[np.ascontiguousarray(seen.silhouette[:, ::-1]).tobytes()] = person
    perception.join()
    for record in stage.records:
        if len(record.embeddings):
            outcome.embedded.append(Counter(shown[s.tobytes()] for s in record.silhouettes))
    return outcome


def _person(box: Box, mask: Mask, labels: Bytes) -> int:
    """Return whom most of a mask shows, NOBODY where that is the street."""
    ys, xs = np.nonzero(mask)
    scale = box[3] / mask.shape[0] / LABEL_STEP
    rows = (ys * scale + box[1] / LABEL_STEP).astype(int).clip(0, labels.shape[0] - 1)
    columns = (xs * scale + box[0] / LABEL_STEP).astype(int).clip(0, labels.shape[1] - 1)
    counts = np.bincount(labels[rows, columns], minlength=2)
    return NOBODY if not counts[1:].any() else int(counts[1:].argmax())
