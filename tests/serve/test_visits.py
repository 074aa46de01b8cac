"""Tracks become visits, visits become ways; what the walk contradicts is undone."""

from copy import copy
from dataclasses import replace
from datetime import datetime, timezone

import numpy as np
import pytest
from event_schema import violations
from recogniser_scene import House, Walk

from cstl_edge.live.pipeline.track_state import TrackState
from cstl_edge.live.tracking.walk_filter import Reason
from cstl_edge.serve.stitching import VisitTrack


@pytest.fixture
def house(tmp_path):
    house = House(tmp_path)
    yield house
    house.close()


def test_somebody_unknown_is_one_visit_told_in_four_words(house):
    house.play(Walk(1))
    (visit,) = house.visits()
    assert (visit.answer, visit.reason_code, visit.camera) == ("none", "gallery_empty", "door") or (
        visit.answer == "unknown"
    )
    kinds = [event["event"] for event in house.events() if event["visit"] == visit.id]
    assert kinds[0] == "born"
    assert kinds[-1] == "closed"
    assert kinds.count("named") == 1
    assert all(violations(event) == [] for event in house.events())
    assert visit.ended_utc == visit.seen_utc
    assert visit.frames > 40


def test_a_pole_cuts_nobody_into_two_visits(house):
    house.play(Walk(1, seconds=8, hidden=((3.0, 5.0),)))
    (visit,) = house.visits()
    assert visit.tracks == 2
    assert len(house.events("born")) == 1
    assert len(house.events("closed")) == 1


def test_a_stitch_that_the_walk_contradicts_is_undone_and_told(house):
    # somebody else comes out behind the pole, in the same clothes, at the same place
    first, second = Walk(1, seconds=4), Walk(2, start_s=5, seconds=5, x=40 + 5 * 60, dressed=1)
    house.play(first, second)
    one, other = house.visits()
    assert (one.tracks, other.tracks) == (1, 1)
    (parted,) = house.events("changed")
    assert "another walk" in parted["detail"]
    assert parted["visit"] == one.id
    born = house.events("born")
    assert [event["visit"] for event in born] == [one.id, other.id]
    assert one.seen_utc < other.started_utc


def test_other_clothes_or_another_place_begin_another_visit(house):
    house.play(Walk(1, seconds=4), Walk(2, start_s=5, seconds=5, x=40 + 5 * 60))
    assert len(house.visits()) == 2
    house.play(Walk(3, seconds=4), Walk(4, start_s=5, seconds=5, x=900, dressed=3))
    assert len(house.visits()) == 4
    assert house.events("changed") == []


def test_who_comes_out_elsewhere_is_joined_by_the_walk(house):
    # through a door: out of reach, but the same walk in the same clothes a moment later
    house.play(Walk(1, seconds=5), Walk(1, start_s=6, seconds=5, x=2000))
    (visit,) = house.visits()
    assert visit.tracks == 2
    assert any("part of it: the same walk" in e["detail"] for e in house.events("changed"))
    closed = house.events("closed")
    assert len(closed) == 2  # the visit that was joined has a last word too
    assert closed[0]["detail"] == f"it is a part of visit {visit.id}: the same walk"


def test_a_correction_follows_a_visit_that_becomes_part_of_another(house):
    house.play(Walk(1, seconds=5), Walk(1, start_s=6, seconds=5, x=2000), until_s=7.0)
    into, gone = house.recogniser.visits.open
    house.do("visits.correct", visit=gone.id, person=None, user="lea")
    house.recogniser.visits._absorb(gone, into)
    (visit,) = house.visits()
    assert (visit.id, visit.corrected_by, visit.reason_code) == (into.id, "lea", "corrected")
    (correction,) = house.reader.corrections(into.id)
    assert correction.user == "lea"


def test_an_answer_survives_a_merge_with_a_neighbour(house):
    house.enrol("Ada", 1)
    house.sent.clear()
    house.play(Walk(1, seconds=9, merged=(4.0, 5.0)))
    visit = house.visits()[-1]
    assert (visit.person, visit.tracks) == ("Ada", 1)
    assert [event["answer"] for event in house.events("named", "closed")] == ["known", "known"]


