"""Measure visits and ways across cameras on four-sided synthetic streets, where the truth is known.

    python benchmarks/serve/visits.py --seeds 0-2
    python benchmarks/serve/visits.py --final --out results.jsonl

Each scene is one street seen by four cameras, with lamp posts; everybody passes every side once.
The recogniser of the service runs in this process, with the shipped model, and by default nobody is
enrolled, which is the harder case: names join ways by themselves. A row per scene:

- `visits_per_person`: visits of a person on a side, by the majority of boxes; target: 1.3 at most;
- `missed`: people on a side without a visit; `nobody`: visits that show nobody;
- `joined`: tracks stitched to a visit beyond its first, and visits linked to an earlier one;
  `wrong`: those not of the person that most of the visit or way is of; target: 1 % of them;
- `ways_found`: share of the steps from one side to the next that are in one way.

Perception is the slow part: what it sees is kept in `--store`, so that stitching can be measured
again in seconds. Seeds 0 to 9, 100 to 109 and 200 to 209 are for choosing, 300 to
309 (`--final`) for figures.
"""

from __future__ import annotations

import argparse
import pickle
import sys
import tempfile
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from study import append_record, run_study, study_parser

from cstl_edge.live.boxes import Box, box_iou
from cstl_edge.live.pipeline.options import PipelineOptions
from cstl_edge.live.pipeline.perception import EndOfStream, FrameResult, PerceptionThread
from cstl_edge.live.segmentation.open import DEFAULT_SEGMENTER, open_segmenter
from cstl_edge.live.sources.synthetic.sides import SIDES, side_of_street
from cstl_edge.runtime import load
from cstl_edge.runtime.base import Encoder
from cstl_edge.serve.messages import EventMessage, Observation, SeenTrack, TracksEnded
from cstl_edge.serve.recogniser import Recogniser
from cstl_edge.serve.site import Site

FPS = 10.0
POLES = 2
LEAST_IOU = 0.3  # of a box with the person it shows
LEAST_VISIBLE = 0.25  # share of a person in a frame that counts
LEAST_FRAMES = 10  # in which somebody is to be seen on a side, to be counted there
START = datetime(2026, 11, 1, 8, tzinfo=timezone.utc)
AFTER_S = 40.0  # in which all visits end


@dataclass(frozen=True)
class SeenSide:
    """What perception saw of one side, and who was there."""

    messages: list[Observation | TracksEnded]
    people: dict[int, dict[int, tuple[int, Box]]]  # frame -> track -> person and box
    present: Counter[int]  # frames in which each person was to be seen


def side_name(side: int) -> str:
    """Return the camera of a side."""
    return f"side{side}"


def perceived(seed: int, side: int, people: int, poles: int, segmenter: str) -> SeenSide:
    """Look at one side of a street.

    Args:
        seed: Of the street.
        side: 0 to 3.
        people: Who walk about.
        poles: Lamp posts.
        segmenter: How people are found.
    """
    street = side_of_street(side, people, seed=seed, fps=FPS, poles=poles)
    messages: list[Observation | TracksEnded] = []
    who: dict[int, dict[int, tuple[int, Box]]] = {}
    present: Counter[int] = Counter()
    thread = PerceptionThread(
        street, open_segmenter(segmenter, threads=1), PipelineOptions(segmenter), (64, 44)
    )
    thread.start()
    while True:
        message = thread.messages.get()
        if isinstance(message, FrameResult):
            number = message.frame.index
            truth = [t for t in street.truth(number) if t.visible >= LEAST_VISIBLE]
            present.update(t.spec.person_seed for t in truth)
            who[number] = {
                item.id: (nearest(item.box, truth), item.box) for item in message.observations
            }
            messages.append(observation(message, side))
        elif isinstance(message, EndOfStream):
            if message.error is not None:
                raise message.error
            messages.append(TracksEnded(side_name(side), "run", tuple(message.closed)))
            if message.final:
                return SeenSide(messages, who, present)


def nearest(box: Box, truth: list[Any]) -> int:
    """Return who a box shows, 0 for nobody."""
    overlaps = [(box_iou(box, person.box), person.spec.person_seed) for person in truth]
    best = max(overlaps, default=(0.0, 0))
    return int(best[1]) if best[0] >= LEAST_IOU else 0


