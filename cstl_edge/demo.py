"""Demo: enroll and recognise on a real clip and on a synthetic street; a table and pictures.

(1) The woman of the shipped clip is enrolled from the first half of her walk and looked for in the
second, where an acrobat must not be taken for her. (2) Six walkers cross a synthetic street; four
were enrolled on another day, in other clothes and from other sides, two are strangers.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, field, replace
from importlib.resources import as_file, files
from pathlib import Path
from typing import Literal, get_args

import numpy as np

from cstl_edge.errors import DataError
from cstl_edge.gallery.gallery import Gallery
from cstl_edge.live.annotate import (
    WalkerView,
    salient_parts,
    save_picture,
    silhouette_strip,
)
from cstl_edge.live.boxes import box_iou
from cstl_edge.live.events import Event, EventLog
from cstl_edge.live.pipeline.collect import collect
from cstl_edge.live.pipeline.options import PipelineOptions, TrackRecord
from cstl_edge.live.pipeline.run import run
from cstl_edge.live.sources.base import Frame, FrameSource
from cstl_edge.live.sources.open import open_source
from cstl_edge.live.sources.synthetic.actor import WalkerSpec
from cstl_edge.live.sources.synthetic.source import SyntheticSource, WalkerTruth
from cstl_edge.live.video.annotated import AnnotatedVideo, playable_path
from cstl_edge.output import write_file
from cstl_edge.runtime import load
from cstl_edge.runtime.base import Encoder

Progress = Callable[[str], None]
Verdict = Literal["true accept", "false accept", "true reject", "false reject", "no answer"]
VERDICTS: tuple[Verdict, ...] = get_args(Verdict)

CLIP = "walk.mp4"
WALKER = "the woman"
HALF_S = 3.6  # she walks from 1.2 to 6.0 s of the clip; here she is half-way
NAMES = ("Ada", "Ben", "Cleo", "Dan")
STEPS = 3 + len(NAMES)  # calls of a demo's progress
ENROLLED_FROM_DEG = (65.0, 115.0)  # the street sees them from 90 or 270
FIRST_PERSON = 2_000_000  # seeds of the demo's people: none was trained on
MIN_OVERLAP = 0.3  # of two boxes that mean the same walker
FPS = 15.0  # of the street's camera


@dataclass(frozen=True)
class WalkerRow:
    """The last word on one walker beside the truth."""

    scene: str
    walker: str
    truth: str
    answer: str
    distance: float | None
    threshold: float | None
    verdict: Verdict


@dataclass
class DemoResult:
    """Everything that a demo measured; `asdict` of it is `demo.json`."""

    seed: int
    walkers: list[WalkerRow] = field(default_factory=list)
    not_enrolled: list[str] = field(default_factory=list)
    # by scene and stage: count and milliseconds
    stages: dict[str, dict[str, dict[str, float]]] = field(default_factory=dict)
    fps: dict[str, float] = field(default_factory=dict)  # by scene: frames per second
    counts: dict[Verdict, int] = field(default_factory=dict)
    model: str = ""
    seconds: float = 0.0
    folder: str = ""
    videos: list[str] = field(default_factory=list)  # names of the annotated ones
    lines: list[str] = field(default_factory=list)  # summary for people


def run_demo(
    out: Path,
    *,
    seed: int = 0,
    scenes: Sequence[str] = ("real", "street"),
    progress: Progress = lambda text: None,
) -> DemoResult:
    """Run the scenes and write videos, events and pictures into a new folder.

    Args:
        out: Folder below which the new one is made.
        seed: Seed of the synthetic street.
        scenes: `real`, `street` or both.
        progress: Called with a line per step.
    """
    folder = out / f"{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}-seed{seed}"
    folder.mkdir(parents=True, exist_ok=True)
    started = time.perf_counter()
    result = DemoResult(seed)
    with closing(load()) as encoder:
        if "real" in scenes:
            _real_scene(folder, encoder, result, progress)
        if "street" in scenes:
            _street_scene(folder, encoder, result, progress)
    verdicts = [row.verdict for row in result.walkers]
    result.counts = {verdict: verdicts.count(verdict) for verdict in VERDICTS}
    result.model = f"{encoder.info.model_name} on {encoder.info.backend}"
    result.seconds = round(time.perf_counter() - started, 1)
    result.folder = str(folder)
    result.lines = _lines(result)
    write_file(folder / "demo.json", json.dumps(asdict(result), indent=1))
    return result


def _real_scene(folder: Path, encoder: Encoder, result: DemoResult, progress: Progress) -> None:
    with as_file(files("cstl_edge") / "assets" / CLIP) as clip:
        progress("real clip: enrolling the first half of a walk")
        walk = collect(open_source(clip, stop_s=HALF_S), encoder)[0]
        with Gallery.open(folder / "real.db", model=encoder) as gallery:
            gallery.enroll(WALKER, walk.embeddings, consent="demo: the clip's licence is BSD-3")
            _save_pictures(folder, walk)
            progress("real clip: recognising in the second half")
            second_half = open_source(clip, start_s=HALF_S)
            last = _follow(folder, "real", second_half, encoder, gallery, result)
    # in the second half the woman is the one who goes on walking; all others are the acrobat
    longest = max(last, key=lambda track: last[track].frames or 0, default=None)
    for track, event in last.items():
        truth = WALKER if track == longest else "the acrobat"
        result.walkers.append(_row("real", f"track {track}", truth, [WALKER], event))


def _street_scene(folder: Path, encoder: Encoder, result: DemoResult, progress: Progress) -> None:
    seed = result.seed
    people, enrolled = _cast(seed), list[str | None]()
    with Gallery.open(folder / "street.db", model=encoder) as gallery:
        for number, spec in enumerate(people[: len(NAMES)]):
            progress(f"street: enrolling {spec.name}")
            walks, failure = _visits(spec, 1000 + 10 * seed + 2 * number, encoder)
            if not walks:  # a person who cannot be enrolled is a result, not the end
                result.not_enrolled.append(f"{spec.name}: {failure}")
                continue
            enrolled.append(spec.name)
            for walk in walks:
                gallery.enroll(
                    spec.name or "", walk.embeddings, consent="demo: nobody real", force=True
                )
        progress("street: recognising")
        street = SyntheticSource(people, seed=seed, fps=FPS)
        last = _follow(folder, "street", street, encoder, gallery, result)
    for number, spec in enumerate(people):
        truth, walker = spec.name or "a stranger", f"walker {number + 1}"
        result.walkers.append(_row("street", walker, truth, enrolled, last.get(number)))


def _visits(spec: WalkerSpec, seed: int, encoder: Encoder) -> tuple[list[TrackRecord], str]:
    """Return the usable walks of somebody who comes alone on two other days, and what failed."""
    walks, failure = list[TrackRecord](), ""
    for day, view_deg in enumerate(ENROLLED_FROM_DEG, start=1):
        visit = replace(spec, condition="nm", session=spec.session + day, view_deg=view_deg)
        alone = SyntheticSource([visit], seed=seed + day - 1, fps=FPS)
        try:
            walks += collect(alone, encoder)
        except DataError as err:
            failure = str(err)
    return walks, failure


def _cast(seed: int) -> list[WalkerSpec]:
    """Draw six walkers, four of them with names; one of the six has a bag, one wears a coat."""
    rng = np.random.default_rng([seed, 6])
    names: list[str | None] = [*NAMES, None, None]
    dressed = dict(zip(rng.permutation(6)[:2].tolist(), ("bg", "cl"), strict=True))
    return [
        WalkerSpec(
            person_seed=FIRST_PERSON + 100 * seed + i,
            name=name,
            condition=dressed.get(i, "nm"),
            session=int(rng.integers(1_000_000)),
            view_deg=float(rng.choice((90.0, 270.0)) + rng.uniform(-10, 10)),
            distance_m=float(rng.uniform(5.8, 8.0)),
        )
        for i, name in enumerate(names)
    ]


def _follow(
    folder: Path,
    name: str,
    source: FrameSource,
    encoder: Encoder,
    gallery: Gallery,
    result: DemoResult,
) -> dict[int, Event]:
    """Run one scene, annotated; return the last word on each walker of the truth, or each track."""
    last: dict[int, Event] = {}
    walker_of: dict[int, int] = {}  # track -> walker of the truth, in the newest frame
    truth = source.truth if isinstance(source, SyntheticSource) else None
    video = AnnotatedVideo(playable_path(folder / f"{name}.mp4"), source.fps or FPS)
    result.videos.append(video.path.name)

    def observe(frame: Frame, views: list[WalkerView], note: str | None) -> None:
        if truth is not None:
            walker_of.update(_matches(views, truth(frame.index)))
        video.write(frame.image, views, note)

    with (
        video,
        EventLog(folder / "events.jsonl") as log,
        run(source, encoder=encoder, gallery=gallery, observer=observe) as events,
    ):
        for event in events:
            log.write(event)
            walker = event.track
            if walker is not None and truth is not None:
                walker = walker_of.get(walker)
            if walker is None or event.event not in ("named", "closed"):
                continue
            # the newest answer about a walker; a reason for none only where no answer was
            if event.answer != "none" or walker not in last or last[walker].answer == "none":
                last[walker] = event
    result.stages[name] = events.summary.stages()
    result.fps[name] = round(events.summary.fps, 1)
    return last


def _matches(views: Iterable[WalkerView], truths: Sequence[WalkerTruth]) -> dict[int, int]:
    """Return the walker of the truth that each track shows, where one is near enough."""
    matches = {}
    for view in views:
        overlaps = [(box_iou(view.box, truth.box), truth.walker) for truth in truths]
        best, walker = max(overlaps, default=(0.0, -1))
        if best >= MIN_OVERLAP:
            matches[view.track] = walker
    return matches


def _row(
    scene: str, walker: str, truth: str, enrolled: Sequence[str | None], event: Event | None
) -> WalkerRow:
    """Compare the last word on a walker, None for one who was never seen, with the truth."""
    if event is None or event.answer == "none":
        reason = "never seen" if event is None else event.reason
        return WalkerRow(scene, walker, truth, f"no answer: {reason}", None, None, "no answer")
    verdict: Verdict
    if event.answer == "known":
        verdict = "true accept" if event.person == truth else "false accept"
    else:
        verdict = "false reject" if truth in enrolled else "true reject"
    answer = event.person or "unknown"
    return WalkerRow(scene, walker, truth, answer, event.distance, event.threshold, verdict)


def _save_pictures(folder: Path, walk: TrackRecord) -> None:
    save_picture(folder / "silhouettes.png", silhouette_strip(walk.silhouettes))
    if walk.salient_frames is not None:
        window = walk.silhouettes[-PipelineOptions().window :]
        save_picture(folder / "salient.png", salient_parts(window, walk.salient_frames))


def _lines(result: DemoResult) -> list[str]:
    counts = ", ".join(f"{count} {verdict}s" for verdict, count in result.counts.items())
    fps = ", ".join(f"{scene} {rate}" for scene, rate in result.fps.items())
    return [
        counts,
        *(f"not enrolled: {line}" for line in result.not_enrolled),
        f"frames per second: {fps}; all of it took {result.seconds} s with {result.model}",
        f"look at {result.folder}: {' and '.join(result.videos)} (annotated), events.jsonl, "
        "silhouettes.png, salient.png (the frames from which each body part was chosen, Fig. 7 of "
        "the paper)",
        "next: cstl-edge demo --serve opens a page with four synthetic cameras",
    ]
