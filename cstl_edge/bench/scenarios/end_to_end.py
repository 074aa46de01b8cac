"""Scenario `end_to_end`: from the camera to the event, stage by stage, as `cstl-edge live` runs.

Two sources. The shipped clip, read like any file as fast as it goes; and streets that N walkers
cross together, at 25 frames per second as from a camera (`street`), with N raised or lowered until
one holds and one does not. A street holds when, after its first second, at most 1 % of the frames
were dropped and p99 from the camera to the end of a frame's work is below 200 ms. The gallery has
20 people with 4 templates each, drawn at random: it makes work, its answers mean nothing.

`samples`: `source` (decoding, files only), `segment`, `track`, `silhouette`, `encode`, `identify`,
the stages as the pipeline times them, two of them at once on two cores; `total`, from the camera
(files: from decoding) to the end of a frame's work; `latency`, from the camera to an event that
names somebody or nobody.
`values`: `frames_per_s`, `dropped_share`, `answers`, `walkers_in_view` (mean over the frames with
any), and of streets `walkers`, the most that hold. `details["tried"]` has every N.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

import numpy as np

from cstl_edge.bench.backends.base import ran_of
from cstl_edge.bench.backends.open import streaming_backends
from cstl_edge.bench.context import Context
from cstl_edge.bench.record import Case, Row
from cstl_edge.bench.scenarios import synthetic_street
from cstl_edge.bench.scenarios.shared import CAMERA_HZ, open_encoder, without_clocks
from cstl_edge.extras import missing_package
from cstl_edge.gallery.gallery import Gallery
from cstl_edge.live.annotate import WalkerView
from cstl_edge.live.pipeline.options import PipelineOptions
from cstl_edge.live.pipeline.run import run
from cstl_edge.live.segmentation.open import DEFAULT_SEGMENTER, SEGMENTERS
from cstl_edge.live.sources.base import Frame, FrameSource
from cstl_edge.live.sources.open import open_source
from cstl_edge.measure.conditions import host_monitor
from cstl_edge.measure.stats import percentile
from cstl_edge.measure.warnings import measurement_warnings
from cstl_edge.runtime.base import Encoder

CLIP = "walk.mp4"
SHORT_S = (1.5, 2.5)  # of the clip: somebody walks
PEOPLE, TEMPLATES = 20, 4
THRESHOLD = 1.0  # for a model without an impostor table
MOST_DROPPED = 0.01
MOST_LATE_MS = 200.0
STEADY_FRAME = 25  # drops before it are the start's
LEVELS = (4, 8, 12)
FULL_LEVELS = (1, 2, 3, 4, 6, 8, 10, 12, 14, 16)
FIRST = 8  # walkers
STREET_SEGMENTERS = ("background",)
"""Segmenters of streets in the default form: the one for many walkers at once."""
ONE_BY_ONE = f"synthetic://{FIRST}?size=640x360&live=1"
"""The street as it comes, drawn while it is measured; with --full."""
ENCODERS = ("onnxruntime float32", "tensorrt float16")
"""Encoders of the default form; the long one has INT8 and PyTorch too."""
STAGES = ("source", "segment", "track", "silhouette", "encode", "identify")


@dataclass(frozen=True)
class PipelineResult:
    """One run of the pipeline."""

    samples: dict[str, list[float]]
    values: dict[str, float]
    conditions: dict[str, Any]
    notes: list[str] = field(default_factory=list)  # what events said of the scene

    @property
    def holds(self) -> bool:
        """Tell whether the camera's pace was kept."""
        total = self.samples["total"]
        in_time = bool(total) and percentile(total, 99) < MOST_LATE_MS
        return in_time and self.values["dropped_share"] <= MOST_DROPPED

    @property
    def record(self) -> dict[str, Any]:
        """Return its entry in the details of a row that is another run's."""
        total_ms = [round(ms, 2) for ms in self.samples["total"]]
        return {"holds": self.holds, **self.values, "total_ms": total_ms}