def observation(result: FrameResult, side: int) -> Observation:
    """Return the message of a worker about a frame."""
    time_s = result.frame.time_s
    return Observation(
        camera=side_name(side),
        run="run",
        frame=result.frame.index,
        utc=START + timedelta(seconds=time_s),
        time_s=time_s,
        read_at_s=result.read_at,
        size=(result.frame.image.shape[0], result.frame.image.shape[1]),
        scene=result.scene,
        tracks=tuple(
            SeenTrack(i.id, i.box, i.reason, i.silhouette, i.heading, i.colours)
            for i in result.observations
        ),
        born=tuple(result.born),
        closed=tuple(result.closed),
        doubtful=tuple(result.doubtful),
    )


def stored_side(store: Path, args: argparse.Namespace, seed: int, side: int) -> SeenSide:
    """Return what perception sees of a side, from the store where it is there."""
    name = f"{args.segmenter}-{args.people}-{args.poles}-{seed}-{side}.pkl"
    path = store / name
    if path.exists():
        with path.open("rb") as file:
            stored: SeenSide = pickle.load(file)  # our own
            return stored
    seen = perceived(seed, side, args.people, args.poles, args.segmenter)
    store.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        pickle.dump(seen, file)
    return seen


class SceneRun:
    """A recogniser that gets what four sides see, in order of time."""

    def __init__(self, folder: Path, encoder: Encoder, sides: list[SeenSide]) -> None:
        """Open it in an empty folder.

        Args:
            folder: For gallery and store.
            encoder: The model.
            sides: What was seen.
        """
        cameras = {side_name(n): {"source": f"synthetic://street?side={n}"} for n in range(SIDES)}
        keep = {"unknowns": {"enabled": True}}
        site = Site.model_validate({"data": folder, "cameras": cameras, "keep": keep})
        self.now, self.sides = START, sides
        self.events: list[dict[str, Any]] = []
        self.tracks: dict[str, list[tuple[str, int]]] = {}  # visit -> its tracks, in order
        self.recogniser = Recogniser(site, self._take, encoder, clock=lambda: self.now)
        self.memory: dict[int, Any] = {}

    def _take(self, peer: str, message: Any) -> None:
        if isinstance(message, EventMessage):
            self.events.append(dict(message.event))

    def play(self) -> None:
        """Let everything happen; note which tracks each visit has before it is forgotten."""
        queues = [list(side.messages) for side in self.sides]
        for step in range(max(map(len, queues))):
            for queue in queues:
                if step < len(queue):
                    message = queue[step]
                    if isinstance(message, Observation):
                        self.now = max(self.now, message.utc)
                    self.recogniser.receive("camera", message)
            self._tick()
        for _ in range(int(AFTER_S * 2)):
            self.now += timedelta(seconds=0.5)
            self._tick()

    def _tick(self) -> None:
        self.recogniser.tick()
        for stay in self.recogniser.visits:
            own = ((stay.camera, track.number) for track in stay.tracks)
            self.tracks[stay.id] = list(dict.fromkeys(own))  # parts of one track count once


def people_of_tracks(run: SceneRun) -> dict[tuple[str, int], Counter[int]]:
    """Return whom each track of each side shows, counted by frames."""
    who: dict[tuple[str, int], Counter[int]] = defaultdict(Counter)
    for number, side in enumerate(run.sides):
        for tracks in side.people.values():
            for track, (person, _) in tracks.items():
                who[side_name(number), track][person] += 1
    return who


