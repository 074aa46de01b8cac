"""Visits: tracks of a camera stitched to stays, stays of one person on several cameras to a way.

`Visits` decides; what it decides goes to a `Diary`, which tells and stores it. A stay ends some
seconds after its last track; until then a track may go on with it.
"""

from __future__ import annotations

from collections.abc import Iterator
from copy import copy
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Protocol

from cstl_edge.gallery.match import Decision, SeenWalk
from cstl_edge.live.events import Cause, EventName
from cstl_edge.serve.alike import (
    JOURNEY_FPIR,
    PART_FPIR,
    REJOIN_FPIR,
    PlacedWalk,
    WalkMeasure,
)
from cstl_edge.serve.kept_walks import joined_walk
from cstl_edge.serve.stays import Stay
from cstl_edge.serve.stitching import (
    MAX_COLOUR,
    STITCH_S,
    VisitTrack,
    colour_difference,
    nearest_before,
)

JOURNEY_S = 300.0  # from one camera to the next
STALE_S = 60.0  # without a frame of it: its worker is gone, and so is the visit
HOLD_S = 8.0  # that a stay is held open for one that began within reach and has no walk yet
SETTLED_SEEN = 2.0  # windows of a walk after which a stitch is not doubted any more
CONFIRM_S = 0.5  # from the first frame to the last one of a track that is somebody
LINK_FRAMES = 30  # usable ones of both visits: half a window makes strangers alike
LEAST_SEEN = 1.0  # windows of a walk before it says anything

TrackKey = tuple[str, str, int]  # camera, life of the worker, number


class Diary(Protocol):
    """Where decisions about visits go."""

    def tell(self, stay: Stay, name: EventName, detail: str | None = None) -> None:
        """Report a change of a visit, and store it."""

    def save(self, stay: Stay) -> None:
        """Store a visit."""

    def decide(self, stay: Stay) -> Decision | None:
        """Search the gallery for the walk of a visit, None without a walk or a gallery."""

    def consider(self, stay: Stay) -> None:
        """Look whether somebody unknown was here before."""

    def finish(self, stay: Stay) -> None:
        """Store what is kept of a visit that has ended, with its last word."""

    def absorb(self, gone: Stay, into: Stay) -> None:
        """Give what is stored of a visit to the one that it is a part of."""


