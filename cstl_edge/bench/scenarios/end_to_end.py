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
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

import numpy as np

from cstl_edge.bench.backends.base import Missing
from cstl_edge.bench.backends.encoders import candidates, ran_of, result
from cstl_edge.bench.context import Context
from cstl_edge.bench.record import Case, Row
from cstl_edge.errors import ConfigError, CstlEdgeError
from cstl_edge.gallery.gallery import Gallery
from cstl_edge.live.annotate import WalkerView
from cstl_edge.live.pipeline.options import PipelineOptions
from cstl_edge.live.pipeline.run import run
from cstl_edge.live.segmentation.open import SEGMENTERS
from cstl_edge.live.sources.base import Frame, FrameSource
from cstl_edge.live.sources.open import open_source
from cstl_edge.measure.conditions import here
from cstl_edge.measure.stats import percentile
from cstl_edge.measure.warnings import doubts
from cstl_edge.runtime.base import Encoder

CLIP = "walk.mp4"
SHORT_S = (1.5, 2.5)  # of the clip: somebody walks
FPS = 25.0
PEOPLE, TEMPLATES = 20, 4
THRESHOLD = 1.0  # for a model that brings no distances of strangers
MOST_DROPPED = 0.01
MOST_LATE_MS = 200.0
STEADY_FRAME = 25  # drops before it are the start's
LEVELS = (4, 8, 12)
FULL_LEVELS = (1, 2, 3, 4, 6, 8, 10, 12, 14, 16)
FIRST = 8  # walkers
STREET_BY = ("plate",)
"""Who segments streets in the default form: the one for many walkers at once."""
ONE_BY_ONE = f"synthetic://{FIRST}?size=640x360&live=1"
"""The street as it comes, drawn while it is measured; with --full."""
RUN_BY = ("onnxruntime float32", "tensorrt float16")
"""Who embeds in the default form; the long one has INT8 and PyTorch too."""
BY_DESIGN = "unstable clocks"  # frames differ by who is in view, whatever the clocks do
STAGES = ("source", "segment", "track", "silhouette", "encode", "identify")


@dataclass(frozen=True)
class PipelineResult:
    """One run of the pipeline."""

    samples: dict[str, list[float]]
    values: dict[str, float]
    conditions: dict[str, Any]

    @property
    def holds(self) -> bool:
        """Tell whether the camera's pace was kept."""
        total = self.samples["total"]
        in_time = bool(total) and percentile(total, 99) < MOST_LATE_MS
        return in_time and self.values["dropped_share"] <= MOST_DROPPED

    @property
    def told(self) -> dict[str, Any]:
        """Return what is kept of a run that is not the row's own."""
        kept = [round(x, 2) for x in self.samples["total"]]
        return {"holds": self.holds, **self.values, "total_ms": kept}


def rows(context: Context) -> Iterator[Row]:
    """Yield a row per encoder, source and segmenter."""
    try:
        import cv2  # noqa: F401
    except ImportError as err:
        raise ConfigError("the live path needs cv2: pip install 'cstl-edge[cv]'") from err
    for found in candidates(context):
        if not context.full and found.name not in RUN_BY:
            continue
        if isinstance(found, Missing):
            yield _row(context, found.name, Case(), skipped=found.reason)
            continue
        try:
            encoder = found.open()
        except CstlEdgeError as err:
            yield _row(context, found.name, Case(), skipped=str(err))
            continue
        try:
            for told in _passes(context, encoder):
                name = f"{found.name}, {told.pop('segmenter')}"
                yield _row(context, name, ran=ran_of(encoder.info), **told)
        finally:
            encoder.close()


def climb(holds: Callable[[int], bool], levels: Sequence[int], first: int, tries: int) -> int:
    """Return the largest of the levels that holds, 0 for none, as far as so many tries tell.

    From `first` upwards while they hold, or downwards until one does.
    """
    place = levels.index(first)
    up = holds(levels[place])
    best = levels[place] if up else 0
    for _ in range(tries - 1):
        place += 1 if up else -1
        if not 0 <= place < len(levels):
            break
        if holds(levels[place]):
            best = levels[place]
            if not up:
                break
        elif up:
            break
    return best


def run_pipeline(
    source: FrameSource, encoder: Encoder, gallery: Gallery, segmenter: str
) -> PipelineResult:
    """Run the pipeline over a source and measure it."""
    threshold = None if encoder.info.impostors else THRESHOLD
    options = PipelineOptions(segmenter=segmenter, threshold=threshold)
    watcher, watch = _Watcher(source), here()
    watch.begin()
    with run(source, encoder=encoder, gallery=gallery, options=options, observer=watcher) as events:
        latency = [
            (event.monotonic_s - event.time_s) * 1e3
            for event in events
            if event.kind == "identified" and source.live and event.time_s is not None
        ]
    taken = events.summary.samples.by_stage
    stages = [stage for stage in STAGES if not (source.live and stage == "source")]
    samples = {stage: taken[stage] for stage in stages if taken.get(stage)}
    samples["total"] = watcher.total_ms if source.live else taken.get("frame", [])
    if latency:
        samples["latency"] = latency
    steady = source.dropped - watcher.dropped_before
    values = {
        "frames_per_s": events.summary.fps,
        "dropped_share": steady / max(1, steady + watcher.steady_frames),
        "answers": events.summary.answers,
        "walkers_in_view": float(np.mean(watcher.in_view)) if watcher.in_view else 0.0,
    }
    return PipelineResult(samples, values, watch.end())


