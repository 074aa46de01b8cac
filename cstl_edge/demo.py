"""The demo: the whole way on a real clip and on a synthetic street, told as a table and pictures.

(1) The woman of the shipped clip is enrolled from the first half of her walk and looked for in the
second, where an acrobat must not be taken for her. (2) Six walkers cross a synthetic street; four
were enrolled on another day, in other clothes and from other sides, two are strangers.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

import numpy as np

from cstl_edge.cli.console import progress
from cstl_edge.errors import DataError
from cstl_edge.gallery.gallery import Gallery
from cstl_edge.live.annotate import (
    AnnotatedVideo,
    WalkerView,
    salient_parts,
    save_picture,
    silhouette_strip,
)
from cstl_edge.live.events import Event, JsonLines
from cstl_edge.live.pipeline.run import Options, TrackRecord, collect, run
from cstl_edge.live.sources.base import Frame, FrameSource
from cstl_edge.live.sources.open import open_source
from cstl_edge.live.sources.synthetic.actor import WalkerSpec
from cstl_edge.live.sources.synthetic.source import SyntheticSource
from cstl_edge.runtime import load
from cstl_edge.runtime.base import Encoder

Tell = Callable[[str], None]

CLIP = "walk.mp4"
WALKER = "the woman"
HALF_S = 3.6  # she walks from 1.2 to 6.0 s of the clip; here she is half-way
NAMES = ("Ada", "Ben", "Cleo", "Dan")
ENROLLED_FROM_DEG = (65.0, 115.0)  # the street sees them from 90 or 270
FIRST_PERSON = 2_000_000  # seeds of the demo's people: none was trained on
MIN_OVERLAP = 0.3  # of two boxes that mean the same walker
FPS = 15.0  # of the street's camera
NEVER_SEEN = Event("closed", "", reason="never seen")


def run_demo(
    out: Path, *, seed: int = 0, scenes: Sequence[str] = ("real", "street")
) -> dict[str, Any]:
    """Run the scenes and write videos, events and pictures into a new folder below `out`.

    Returns the rows of the table, milliseconds per stage, frames per second, and the folder.
    """
    folder = out / f"{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}-seed{seed}"
    folder.mkdir(parents=True, exist_ok=True)
    started = time.perf_counter()
    result: dict[str, Any] = {
        "seed": seed, "walkers": [], "not_enrolled": [], "stages": {}, "fps": {}
    }  # fmt: skip
    encoder = load()
    with progress("demo") as tell:
        try:
            if "real" in scenes:
                _real_scene(folder, encoder, result, tell)
            if "street" in scenes:
                _street_scene(folder, encoder, result, seed, tell)
        finally:
            encoder.close()
    result["counts"] = _counts(result["walkers"])
    result["model"] = f"{encoder.info.model_name} on {encoder.info.backend}"
    result["seconds"] = round(time.perf_counter() - started, 1)
    result["folder"] = str(folder)
    result["lines"] = _lines(result, folder)
    (folder / "demo.json").write_text(json.dumps(result, indent=1), encoding="utf-8")
    return result


def _real_scene(folder: Path, encoder: Encoder, result: dict[str, Any], tell: Tell) -> None:
    with as_file(files("cstl_edge") / "assets" / CLIP) as clip:
        tell("real clip: enrolling the first half of a walk")
        walk = collect(open_source(clip, stop_s=HALF_S), encoder)[0]
        with Gallery.open(folder / "real.db", model=encoder) as gallery:
            gallery.enroll(WALKER, walk.embeddings, consent="demo: the clip's licence is BSD-3")
            _pictures(folder, walk)
            tell("real clip: recognising in the second half")
            scene = _Scene(folder, "real", open_source(clip, start_s=HALF_S), result)
            scene.follow(encoder, gallery)
    # in the second half the woman is the one who goes on walking; all others are the acrobat
    longest = max(scene.last, key=lambda who: scene.last[who].frames or 0, default=None)
    for track, event in scene.last.items():
        truth = WALKER if track == longest else "the acrobat"
        result["walkers"].append(_row("real", f"track {track}", truth, [WALKER], event))


def _street_scene(
    folder: Path, encoder: Encoder, result: dict[str, Any], seed: int, tell: Tell
) -> None:
    people, enrolled = _cast(seed), list[str | None]()
    with Gallery.open(folder / "street.db", model=encoder) as gallery:
        for number, spec in enumerate(people[: len(NAMES)]):
            tell(f"street: enrolling {spec.name}")
            walks, why = _visits(spec, 1000 + 10 * seed + 2 * number, encoder)
            if not walks:  # a person who cannot be enrolled is a result, not the end
                result["not_enrolled"].append(f"{spec.name}: {why}")
                continue
            enrolled.append(spec.name)
            for walk in walks:
                gallery.enroll(spec.name or "", walk.embeddings, consent="demo: nobody real")
        tell("street: recognising")
        street = SyntheticSource(people, seed=seed, fps=FPS)
        scene = _Scene(folder, "street", street, result)
        scene.follow(encoder, gallery)
    for number, spec in enumerate(people):
        truth, last = spec.name or "a stranger", scene.last.get(number, NEVER_SEEN)
        result["walkers"].append(_row("street", f"walker {number + 1}", truth, enrolled, last))


def _visits(spec: WalkerSpec, seed: int, encoder: Encoder) -> tuple[list[TrackRecord], str]:
    """Return the usable walks of somebody who comes alone on two other days, and what failed."""
    walks, why = list[TrackRecord](), ""
    for day, view_deg in enumerate(ENROLLED_FROM_DEG, start=1):
        visit = replace(spec, condition="nm", session=spec.session + day, view_deg=view_deg)
        alone = SyntheticSource([visit], seed=seed + day - 1, fps=FPS)
        try:
            walks += collect(alone, encoder)
        except DataError as err:
            why = str(err)
    return walks, why


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


class _Scene:
    """One annotated run. `last` holds the last word on each walker of the truth (or each track)."""

    def __init__(
        self, folder: Path, name: str, source: FrameSource, result: dict[str, Any]
    ) -> None:
        self.name, self.folder, self.source, self.result = name, folder, source, result
        self.last: dict[int, Event] = {}
        self._shown: dict[int, int] = {}  # track -> walker of the truth, in the newest frame

    def follow(self, encoder: Encoder, gallery: Gallery) -> None:
        video = AnnotatedVideo(self.folder / f"{self.name}.mp4", self.source.fps or FPS)
        with video, JsonLines(self.folder / "events.jsonl") as log:

            def observe(frame: Frame, views: list[WalkerView], note: str | None) -> None:
                self._compare(frame, views)
                video.write(frame.image, views, note)

            with run(self.source, encoder=encoder, gallery=gallery, observer=observe) as events:
                for event in events:
                    log.write(event)
                    self._note(event)
        self.result["stages"][self.name] = events.summary.stages()
        self.result["fps"][self.name] = round(events.summary.fps, 1)

    def _note(self, event: Event) -> None:
        """Keep the newest answer about a walker; a reason for none only where no answer was."""
        if event.track is None or event.kind not in ("identified", "closed"):
            return
        synthetic = isinstance(self.source, SyntheticSource)
        who = self._shown.get(event.track) if synthetic else event.track
        if who is None:
            return
        earlier = self.last.get(who)
        if event.answer is not None or earlier is None or earlier.answer is None:
            self.last[who] = event

    def _compare(self, frame: Frame, views: list[WalkerView]) -> None:
        if not isinstance(self.source, SyntheticSource):
            return
        truths = self.source.truth(frame.index)
        for view in views:
            overlaps = [(_overlap(view.box, truth.box), truth.walker) for truth in truths]
            best, walker = max(overlaps, default=(0.0, -1))
            if best >= MIN_OVERLAP:
                self._shown[view.track] = walker


def _overlap(a: tuple[float, ...], b: tuple[float, ...]) -> float:
    """Return intersection over union of two boxes x, y, w, h."""
    width = min(a[0] + a[2], b[0] + b[2]) - max(a[0], b[0])
    height = min(a[1] + a[3], b[1] + b[3]) - max(a[1], b[1])
    common = max(width, 0.0) * max(height, 0.0)
    return common / (a[2] * a[3] + b[2] * b[3] - common) if common else 0.0


def _row(
    scene: str, walker: str, truth: str, enrolled: Sequence[str | None], event: Event
) -> dict[str, Any]:
    return {
        "scene": scene,
        "walker": walker,
        "truth": truth,
        "answer": event.answer or f"no answer: {event.reason}",
        "distance": event.distance,
        "threshold": event.threshold,
        "verdict": _verdict(truth, truth in enrolled, event),
    }


def _verdict(truth: str, enrolled: bool, event: Event) -> str:
    if event.name is not None:
        return "true accept" if event.name == truth else "false accept"
    if event.unknown:
        return "false reject" if enrolled else "true reject"
    return "no answer"


def _counts(rows: list[dict[str, Any]]) -> dict[str, int]:
    verdicts = ("true accept", "false accept", "true reject", "false reject", "no answer")
    return {verdict: sum(row["verdict"] == verdict for row in rows) for verdict in verdicts}


def _pictures(folder: Path, walk: TrackRecord) -> None:
    save_picture(folder / "silhouettes.png", silhouette_strip(walk.silhouettes))
    if walk.salient_frames is not None:
        window = walk.silhouettes[-Options().window :]
        save_picture(folder / "salient.png", salient_parts(window, walk.salient_frames))


def _lines(result: dict[str, Any], folder: Path) -> list[str]:
    counts = ", ".join(f"{count} {verdict}s" for verdict, count in result["counts"].items())
    fps = ", ".join(f"{scene} {value}" for scene, value in result["fps"].items())
    return [
        counts,
        *(f"not enrolled: {line}" for line in result["not_enrolled"]),
        f"frames per second: {fps}; all of it took {result['seconds']} s with {result['model']}",
        f"look at {folder}: real.mp4 and street.mp4 (annotated), events.jsonl, silhouettes.png, "
        "salient.png (the frames from which each body part was chosen, Fig. 7 of the paper)",
    ]