def rows(context: Context) -> Iterator[Row]:
    """Yield a row per encoder, source and segmenter."""
    try:
        import cv2  # noqa: F401
    except ImportError as err:
        raise missing_package("the live path needs cv2", "cv") from err
    for candidate in streaming_backends(context):
        if not context.full and candidate.name not in ENCODERS:
            continue
        with ExitStack() as stack:
            encoder = open_encoder(context, "end_to_end", candidate, Case(), stack)
            if isinstance(encoder, Row):
                yield encoder
                continue
            for segmenter, case, fields in _runs(context, encoder):
                name, ran = f"{candidate.name}, {result_name(segmenter)}", ran_of(encoder.info)
                yield context.row("end_to_end", name, case=case, ran=ran, **fields)


def result_name(segmenter: str) -> str:
    """Return how results name a segmenter: by its oldest name, so that old and new rows compare."""
    return {name: alias for alias, name in SEGMENTERS.aliases.items()}.get(segmenter, segmenter)


def search_level(
    holds: Callable[[int], bool], levels: Sequence[int], first: int, tries: int
) -> int:
    """Return the largest level that was seen to hold, 0 for none.

    The search goes from `first` upwards while levels hold, or downwards until one does.

    Args:
        holds: Predicate of a level.
        levels: Levels in ascending order.
        first: Level to begin with.
        tries: Largest number of levels tried.
    """
    index, first_held = levels.index(first), holds(first)
    best = first if first_held else 0
    further = levels[index + 1 :] if first_held else levels[:index][::-1]
    for level in further[: tries - 1]:
        held = holds(level)
        best = level if held else best
        if held != first_held:
            break
    return best


def run_pipeline(
    source: FrameSource,
    encoder: Encoder,
    gallery: Gallery,
    segmenter: str,
    *,
    steady_frame: int = STEADY_FRAME,
) -> PipelineResult:
    """Run the pipeline over a source and measure it.

    Args:
        source: Frame source, closed at the end.
        encoder: Encoder of the model under test.
        gallery: Gallery of the people to be named.
        segmenter: Name out of the table `SEGMENTERS`.
        steady_frame: First frame that counts, of a camera.
    """
    threshold = None if encoder.info.impostors else THRESHOLD
    options = PipelineOptions(segmenter=segmenter, threshold=threshold)
    frames, monitor = _FrameObserver(source, steady_frame), host_monitor()
    monitor.begin()
    with run(source, encoder=encoder, gallery=gallery, options=options, observer=frames) as events:
        latency, notes = list[float](), list[str]()
        for event in events:
            if event.event == "named" and source.live and event.time_s is not None:
                latency.append((event.monotonic_s - event.time_s) * 1e3)
            elif event.event == "scene" and event.detail is not None:
                notes.append(event.detail)
    by_stage = events.summary.samples.by_stage
    stages = [stage for stage in STAGES if not (source.live and stage == "source")]
    samples = {stage: list(by_stage[stage]) for stage in stages if by_stage.get(stage)}
    samples["total"] = frames.total_ms if source.live else list(by_stage.get("frame", ()))
    if latency:
        samples["latency"] = latency
    steady = source.dropped - frames.dropped_before
    values = {
        "frames_per_s": events.summary.fps,
        "dropped_share": steady / max(1, steady + len(frames.total_ms)),
        "answers": events.summary.answers,
        "walkers_in_view": float(np.mean(frames.in_view)) if frames.in_view else 0.0,
    }
    return PipelineResult(samples, values, monitor.end(), notes)


@dataclass
class _FrameObserver:
    """Counts walkers in view and dropped frames, and times frames from the camera on."""

    source: FrameSource
    steady_frame: int
    total_ms: list[float] = field(default_factory=list)
    in_view: list[int] = field(default_factory=list)
    dropped_before: int = 0

    def __call__(self, frame: Frame, views: list[WalkerView], note: str | None) -> None:
        if self.source.live and frame.index < self.steady_frame:
            self.dropped_before = self.source.dropped
            return
        if views:
            self.in_view.append(len(views))
        self.total_ms.append((time.monotonic() - frame.time_s) * 1e3)