class _Watcher:
    """Counts who is in view and what was dropped, and times frames from the camera on."""

    def __init__(self, source: FrameSource) -> None:
        self._source = source
        self.total_ms: list[float] = []
        self.in_view: list[int] = []
        self.dropped_before = 0
        self.steady_frames = 0

    def __call__(self, frame: Frame, views: list[WalkerView], note: str | None) -> None:
        if views:
            self.in_view.append(len(views))
        if frame.index < STEADY_FRAME:
            self.dropped_before = self._source.dropped
            return
        self.steady_frames += 1
        self.total_ms.append((time.monotonic() - frame.time_s) * 1e3)


def _passes(context: Context, encoder: Encoder) -> Iterator[dict[str, Any]]:
    """Yield what stands in the rows of one encoder."""
    segmenters = SEGMENTERS if context.full else SEGMENTERS[:1]
    of_streets = SEGMENTERS if context.full else STREET_BY
    with _gallery(encoder) as gallery:
        for segmenter in segmenters:
            context.tell(f"end_to_end: {CLIP}, {segmenter}")
            with as_file(files("cstl_edge") / "assets" / CLIP) as clip:
                start_s, stop_s = SHORT_S if context.short else (None, None)
                source = open_source(clip, start_s=start_s, stop_s=stop_s)
                one = run_pipeline(source, encoder, gallery, segmenter)
            yield {"segmenter": segmenter, "case": Case(source=CLIP), **_told(one)}
        for segmenter in () if context.short else of_streets:
            yield _street(context, encoder, gallery, segmenter)
            if context.full:
                context.tell(f"end_to_end: {ONE_BY_ONE}, {segmenter}")
                one = run_pipeline(open_source(ONE_BY_ONE), encoder, gallery, segmenter)
                case = Case(walkers=FIRST, paced_hz=FPS, source=ONE_BY_ONE)
                yield {"segmenter": segmenter, "case": case, **_told(one)}


def _street(context: Context, encoder: Encoder, gallery: Gallery, segmenter: str) -> dict[str, Any]:
    """Search how many walkers a street may have; return what stands in the row."""
    from cstl_edge.bench.scenarios import synthetic_street

    tried: dict[int, PipelineResult] = {}

    def holds(walkers: int) -> bool:
        context.tell(f"end_to_end: {synthetic_street.street_uri(walkers)}, {segmenter}")
        source = synthetic_street.paced_source(
            _pictures(walkers), synthetic_street.street_uri(walkers)
        )
        tried[walkers] = run_pipeline(source, encoder, gallery, segmenter)
        return tried[walkers].holds

    levels, tries = (FULL_LEVELS, len(FULL_LEVELS)) if context.full else (LEVELS, 2)
    most = climb(holds, levels, FIRST, tries)
    shown = most or min(tried)
    told = _told(tried[shown])
    told["values"] = {"walkers": most, **told["values"]}
    told["details"] |= {
        "most_dropped_share": MOST_DROPPED,
        "most_late_ms": MOST_LATE_MS,
        "tried": [{"walkers": n, **one.told} for n, one in tried.items()],
    }
    case = Case(walkers=shown, paced_hz=FPS, source=synthetic_street.street_uri(shown))
    return {"segmenter": segmenter, "case": case, **told}


@lru_cache(maxsize=2)
def _pictures(walkers: int) -> list[Any]:
    from cstl_edge.bench.scenarios import synthetic_street

    return synthetic_street.draw_street(walkers)


@contextmanager
def _gallery(encoder: Encoder) -> Iterator[Gallery]:
    """Open a gallery of people who were drawn at random."""
    rng, info = np.random.default_rng(0), encoder.info
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        gallery = stack.enter_context(Gallery.open(Path(folder) / "people.db", model=encoder))
        for number in range(PEOPLE):
            drawn = rng.normal(size=(TEMPLATES, info.parts, info.embedding))
            gallery.enroll(f"person {number}", drawn.astype(np.float32), consent="nobody real")
        yield gallery


def _told(one: PipelineResult) -> dict[str, Any]:
    found = doubts({"latency": one.samples["total"]}, None, one.conditions)
    return {
        "samples": one.samples,
        "values": dict(one.values),
        "warnings": [x for x in found if not x.startswith(BY_DESIGN)],
        "conditions": one.conditions,
        "details": {"gallery": f"{PEOPLE} people of {TEMPLATES} templates, drawn at random"},
    }


def _row(context: Context, contender: str, case: Case, **told: Any) -> Row:
    return result(context, "end_to_end", contender, case=case, **told)
