"""Augmentation of silhouette sequences during training; every change is off by default.

All changes leave the person and the view as they are. A mirror image is not among them: it shows
another view (360° − view) of a mirror-image walker, so it would need another label or another
recording. Letters: `s` frames, `h w` pixels.
"""

from __future__ import annotations

from typing import Annotated

import numpy as np
from pydantic import Field

from cstl_edge.arrays import Silhouettes
from cstl_edge.config import StrictModel
from cstl_edge.opencv import import_cv2

Pixels = Annotated[int, Field(ge=0, le=8)]
Probability = Annotated[float, Field(ge=0.0, le=1.0)]


class Augmentation(StrictModel):
    """Kinds of augmentation with their strengths and probabilities."""

    # largest factor by which frames are thinned, as a slower camera would; 1 is off
    stride: float = Field(default=1.0, ge=1.0, le=4.0)
    shift_px: Pixels = 0  # largest shift of a whole sequence, sideways and up or down; 0 is off
    jitter_px: Pixels = 0  # largest sideways shift of each frame by itself; 0 is off
    erase: Probability = 0.0  # that a sequence loses one rectangle, the same in every frame
    # largest height and width of that rectangle, as shares of the silhouette's
    erase_share: float = Field(default=0.2, gt=0.0, le=0.5)
    lost_rows: Probability = 0.0  # that a frame loses its lowest rows (feet), as segmenters do
    lost_rows_px: int = Field(default=4, ge=1, le=16)  # most rows that such a frame loses
    # largest rotation of a whole sequence, as of a camera that hangs askew; 0 is off
    rotate_deg: float = Field(default=0.0, ge=0.0, le=30.0)
    # largest shift of a corner in perspective, as a share of the silhouette's sides; 0 is off
    perspective: float = Field(default=0.0, ge=0.0, le=0.3)

    def span(self, frames: int, length: int, rng: np.random.Generator) -> int:
        """Draw how many consecutive frames of a sequence to thin to `frames`.

        Args:
            frames: Number of frames that remain.
            length: Number of frames of the sequence.
            rng: Random generator, advanced by one draw unless `stride` is 1.
        """
        if self.stride == 1.0:
            return frames
        return max(frames, min(length, round(frames * rng.uniform(1.0, self.stride))))

    def __call__(self, silhouettes: Silhouettes, rng: np.random.Generator) -> Silhouettes:
        """Return a changed copy of silhouettes [s, h, w], or the same array when nothing is on."""
        if self.shift_px or self.jitter_px:
            silhouettes = self._shifted(silhouettes, rng)
        if self.rotate_deg or self.perspective:
            silhouettes = self._warped(silhouettes, rng)
        if rng.random() < self.erase:
            silhouettes = self._erased(silhouettes, rng)
        if self.lost_rows:
            silhouettes = self._without_feet(silhouettes, rng)
        return silhouettes

    def _shifted(self, silhouettes: Silhouettes, rng: np.random.Generator) -> Silhouettes:
        s, h, w = silhouettes.shape
        down = int(rng.integers(-self.shift_px, self.shift_px + 1))
        right = rng.integers(-self.shift_px, self.shift_px + 1)
        rights = right + rng.integers(-self.jitter_px, self.jitter_px + 1, size=s)  # [s]
        margin = self.shift_px + self.jitter_px
        padded = np.pad(silhouettes, ((0, 0), (margin, margin), (margin, margin)))
        top = margin - down
        lefts = (margin - rights).tolist()
        crops = (f[top : top + h, x : x + w] for f, x in zip(padded, lefts, strict=True))
        return np.stack(list(crops))

    def _warped(self, silhouettes: Silhouettes, rng: np.random.Generator) -> Silhouettes:
        """Rotate about the middle and move the corners, all frames alike."""
        cv2 = import_cv2()
        _, h, w = silhouettes.shape
        corners = np.array([(0, 0), (w, 0), (w, h), (0, h)], np.float64)
        angle = np.deg2rad(rng.uniform(-self.rotate_deg, self.rotate_deg))
        turn = np.array([(np.cos(angle), np.sin(angle)), (-np.sin(angle), np.cos(angle))])
        moved = (corners - (w / 2, h / 2)) @ turn + (w / 2, h / 2)
        moved += rng.uniform(-self.perspective, self.perspective, (4, 2)) * (w, h)
        matrix = cv2.getPerspectiveTransform(corners.astype(np.float32), moved.astype(np.float32))
        return np.stack([cv2.warpPerspective(frame, matrix, (w, h)) for frame in silhouettes])

    def _erased(self, silhouettes: Silhouettes, rng: np.random.Generator) -> Silhouettes:
        _, h, w = silhouettes.shape
        tall, wide = (max(1, round(side * rng.uniform(0, self.erase_share))) for side in (h, w))
        top, left = rng.integers(h - tall + 1), rng.integers(w - wide + 1)
        changed = silhouettes.copy()
        changed[:, top : top + tall, left : left + wide] = 0
        return changed

    def _without_feet(self, silhouettes: Silhouettes, rng: np.random.Generator) -> Silhouettes:
        s, h, _ = silhouettes.shape
        lost = rng.integers(1, self.lost_rows_px + 1, size=s) * (rng.random(s) < self.lost_rows)
        rows_kept = np.arange(h)[None] < (h - lost)[:, None]  # [s, h]
        return silhouettes * rows_kept[:, :, None].astype(np.uint8)