class Visits:
    """Everybody who is in view or was a moment ago."""

    def __init__(self, measure: WalkMeasure, diary: Diary, model: str | None) -> None:
        """Begin with nobody.

        Args:
            measure: Compares walks.
            diary: Told of every decision.
            model: Digits of the model, for the rows.
        """
        self._measure, self._diary, self._model = measure, diary, model
        self._stays: list[Stay] = []
        self._by_track: dict[TrackKey, Stay] = {}
        self._young: dict[TrackKey, VisitTrack] = {}  # too short to be somebody, so far

    def __iter__(self) -> Iterator[Stay]:
        """Return the stays, ended ones of the last minutes included."""
        return iter(self._stays)

    @property
    def open(self) -> list[Stay]:
        """The stays whose last word was not told yet."""
        return [stay for stay in self._stays if not stay.finished]

    def stay_of(self, camera: str, run: str, number: int) -> Stay | None:
        """Return the stay of a track, None where there is none.

        Args:
            camera: Name of the camera.
            run: Life of its worker.
            number: Of the track.
        """
        return self._by_track.get((camera, run, number))

    def find(self, visit: str) -> Stay | None:
        """Return the stay of a visit that goes on or ended a moment ago."""
        return next((stay for stay in self._stays if stay.id == visit), None)

    def begin(self, track: VisitTrack) -> None:
        """Take a new track, which is nobody until it has lasted a moment."""
        self._young[track.camera, track.run, track.number] = track

    def see(self, track: VisitTrack) -> None:
        """Take a frame of a track: after a moment it goes on with a stay, or begins one."""
        key = track.camera, track.run, track.number
        if key in self._young and track.last_s - track.born_s >= CONFIRM_S:
            self._confirm(key)

    def freeze(self, track: VisitTrack, time_s: float, utc: datetime) -> None:
        """Keep what was seen of a track before it merges with a neighbour.

        Whoever leaves the merge may be the neighbour: what follows is doubted like a new track.

        Args:
            track: It has a window.
            time_s: Time of the camera.
            utc: Time of day.
        """
        stay = self._by_track.get((track.camera, track.run, track.number))
        if stay is None:
            return
        before = replace(track, state=copy(track.state), is_open=False, strip=[])
        stay.tracks.insert(stay.tracks.index(track), before)
        track.settled, track.born_s, track.born_utc = False, time_s, utc

    def _confirm(self, key: TrackKey) -> Stay:
        track = self._young.pop(key)
        waiting = [s for s in self.open if s.camera == track.camera and not s.is_open]
        ended = {id(stay.track): stay for stay in waiting}
        before = nearest_before([stay.track for stay in waiting], track)
        if before is not None:
            stay = ended[id(before)]
            stay.tracks.append(track)
            stay.refresh()
        else:
            track.settled = True
            stay = Stay.begin(track, self._model)
            self._stays.append(stay)
        self._by_track[key] = stay
        if before is None:
            self._diary.tell(stay, "born")
        return stay

    def walk_of(self, camera: str, run: str, number: int) -> SeenWalk:
        """Return what is to be searched for a track: the walk of its stay.

        A stitch that the walk contradicts is undone here.

        Args:
            camera: Name of the camera.
            run: Life of its worker.
            number: Of the track, which has a window.
        """
        key = camera, run, number
        stay = self._confirm(key) if key in self._young else self._by_track[key]
        track = next(t for t in reversed(stay.tracks) if (t.run, t.number) == (run, number))
        own = track.walk
        assert own is not None
        if not track.settled:
            stay = self._doubt(stay, track, own)
        walk = stay.walk
        assert walk is not None
        return walk

    def answered(self, stay: Stay, decision: Decision, latency_ms: float | None) -> None:
        """Take an answer about a stay; tell it where it is another one than before.

        Args:
            stay: The stay.
            decision: What the gallery says of its walk.
            latency_ms: Since the deciding frame was read.
        """
        stay.decide(decision)
        stay.latency_ms = latency_ms
        stay.refresh()
        self._rejoin(stay)
        if stay not in self._stays:
            return
        self._diary.consider(stay)
        if stay.says != stay.said:
            self._diary.tell(stay, "named")
        self._link(stay)

    def unanswered(self, stay: Stay, reason: Cause) -> None:
        """Take why there is no answer; an answer of another track of the stay holds."""
        if any(track.state.decision is not None for track in stay.tracks):
            return
        stay.have_no_answer(reason)
        stay.refresh()
        if stay.says != stay.said:
            self._diary.tell(stay, "pending")

    def close_track(self, camera: str, run: str, number: int) -> None:
        """Note that a track has ended; its stay may go on.

        Args:
            camera: Name of the camera.
            run: Life of its worker.
            number: Of the track.
        """
        self._young.pop((camera, run, number), None)
        stay = self._by_track.pop((camera, run, number), None)
        if stay is None:
            return
        for track in stay.tracks:
            if (track.run, track.number) == (run, number):
                track.is_open = False
        stay.refresh()
        self._diary.save(stay)

    def forget(self, stay: Stay) -> None:
        """Drop a stay without a word: it was erased."""
        self._stays.remove(stay)
        self._by_track = {key: s for key, s in self._by_track.items() if s is not stay}

    def tick(self, now: datetime, *, everything: bool = False) -> None:
        """End the stays of people who are gone, and forget the ones that ended long ago.

        Args:
            now: Present time.
            everything: End all of them: the service stops.
        """
        for stay in self.open:
            stale = (now - stay.last_utc).total_seconds() > STALE_S
            if everything or stale or (not stay.is_open and self._is_over(stay, now)):
                self._finish(stay)
        oldest = now - timedelta(seconds=JOURNEY_S)
        self._stays = [s for s in self._stays if not s.finished or s.last_utc > oldest]

    def _is_over(self, stay: Stay, now: datetime) -> bool:
        gone_s = (now - stay.last_utc).total_seconds()
        if gone_s <= STITCH_S:
            return False
        return gone_s > STITCH_S + HOLD_S or not any(
            self._may_go_on(stay, other) and (other.walk is None) and other.is_open
            for other in self.open
        )

    def _finish(self, stay: Stay) -> None:
        stay.finished = True
        for track in stay.tracks:
            track.is_open = False
        stay.refresh()
        if stay.row.answer == "none" and stay.decision is None:
            stay.have_no_answer(stay.main_reason())
        stay.change(ended_utc=stay.row.seen_utc)
        self._diary.finish(stay)

    def _doubt(self, stay: Stay, track: VisitTrack, own: SeenWalk) -> Stay:
        """Compare the walk of a stitched track with that before; part them if it is another."""
        others = [t for t in stay.tracks if t is not track]
        walks = [walk for other in others if (walk := other.walk) is not None]
        if not walks or own.seen < LEAST_SEEN:
            return stay
        before = joined_walk(walks)
        seen = min(own.seen, before.seen)
        distance = self._measure.between(
            PlacedWalk(own, stay.camera), PlacedWalk(before, stay.camera)
        )
        if distance <= self._measure.limit(PART_FPIR, seen):
            track.settled = own.seen >= SETTLED_SEEN
            return stay
        return self._part(stay, track)

    def _part(self, stay: Stay, track: VisitTrack) -> Stay:
        """Undo a stitch: the track begins a stay of its own."""
        track.settled = True
        stay.tracks.remove(track)
        new = Stay.begin(track, self._model)
        self._stays.append(new)
        self._by_track[track.camera, track.run, track.number] = new
        stay.refresh()
        decision = self._diary.decide(stay)
        if decision is None:
            stay.have_no_answer(stay.main_reason())
        else:
            stay.decide(decision)
        self._diary.tell(stay, "changed", f"visit {new.id} is somebody else: another walk")
        self._diary.tell(new, "born", f"parted from visit {stay.id}: another walk")
        return new

    def _may_go_on(self, before: Stay, stay: Stay) -> bool:
        """Tell whether a stay began within a moment of the end of another on its camera."""
        if before is stay or before.camera != stay.camera or before.is_open or before.finished:
            return False
        gap_s = (stay.tracks[0].born_utc - before.last_utc).total_seconds()
        return 0 <= gap_s <= STITCH_S

    def _rejoin(self, stay: Stay) -> None:
        """Join a stay to one that ended a moment before it on its camera, by the walk."""
        ours = stay.placed_walk
        if ours is None or ours.walk.seen < LEAST_SEEN or not self._measure.knows(stay.camera):
            return
        for before in self.open:
            theirs = before.placed_walk
            if theirs is None or theirs.walk.seen < LEAST_SEEN or not self._may_go_on(before, stay):
                continue
            if stay.row.person != before.row.person and "known" in (
                stay.row.answer,
                before.row.answer,
            ):
                continue
            clothes = colour_difference(before.track.colours, stay.tracks[0].colours)
            if clothes is not None and clothes > MAX_COLOUR:
                continue
            if self._measure.are_alike(ours, theirs, REJOIN_FPIR):
                self._absorb(stay, before)
                return

    def _absorb(self, gone: Stay, into: Stay) -> None:
        """Make a stay a part of an earlier one."""
        into.tracks += gone.tracks
        for track in gone.tracks:
            if track.is_open:
                self._by_track[track.camera, track.run, track.number] = into
        self._stays.remove(gone)
        decision = self._diary.decide(into)
        if decision is not None:
            into.decide(decision)
        into.refresh()
        self._diary.absorb(gone, into)
        self._diary.tell(into, "changed", f"visit {gone.id} is a part of it: the same walk")

    def _link(self, stay: Stay) -> None:
        """Join a stay to the way of the same person, who was on another camera just before."""
        if stay.settled_journey:
            self._unlink_other_person(stay)
            return
        found = [
            (distance, gap_s, other)
            for other in self._stays
            if (gap_s := self._gap_s(other, stay)) is not None
            and (distance := self._way_distance(other, stay)) is not None
        ]
        if not found:
            return
        _, gap_s, before = min(found, key=lambda candidate: candidate[:2])
        stay.settled_journey = True
        stay.change(journey=before.row.journey)
        seconds = f"{gap_s:.0f} s before" if gap_s > 0 else "at the same time"
        self._diary.tell(stay, "changed", f"seen at {before.camera} {seconds}: the same way")

    def _gap_s(self, before: Stay, stay: Stay) -> float | None:
        """Return the seconds from a stay on another camera to this one, None where too many."""
        if before.camera == stay.camera or before.tracks[0].born_utc > stay.tracks[0].born_utc:
            return None
        gap_s = (stay.tracks[0].born_utc - before.last_utc).total_seconds()
        return gap_s if gap_s <= JOURNEY_S else None

    def _way_distance(self, before: Stay, stay: Stay) -> float | None:
        """Return how far two walks on two cameras are apart, None where they are not one way."""
        ours, theirs = stay.row, before.row
        if "known" in (ours.answer, theirs.answer):
            return 0.0 if ours.person == theirs.person else None
        walk, other = stay.placed_walk, before.placed_walk
        if walk is None or other is None or min(stay.frames, before.frames) < LINK_FRAMES:
            return None
        if not (self._measure.knows(stay.camera) and self._measure.knows(before.camera)):
            return None
        candidates = sum(self._gap_s(one, stay) is not None for one in self._stays)
        if not self._measure.are_alike(walk, other, JOURNEY_FPIR, max(1, candidates)):
            return None
        return self._measure.between(walk, other)

    def _unlink_other_person(self, stay: Stay) -> None:
        """Part a stay from a way that is known to be somebody else's."""
        if stay.row.answer != "known" or stay.row.journey == stay.id:
            return
        way = [s for s in self._stays if s is not stay and s.row.journey == stay.row.journey]
        others = {s.row.person for s in way if s.row.answer == "known"}
        if others and stay.row.person not in others:
            stay.change(journey=stay.id)
            self._diary.tell(stay, "changed", "it is not the way of somebody else any more")