def scene_figures(run: SceneRun) -> dict[str, Any]:
    """Return the figures of a scene that was played."""
    who = people_of_tracks(run)
    rows = run.recogniser.data.store.visits("1")
    person_of: dict[str, int] = {}
    joined = wrong = 0
    for row in rows:
        joined_tracks = run.tracks[row.id]
        total: Counter[int] = Counter()
        for own in joined_tracks:
            total.update(who[own])
        person_of[row.id] = total.most_common(1)[0][0] if total else 0
        joined += len(joined_tracks) - 1
        people = Counter(majority(who[own]) for own in joined_tracks)
        if len(people) > 1:
            wrong += len(joined_tracks) - people[0] - people.most_common(1)[0][1]
    links, wrong_links, steps = way_figures(rows, person_of)
    expected = {
        (side_name(n), person)
        for n, side in enumerate(run.sides)
        for person, frames in side.present.items()
        if frames >= LEAST_FRAMES
    }
    visits = Counter((row.camera, person_of[row.id]) for row in rows)
    of_people = sum(visits[key] for key in expected)
    seen = sum(visits[key] > 0 for key in expected)
    clusters: dict[int, Counter[int]] = defaultdict(Counter)
    for row in rows:
        if row.cluster is not None:
            clusters[row.cluster][person_of[row.id]] += 1
    return {
        "people_on_sides": len(expected),
        "visits": len(rows),
        "visits_per_person": round(of_people / max(1, seen), 3),
        "missed": len(expected) - seen,
        "nobody": sum(person == 0 for person in person_of.values()),
        "joined": joined + links,
        "wrong": wrong + wrong_links,
        "stitched": joined,
        "wrong_stitched": wrong,
        "linked": links,
        "wrong_linked": wrong_links,
        "ways_found": round((links - wrong_links) / max(1, steps), 3),
        "steps": steps,
        "parted": sum("parted" in (e["detail"] or "") for e in run.events if e["event"] == "born"),
        "clusters": len(clusters),
        "mixed_clusters": sum(len(c) > 1 for c in clusters.values()),
        "named_events_per_visit": round(
            sum(e["event"] == "named" for e in run.events) / max(1, len(rows)), 2
        ),
    }


def majority(counts: Counter[int]) -> int:
    """Return who a track shows most of the time."""
    return counts.most_common(1)[0][0] if counts else 0


def way_figures(rows: list[Any], person_of: dict[str, int]) -> tuple[int, int, int]:
    """Return how many visits are linked to an earlier one, how many wrongly, and how many could."""
    ways: dict[str, list[str]] = defaultdict(list)
    for row in rows:
        ways[row.journey].append(row.id)
    links = wrong = 0
    for visits in ways.values():
        links += len(visits) - 1
        people = Counter(person_of[visit] for visit in visits)
        wrong += len(visits) - people.most_common(1)[0][1]
    sides: dict[int, set[str]] = defaultdict(set)
    for row in rows:
        if person_of[row.id]:
            sides[person_of[row.id]].add(row.camera)
    return links, wrong, sum(len(cameras) - 1 for cameras in sides.values())


def study(args: argparse.Namespace) -> None:
    """Measure all scenes."""
    total: Counter[str] = Counter()
    with closing(load(threads=1)) as encoder:
        for seed in seeds_of(args):
            sides = [stored_side(args.store, args, seed, side) for side in range(SIDES)]
            with tempfile.TemporaryDirectory() as folder:
                run = SceneRun(Path(folder), encoder, sides)
                with closing(run.recogniser):
                    run.play()
                    figures = scene_figures(run)
            record = {"seed": seed, "people": args.people, "poles": args.poles,
                      "segmenter": args.segmenter, **figures}  # fmt: skip
            print(record, flush=True)
            append_record(args.out, "serve/visits", record)
            total.update({k: v for k, v in figures.items() if isinstance(v, int)})
            total["weighted"] += round(1000 * figures["visits_per_person"])
            total["scenes"] += 1
    share = total["wrong"] / max(1, total["joined"])
    print(
        f"{total['scenes']} scenes: {total['weighted'] / 1000 / max(1, total['scenes']):.2f} visits"
        f" per person and camera, {total['wrong']} of {total['joined']} joined wrongly"
        f" ({100 * share:.1f} %), {total['missed']} of {total['people_on_sides']} missed,"
        f" {total['linked'] - total['wrong_linked']} of {total['steps']} steps between cameras"
    )


def seeds_of(args: argparse.Namespace) -> Iterator[int]:
    """Yield the seeds of the scenes."""
    if args.final:
        yield from range(300, 310)
        return
    first, _, last = args.seeds.partition("-")
    yield from range(int(first), int(last or first) + 1)


def main(argv: list[str] | None = None) -> int:
    """Run from the command line; return the exit code."""
    parser = study_parser(__doc__)
    parser.add_argument("--seeds", default="0-9", help="first and last seed (default: 0-9)")
    parser.add_argument("--final", action="store_true", help="the seeds for figures, 300 to 309")
    parser.add_argument("--people", type=int, default=6, help="who walk about (default: 6)")
    parser.add_argument("--poles", type=int, default=POLES, help="lamp posts on each side")
    parser.add_argument("--segmenter", default=DEFAULT_SEGMENTER, help="how people are found")
    parser.add_argument(
        "--store", type=Path, default=Path("runs/serve-visits"), help="what perception saw"
    )
    return run_study(parser, study, argv)


if __name__ == "__main__":
    sys.exit(main())