def test_who_leaves_a_merge_as_somebody_else_is_a_visit_of_its_own(house):
    house.enrol("Ada", 1)
    house.enrol("Bo", 2)
    house.sent.clear()
    house.play(Walk(1, seconds=10, merged=(4.0, 5.0), after=2))
    first, second = house.visits()[-2:]
    assert (first.person, second.person) == ("Ada", "Bo")
    assert first.ended_utc <= second.started_utc
    assert any("somebody else" in event["detail"] for event in house.events("changed"))


def test_a_track_is_told_from_what_was_kept_of_it_before_a_merge():
    state = TrackState(1, window=30)
    state.total = np.zeros((2, 2))
    utc = datetime(2026, 11, 30, tzinfo=timezone.utc)
    track = VisitTrack("run", 1, "door", state, (0.0, 0.0, 1.0, 1.0), 0.0, utc)
    before = replace(track, state=copy(state))
    tracks = [before, track]
    tracks.remove(track)  # by fields these two are nearly the same, and arrays have no equality
    assert tracks[0] is before


def test_who_comes_back_later_is_a_visit_of_its_own(house):
    house.play(Walk(1))
    house.play(Walk(1))
    assert len(house.visits()) == 2


def test_two_people_at_once_are_two_visits(house):
    house.play(Walk(1), Walk(2, x=400, start_s=0.5))
    assert len(house.visits()) == 2


def test_a_way_across_cameras_is_joined_by_the_walk_and_told(house):
    house.play(Walk(1, seconds=8), Walk(1, camera="yard", start_s=48, seconds=8))
    first, second = house.visits()
    assert (first.camera, second.camera) == ("door", "yard")
    assert first.journey == second.journey
    (told,) = house.events("changed")
    assert told["detail"] == "seen at door 40 s before: the same way"
    assert [visit.id for visit in house.reader.journey(first.journey)] == [first.id, second.id]


def test_other_people_on_the_next_camera_are_no_way(house):
    house.play(Walk(1, seconds=8), Walk(2, camera="yard", start_s=20, seconds=8))
    first, second = house.visits()
    assert first.journey != second.journey


def test_a_name_comes_as_an_update_once(house):
    house.enrol("Ada", 1)
    house.sent.clear()
    house.play(Walk(1))
    kinds = [(event["event"], event["person"]) for event in house.events()]
    assert kinds.count(("named", "Ada")) == 1
    named = house.events("named")[0]
    assert named["latency_ms"] is not None
    assert named["distance"] < named["threshold"]


def test_who_is_here_now_and_who_was_seen_last_are_two_things(house):
    house.enrol("Ada", 1)
    start_s = house.now_s
    house.play(Walk(1), until_s=start_s + 4)
    (here,) = house.reader.presence()
    assert (here.person, here.camera) == ("Ada", "door")
    house.skip(70)  # the worker says nothing more
    assert house.reader.presence() == ()
    (last,) = house.reader.last_seen()
    assert (last.person, last.camera) == ("Ada", "door")


def test_somebody_without_an_answer_is_told_with_the_reason(house):
    house.play(Walk(1, reason=Reason.TOO_SMALL))
    (visit,) = house.visits()
    assert (visit.answer, visit.reason_code) == ("none", "too_small")
    assert {event["answer"] for event in house.events("pending", "closed")} == {"none"}
    assert len(house.events("pending")) <= 2  # once, and when it stops being too early to say


def test_the_end_of_a_worker_ends_its_tracks(house):
    start_s = house.now_s
    house.play(Walk(1), until_s=start_s + 3)
    house.run = "another life"
    house.play(Walk(2, x=500))
    first, second = house.visits()
    assert first.ended_utc < second.started_utc


def test_a_kill_ends_open_visits_at_the_next_start(house):
    house.play(Walk(1), until_s=house.now_s + 4)
    house.recogniser.data.store.close()  # no goodbye
    house.open()
    (visit,) = house.visits()
    assert visit.ended_utc == visit.seen_utc
    assert house.reader.presence() == ()
