"""Scores of multi-object tracking: IDF1, HOTA, identity switches, on numpy and scipy alone.

Definitions: HOTA, Luiten et al., IJCV 2020 (doi 10.1007/s11263-020-01375-2), the mean over 19
thresholds of IoU; IDF1, Ristani et al. 2016 (arXiv 1609.01775), and identity switches of CLEAR,
Bernardin and Stiefelhagen 2008, both at an IoU of 0.5. Letters: `g` people, `t` tracks, `a`
thresholds; a sequence is a list of frames, each the boxes by id.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import linear_sum_assignment

from cstl_edge.arrays import Array, Doubles
from cstl_edge.live.boxes import Box

Boxes = Mapping[int, Box]  # by id, of one frame
MATCHED = 0.5  # IoU from which a box shows a person
ALPHAS = np.arange(0.05, 0.99, 0.05)


@dataclass(frozen=True)
class Scores:
    """Scores of one sequence, all but `switches` 0..1."""

    idf1: float
    hota: float
    association: float  # AssA, the part of HOTA that is about identity
    switches: int
    recall: float
    precision: float


def iou_matrix(people: Sequence[Box], boxes: Sequence[Box]) -> Doubles:
    """Return intersection over union of every pair, [g, t]."""
    a = np.array(people, float).reshape(-1, 1, 4)
    b = np.array(boxes, float).reshape(1, -1, 4)
    ends_a, ends_b = a[..., :2] + a[..., 2:], b[..., :2] + b[..., 2:]
    sides = np.minimum(ends_a, ends_b) - np.maximum(a[..., :2], b[..., :2])
    inside = np.clip(sides, 0, None).prod(-1)
    union = a[..., 2:].prod(-1) + b[..., 2:].prod(-1) - inside
    return np.asarray(inside / np.maximum(union, 1e-9), float)


def matches(values: Array, least: float) -> list[tuple[int, int]]:
    """Return the pairs (row, column) of the best one-to-one assignment, each at least `least`."""
    rows, columns = linear_sum_assignment(values, maximize=True)
    return [(int(r), int(c)) for r, c in zip(rows, columns, strict=True) if values[r, c] >= least]


def score(truth: Sequence[Boxes], tracks: Sequence[Boxes]) -> Scores:
    """Score the tracks of a sequence.

    Args:
        truth: Boxes of the people of each frame, by person.
        tracks: Boxes of the tracks of the same frames, by track.
    """
    overlaps = [
        iou_matrix(list(people.values()), list(boxes.values()))
        for people, boxes in zip(truth, tracks, strict=True)
    ]
    people_count = sum(len(people) for people in truth)
    boxes_count = sum(len(boxes) for boxes in tracks)
    hits, switches = _clear(truth, tracks, overlaps)
    hota, association = _hota(truth, tracks, overlaps)
    return Scores(
        idf1=2 * _identity_hits(truth, tracks, overlaps) / max(people_count + boxes_count, 1),
        hota=hota,
        association=association,
        switches=switches,
        recall=hits / max(people_count, 1),
        precision=hits / max(boxes_count, 1),
    )


def _places(frames: Sequence[Boxes]) -> dict[int, int]:
    """Return the row of each id."""
    return {number: i for i, number in enumerate(sorted({n for frame in frames for n in frame}))}


def _identity_hits(
    truth: Sequence[Boxes], tracks: Sequence[Boxes], overlaps: Sequence[Doubles]
) -> int:
    """Return IDTP: frames that fit under the best one-to-one map of people to tracks."""
    rows, columns = _places(truth), _places(tracks)
    together = np.zeros((len(rows), len(columns)))
    for people, boxes, overlap in zip(truth, tracks, overlaps, strict=True):
        where = np.ix_([rows[n] for n in people], [columns[n] for n in boxes])
        together[where] += overlap >= MATCHED
    return int(sum(together[pair] for pair in matches(together, 0)))


def _clear(
    truth: Sequence[Boxes], tracks: Sequence[Boxes], overlaps: Sequence[Doubles]
) -> tuple[int, int]:
    """Return matched boxes and identity switches; a match of the frame before goes first."""
    hits = switches = 0
    before: dict[int, int] = {}  # person -> track, in the last frame in which they were matched
    last: dict[int, int] = {}  # of the frame just before
    for people, boxes, overlap in zip(truth, tracks, overlaps, strict=True):
        names, numbers = list(people), list(boxes)
        same = np.array([[last.get(p) == t for t in numbers] for p in names]).reshape(overlap.shape)
        values = np.where(overlap >= MATCHED, 1000.0 * same + overlap, 0.0)
        matched = {names[g]: numbers[t] for g, t in matches(values, MATCHED)}
        hits += len(matched)
        switches += sum(before.get(person, track) != track for person, track in matched.items())
        before.update(matched)
        last = matched
    return hits, switches


def _hota(
    truth: Sequence[Boxes], tracks: Sequence[Boxes], overlaps: Sequence[Doubles]
) -> tuple[float, float]:
    """Return HOTA and AssA, means over the thresholds."""
    rows, columns = _places(truth), _places(tracks)
    if not rows or not columns:
        return 0.0, 0.0
    potential = np.zeros((len(rows), len(columns)))
    row_count, column_count = np.zeros(len(rows)), np.zeros(len(columns))
    places = [
        ([rows[n] for n in people], [columns[n] for n in boxes])
        for people, boxes in zip(truth, tracks, strict=True)
    ]
    for (gs, ts), overlap in zip(places, overlaps, strict=True):
        both = overlap.sum(0)[None] + overlap.sum(1)[:, None] - overlap
        potential[np.ix_(gs, ts)] += overlap / np.maximum(both, 1e-9)
        row_count[gs] += 1
        column_count[ts] += 1
    alignment = potential / (row_count[:, None] + column_count[None] - potential)
    together = np.zeros((len(ALPHAS), *potential.shape))
    hits = np.zeros(len(ALPHAS))
    for (gs, ts), overlap in zip(places, overlaps, strict=True):
        for g, t in matches(alignment[np.ix_(gs, ts)] * overlap, 0):
            good = overlap[g, t] >= ALPHAS - 1e-9
            together[good, gs[g], ts[t]] += 1
            hits += good
    either = row_count[None, :, None] + column_count[None, None] - together
    association = (together**2 / either).sum((1, 2)) / np.maximum(hits, 1)
    detection = hits / (row_count.sum() + column_count.sum() - hits)
    return float(np.sqrt(association * detection).mean()), float(association.mean())
