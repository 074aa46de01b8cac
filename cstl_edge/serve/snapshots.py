"""The best picture of each track so far: the largest whole one of somebody who walks."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from datetime import datetime

import numpy as np

from cstl_edge.arrays import Image
from cstl_edge.live.boxes import Box
from cstl_edge.live.pipeline.perception import FrameResult, TrackObservation
from cstl_edge.live.tracking.walk_filter import Reason
from cstl_edge.serve.messages import SnapshotRequest, TrackSnapshot
from cstl_edge.serve.pictures import jpeg_of, scaled

MAX_TRACKS = 48  # pictures of so many are kept, the newest ones
MARGIN = 0.15  # of the box on every side
MAX_WIDTH = 400  # of a snapshot [pixels]
BETTER = 1.1  # by so much a picture has to be better than the last one
QUALITY = 85
USABLE = (None, Reason.TOO_FEW, Reason.STANDING)


@dataclass(frozen=True)
class _Best:
    score: float
    image: Image
    utc: datetime
    box: Box


class Snapshots:
    """Pictures of the tracks of one life of a worker."""

    def __init__(self) -> None:
        self._best: OrderedDict[int, _Best] = OrderedDict()

    def take(self, result: FrameResult) -> None:
        """Keep what is better in a frame than before."""
        for item in result.observations:
            score = _score(item)
            best = self._best.get(item.id)
            if best is not None and score < BETTER * best.score:
                continue
            image = crop(result.frame.image, item.box)
            if image.size:
                self._best[item.id] = _Best(score, image, result.frame.utc, item.box)
                self._best.move_to_end(item.id)
        while len(self._best) > MAX_TRACKS:
            self._best.popitem(last=False)

    def answer(self, request: SnapshotRequest) -> TrackSnapshot:
        """Return the picture of a track, without one where the track is not known any more."""
        best = self._best.get(request.track)
        if best is None:
            return TrackSnapshot(request.camera, request.track, request.id, None)
        image, _ = scaled(best.image, MAX_WIDTH)
        jpeg = jpeg_of(image, QUALITY)
        return TrackSnapshot(request.camera, request.track, request.id, jpeg, best.utc, best.box)


def crop(image: Image, box: Box) -> Image:
    """Return what a box and a margin around it show, a copy; empty outside the picture."""
    x, y, width, height = box
    pad = MARGIN * height
    left, top = max(0, round(x - pad)), max(0, round(y - pad))
    right, bottom = round(x + width + pad), round(y + height + pad)
    part: Image = np.ascontiguousarray(image[top : max(bottom, 0), left : max(right, 0)])
    return part


def _score(item: TrackObservation) -> float:
    usable = item.reason in USABLE and item.mask is not None
    return item.box[3] * (1.0 if usable else 0.2)