def _runs(context: Context, encoder: Encoder) -> Iterator[tuple[str, Case, dict[str, Any]]]:
    """Yield segmenter, case and fields of the rows of one encoder."""
    segmenters = tuple(SEGMENTERS) if context.full else (DEFAULT_SEGMENTER,)
    of_streets = tuple(SEGMENTERS) if context.full else STREET_SEGMENTERS
    with _gallery(encoder) as gallery:
        for segmenter in segmenters:
            context.progress(f"end_to_end: {CLIP}, {segmenter}")
            with as_file(files("cstl_edge") / "assets" / CLIP) as clip:
                start_s, stop_s = SHORT_S if context.short else (None, None)
                source = open_source(clip, start_s=start_s, stop_s=stop_s)
                result = run_pipeline(source, encoder, gallery, segmenter)
            yield segmenter, Case(source=CLIP), _fields(result)
        for segmenter in () if context.short else of_streets:
            yield segmenter, *_street(context, encoder, gallery, segmenter)
            if context.full:
                context.progress(f"end_to_end: {ONE_BY_ONE}, {segmenter}")
                result = run_pipeline(open_source(ONE_BY_ONE), encoder, gallery, segmenter)
                case = Case(walkers=FIRST, paced_hz=CAMERA_HZ, source=ONE_BY_ONE)
                yield segmenter, case, _fields(result)


def _street(
    context: Context, encoder: Encoder, gallery: Gallery, segmenter: str
) -> tuple[Case, dict[str, Any]]:
    """Search how many walkers a street may have; return case and fields of the row."""
    tried: dict[int, PipelineResult] = {}

    def holds(walkers: int) -> bool:
        uri = synthetic_street.street_uri(walkers)
        context.progress(f"end_to_end: {uri}, {segmenter}")
        source = synthetic_street.paced_source(_pictures(walkers), uri)
        tried[walkers] = run_pipeline(source, encoder, gallery, segmenter)
        return tried[walkers].holds

    levels, tries = (FULL_LEVELS, len(FULL_LEVELS)) if context.full else (LEVELS, 2)
    most = search_level(holds, levels, FIRST, tries)
    shown = most or min(tried)
    fields = _fields(tried[shown])
    fields["values"] = {"walkers": most, **fields["values"]}
    fields["details"] |= {
        "most_dropped_share": MOST_DROPPED,
        "most_late_ms": MOST_LATE_MS,
        "tried": [{"walkers": n, **result.record} for n, result in tried.items()],
    }
    source = synthetic_street.street_uri(shown)
    return Case(walkers=shown, paced_hz=CAMERA_HZ, source=source), fields


@lru_cache(maxsize=2)
def _pictures(walkers: int) -> list[Any]:
    return synthetic_street.draw_street(walkers)


@contextmanager
def _gallery(encoder: Encoder) -> Iterator[Gallery]:
    """Open a gallery of people who were drawn at random."""
    rng, info = np.random.default_rng(0), encoder.info
    with (
        tempfile.TemporaryDirectory() as folder,
        Gallery.open(Path(folder) / "people.db", model=encoder) as gallery,
    ):
        for number in range(PEOPLE):
            drawn = rng.normal(size=(TEMPLATES, info.parts, info.embedding))
            gallery.enroll(
                f"person {number}", drawn.astype(np.float32), consent="nobody real", force=True
            )
        yield gallery


def _fields(result: PipelineResult) -> dict[str, Any]:
    total_ms = {"latency": result.samples["total"]}
    warnings = measurement_warnings(total_ms, None, result.conditions)
    return {
        "samples": result.samples,
        "values": result.values,
        "conditions": result.conditions,
        "warnings": without_clocks(warnings),  # frames differ by the walkers in view
        "details": {"gallery": f"{PEOPLE} people of {TEMPLATES} templates, drawn at random"},
    }
