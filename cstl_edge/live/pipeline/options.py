"""Options of a run of the pipeline, and its results beside the events."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import numpy.typing as npt

from cstl_edge.errors import ConfigError
from cstl_edge.live.boxes import Box
from cstl_edge.live.segmentation.open import (
    DEFAULT_SEGMENTER,
    WALKER_FPS,
    check_segmenter,
    masks_everybody,
)
from cstl_edge.measure.stats import Samples
from cstl_edge.silhouette import MIN_HEIGHT_PX

LEAST_WALKER_FPS = 4.0  # below it nothing tells a walk


@dataclass(frozen=True)
class PipelineOptions:
    """Segmentation, windows and thresholds of a run."""

    segmenter: str = DEFAULT_SEGMENTER  # name or alias in the table of segmenters
    window: int = 30  # frames of an embedding
    hop: int = 5  # frames between embeddings
    min_frames: int = 15  # usable frames before the first answer
    walker_fps: float | None = WALKER_FPS
    """Frames per second of a walker that are masked and embedded, once the first answer is there;
    the other frames are only tracked. None: every frame, as where masks cost nothing more
    (`background`)."""
    max_walkers: int = 16  # tracks at once; further people are not followed
    min_height_px: int = MIN_HEIGHT_PX  # of a person in the frame
    demand_walking: bool = True  # refuse people who stand or move otherwise
    fpir: float = 0.01  # rate at which a stranger may be given a name, 0..1 exclusive
    threshold: float | None = None
    """Distance below which a name is given, in place of the one for `fpir`."""
    camera: str | None = None  # name, under which the gallery keeps the mean of its walkers
    learn: bool = True  # whether walks count in the sums of their camera

    def __post_init__(self) -> None:
        """Raise ConfigError for values that contradict each other or are out of range."""
        check_segmenter(self.segmenter)
        if not 0 < self.fpir < 1:
            raise ConfigError(f"expected an fpir between 0 and 1, such as 0.01; got {self.fpir}")
        if self.threshold is not None and not self.threshold > 0:
            raise ConfigError(f"expected a threshold above 0; got {self.threshold}")
        if self.walker_fps is not None and not self.walker_fps >= LEAST_WALKER_FPS:
            raise ConfigError(
                f"expected walker_fps of {LEAST_WALKER_FPS:g} at least, or None for every frame; "
                f"got {self.walker_fps:g}"
            )
        if not 1 <= self.min_frames <= self.window or self.hop < 1 or self.max_walkers < 1:
            raise ConfigError(
                "expected 1 <= min_frames <= window, hop >= 1 and max_walkers >= 1; got "
                f"min_frames {self.min_frames}, window {self.window}, hop {self.hop}, "
                f"max_walkers {self.max_walkers}"
            )

    @property
    def paced_fps(self) -> float | None:
        """`walker_fps`, None for a segmenter that masks everybody in every frame anyway."""
        return None if masks_everybody(self.segmenter) else self.walker_fps


@dataclass(frozen=True)
class TrackRecord:
    """Silhouettes and embeddings of one track, for enrolment and identification."""

    track: int
    silhouettes: npt.NDArray[np.uint8]
    """[s, h, w]: the usable ones in order, at most a minute of them."""
    embeddings: npt.NDArray[np.float32]  # [k, p, d]: windows that overlap by at most a half
    salient_frames: npt.NDArray[np.int32] | None  # [p], of the newest window
    frames: int  # usable ones
    refusals: Mapping[str, int]  # frames by the reason why they were not used
    account: str  # what became of its frames, for a person
    view: Literal["left", "right"] | None = None  # where it walks to; None where that is not plain
    started_s: float | None = None  # media time of the first usable frame, and of the last
    ended_s: float | None = None
    box: Box | None = None  # where it was seen last

    @property
    def frames_per_second(self) -> float | None:
        """Usable frames per second of its time, None for a single one."""
        if self.started_s is None or self.ended_s is None or self.ended_s <= self.started_s:
            return None
        return (self.frames - 1) / (self.ended_s - self.started_s)


@dataclass
class RunSummary:
    """Counts of a run; `stages()` has its milliseconds."""

    frames: int = 0  # segmented and tracked
    silhouettes: int = 0  # embedded, of all walkers
    dropped: int = 0  # by a live source, because this run was too slow for them
    tracks: int = 0
    answers: int = 0
    not_finite: int = 0  # embeddings held back because of a NaN or an infinity
    unfollowed: int = 0  # detections without a track, because there were `max_walkers` already
    seconds: float = 0.0  # without learning the background
    samples: Samples = field(default_factory=Samples)

    @property
    def fps(self) -> float:
        """Frames per second of the run."""
        return self.frames / self.seconds if self.seconds > 0 else 0.0

    def __str__(self) -> str:
        """Return the line for people at the end of a run."""
        return (
            f"{self.frames} frames at {self.fps:.1f} per second, {self.dropped} dropped, "
            f"{self.tracks} walkers, {self.answers} answers"
        )

    def stages(self) -> dict[str, dict[str, float]]:
        """Return count, mean and percentiles of the milliseconds of every stage."""
        return self.samples.summary()
