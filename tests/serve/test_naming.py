"""Who is who, said by users: enrolment, corrections, unknowns, merges, and everything undone."""

import json
import zipfile
from pathlib import Path

import pytest
from recogniser_scene import House, Walk

from cstl_edge.serve import unknowns
from cstl_edge.serve.messages import Label, Labels


@pytest.fixture
def house(tmp_path):
    house = House(tmp_path, unknowns={"enabled": True})
    yield house
    house.close()


@pytest.fixture
def plain(tmp_path):
    """A house where unknowns are not kept, as by default."""
    house = House(tmp_path)
    yield house
    house.close()


def names(house):
    return [person.name for person in house.reader.people()]


def last(house):
    return house.visits()[-1]


# enrolment


def test_who_walks_past_is_enrolled_and_known_on_the_other_camera(house):
    status = house.do("enrol.start", person="Ada", note="agreed at the door", camera="door")
    assert (status["state"], status["windows"]) == ("waiting", 0)
    house.play(Walk(1, seconds=9), Walk(1, start_s=24, seconds=9, x=600, speed=-60))
    status = house.do("enrol.stop", keep=True)
    assert status["state"] == "done"
    assert "enrolled with" in status["message"]
    (ada,) = house.reader.people()
    assert (ada.name, ada.consent, ada.cameras) == ("Ada", "agreed at the door", ("door",))
    assert ada.walks == 2
    house.play(Walk(1, camera="yard"))
    assert (last(house).person, last(house).camera) == ("Ada", "yard")


def test_an_enrolment_ends_by_itself(house):
    house.do("enrol.start", person="Ada", note="agreed", camera="door")
    house.play(*(Walk(1, start_s=16 * n, seconds=14, speed=30) for n in range(6)))
    status = house.do("enrol.status")
    assert status["state"] == "done"
    assert status["ended_utc"] is not None
    assert names(house) == ["Ada"]


def test_an_enrolment_where_nobody_comes_ends_too_and_stores_nothing(house):
    house.do("enrol.start", person="Ada", note="agreed", camera="door")
    house.skip(181)
    status = house.do("enrol.status")
    assert status["state"] == "failed"
    assert "nothing was stored" in status["message"]
    assert names(house) == []


def test_walks_of_two_in_one_picture_are_not_taken(house):
    house.do("enrol.start", person="Ada", note="agreed", camera="door")
    house.play(Walk(1, seconds=8), Walk(2, x=400, seconds=8), until_s=house.now_s + 5)
    status = house.do("enrol.status")
    assert "walk past alone" in status["message"]
    assert status["windows"] == 0
    assert house.do("enrol.stop", keep=True)["state"] == "stopped"
    assert names(house) == []


def test_one_enrolment_at_a_time_and_known_names_need_add(house):
    house.do("enrol.start", person="Ada", note="agreed", camera="door")
    assert house.ask("enrol.start", person="Bo", note="agreed", camera="yard").code == "busy"
    house.do("enrol.stop", keep=False)
    house.enrol("Ada", 1)
    assert house.ask("enrol.start", person="ada", note="x", camera="door").code == "conflict"
    assert house.ask("enrol.start", person="Bo", note="x", camera="door", add=True).code == (
        "not-found"
    )
    assert house.ask("enrol.start", person="Bo", note="", camera="door").code == "configuration"
    assert house.ask("enrol.start", person="Bo", note="x", camera="attic").code == "not-found"
    assert house.ask("enrol.start", person="Bo", note="x").code == "usage"
    assert house.do("enrol.start", person="Ada", note="x", camera="door", add=True)["person"] == (
        "Ada"
    )


def test_somebody_enrolled_gets_no_second_name(house):
    house.enrol("Ada", 1)
    status = house.enrol("Eve", 1)
    assert status["state"] == "failed"
    assert "already Ada" in status["message"]
    assert names(house) == ["Ada"]


def test_a_visit_is_enrolled_unless_it_matches_well_already(house):
    house.play(Walk(1, seconds=8))
    visit = last(house).id
    status = house.do("enrol.start", person="Ada", note="agreed", visit=visit)
    assert status["state"] == "done"
    assert (last(house).person, last(house).answer) == ("Ada", "known")
    house.play(Walk(1, seconds=8))
    again = {"person": "Ada", "note": "agreed", "visit": last(house).id, "add": True}
    refused = house.ask("enrol.start", **again)
    assert (refused.code, "matches Ada already" in refused.message) == ("conflict", True)
    house.do("enrol.start", **again, force=True)
    assert house.reader.people()[0].walks == 2


# corrections


def test_a_corrected_walk_is_never_given_to_the_wrong_one_again(house):
    house.enrol("Ada", 1)
    house.enrol("Bo", 2)
    house.play(Walk(1))
    visit = last(house)
    assert visit.person == "Ada"
    result = house.do("visits.correct", visit=visit.id, person="Bo", user="lea")
    assert result["learned"] is True
    corrected = house.reader.visit(visit.id)
    assert (corrected.person, corrected.corrected_by) == ("Bo", "lea")
    house.play(Walk(1))
    assert last(house).person == "Bo"  # the very same walk: Bo has it now, Ada never gets it
    house.restart()
    house.play(Walk(1))
    assert last(house).person == "Bo"
    (row,) = house.reader.corrections(visit.id)
    assert (row.person, row.was, row.user) == ("Bo", "Ada", "lea")


def test_nobody_enrolled_is_an_answer_too(house):
    house.enrol("Ada", 1)
    house.play(Walk(1))
    house.do("visits.correct", visit=last(house).id, person=None)
    assert (last(house).answer, last(house).reason_code) == ("unknown", "corrected")
    house.play(Walk(1))
    assert (last(house).answer, last(house).reason_code) == ("unknown", "corrected")
    assert names(house) == ["Ada"]  # no made-up person


def test_a_correction_is_taken_back(house):
    house.enrol("Ada", 1)
    house.enrol("Bo", 2)
    house.play(Walk(1))
    visit = last(house).id
    house.do("visits.correct", visit=visit, person="Bo")
    assert {p.name: p.walks for p in house.reader.people()} == {"Ada": 1, "Bo": 2}
    house.do("visits.undo", visit=visit)
    assert {p.name: p.walks for p in house.reader.people()} == {"Ada": 1, "Bo": 1}
    assert (house.reader.visit(visit).person, house.reader.visit(visit).corrected_by) == (
        "Ada",
        None,
    )
    house.play(Walk(1))
    assert last(house).person == "Ada"
    assert house.ask("visits.undo", visit=visit).code == "not-found"


def test_what_a_user_said_of_a_visit_that_goes_on_stays(house):
    house.enrol("Ada", 1)
    house.enrol("Bo", 2)
    start_s = house.now_s
    walk = Walk(1, seconds=10)
    house.play(walk, until_s=start_s + 4)
    visit = house.visits(open_only=True)[-1].id
    house.do("visits.correct", visit=visit, person="Bo")
    assert house.events("named")[-1]["person"] == "Bo"
    stay = house.recogniser.visits.find(visit)
    stay.decide(house.recogniser.data.gallery.identify(stay.walk, threshold=0.5))
    assert stay.row.person == "Bo"


def test_corrections_of_what_is_not_there_are_refused(house):
    assert house.ask("visits.correct", visit="gone", person=None).code == "not-found"
    house.play(Walk(1))
    assert house.ask("visits.correct", visit=last(house).id, person="Zoe").code == "not-found"
    assert house.ask("visits.correct", visit=last(house).id).code == "usage"


# unknowns


def test_unknowns_are_kept_only_where_the_site_says_so(plain):
    plain.play(Walk(1))
    assert plain.reader.unknowns() == ()
    assert (last(plain).cluster, last(plain).has_walk) == (None, False)
    assert plain.recogniser.data.store.tracks("1") == []


def test_a_stranger_who_comes_again_is_one_unknown_until_named(house):
    for _ in range(3):
        house.play(Walk(7, seconds=8))
    house.play(Walk(8, seconds=8))
    unknowns = {row.label: row for row in house.reader.unknowns()}
    assert {label: row.visits for label, row in unknowns.items()} == {
        "Unknown 1": 3,
        "Unknown 2": 1,
    }
    labels = [message.by_track for message in house.messages(Labels)]
    assert any(Label("Unknown 1", "unknown") in by_track.values() for by_track in labels)
    cluster = unknowns["Unknown 1"].id
    result = house.do("unknowns.name", cluster=cluster, person="Lea", note="agreed, 1 May")
    assert result == {"person": "Lea", "visits": 3, "walks": 3}
    assert [v.person for v in house.visits()] == ["Lea", "Lea", "Lea", None]  # the past follows
    assert [row.label for row in house.reader.unknowns()] == ["Unknown 2"]
    house.play(Walk(7))
    assert last(house).person == "Lea"
    assert house.reader.people()[0].consent == "agreed, 1 May"


def test_unknowns_are_joined_parted_ignored_and_survive_a_new_clustering(house):
    for person in (7, 7, 8):
        house.play(Walk(person, seconds=8))
    seven, eight = sorted(row.id for row in house.reader.unknowns())
    merge = house.do("unknowns.join", cluster=seven, other=eight)["merge"]
    assert [(row.id, row.visits, row.joined) for row in house.reader.unknowns()] == [
        (seven, 3, merge)
    ]
    house.do("unknowns.recluster")
    assert [row.visits for row in house.reader.unknowns()] == [3]  # what a user joined stays
    house.restart()
    assert house.do("unknowns.unjoin", merge=merge) == {"cluster": eight}
    assert {row.id: row.visits for row in house.reader.unknowns()} == {seven: 2, eight: 1}
    assert house.ask("unknowns.unjoin", merge=merge).code == "not-found"
    house.do("unknowns.ignore", cluster=eight, ignored=True)
    assert [row.id for row in house.reader.unknowns()] == [seven]
    house.do("unknowns.recluster")
    assert {row.id: row.label for row in house.reader.unknowns(ignored=True)} == {
        seven: "Unknown 1",
        eight: "Unknown 2",
    }
    assert house.ask("unknowns.ignore", cluster=99, ignored=True).code == "not-found"


def test_a_new_clustering_joins_what_chance_split_and_keeps_the_name(house):
    for _ in range(3):
        house.play(Walk(7, seconds=8))
    store = house.recogniser.data.store
    store.write("INSERT INTO clusters (id, label) VALUES (9, 'Unknown 9')")
    store.write("UPDATE visits SET cluster = 9 WHERE id = ?", last(house).id)
    house.restart()
    assert house.do("unknowns.recluster") == {"changed": 1}
    assert [(row.label, row.visits) for row in house.reader.unknowns()] == [("Unknown 1", 3)]


def test_memory_has_a_bound_and_a_new_clustering_finds_the_oldest(house, monkeypatch):
    monkeypatch.setattr(unknowns, "MAX_IN_MEMORY", 2)
    for person in (7, 8, 9, 7):
        house.play(Walk(person, seconds=8))
    members = house.recogniser.unknowns._members
    assert sum(map(len, members.values())) == 2
    assert all(members.values())
    assert [row.visits for row in house.reader.unknowns()] == [1, 1, 1, 1]
    house.do("unknowns.recluster")
    assert sorted(row.visits for row in house.reader.unknowns()) == [1, 1, 2]


def test_two_who_were_there_at_once_are_never_one_unknown(house):
    house.play(Walk(7, seconds=8), Walk(7, x=400, seconds=8))
    assert sorted(row.visits for row in house.reader.unknowns()) == [1, 1]


# people


def test_a_merge_and_its_undoing_take_the_visits_along(house):
    for name, person in (("Ada", 1), ("Eve", 2)):
        house.enrol(name, person)
        house.play(Walk(person))
    before = [visit.person for visit in house.visits()]
    merge = house.do("people.merge", person="Ada", other="Eve")["merge"]
    assert names(house) == ["Ada"]
    assert {visit.person for visit in house.visits()} - {None} == {"Ada"}
    assert house.reader.people()[0].merged == merge
    house.play(Walk(2))
    assert last(house).person == "Ada"
    told = [row.event["person"] for row in house.reader.events(limit=500)]
    assert "Eve" in told  # events say what was known then
    house.do("people.unmerge", merge=merge)
    assert names(house) == ["Ada", "Eve"]
    assert [visit.person for visit in house.visits()][:-1] == before
    house.play(Walk(2))
    assert last(house).person == "Eve"
    assert house.ask("people.unmerge", merge=merge).code == "not-found"


def test_a_new_name_reaches_everything(house):
    house.enrol("Ada", 1)
    house.play(Walk(1))
    house.enrol("Adam", 3)
    house.do("people.unmerge", merge=house.do("people.merge", person="Adam", other="Ada")["merge"])
    house.do("people.rename", person="ada", name="Adele")
    assert names(house) == ["Adam", "Adele"]
    assert {visit.person for visit in house.visits()} == {"Adele", "Adam"}
    people = {row.event["person"] for row in house.reader.events(limit=500)}
    assert people == {None, "Adele", "Adam"}
    assert b'"Ada"' not in house.bytes()
    log = [(row.subject, row.detail) for row in house.reader.audit()]
    assert ("Adam", "Adele is apart again") in log
    assert ("Adam", "Adele went into it") in log
    assert not any(text in ("Ada", "Ada went into it") for row in log for text in row)
    house.do("people.erase", person="Adele")
    log = [(row.subject, row.detail) for row in house.reader.audit()]
    assert ("Adam", "(erased) went into it") in log
    assert b"Adele" not in house.bytes()
    house.enrol("Adele", 1)
    house.enrol("Bo", 2)
    assert house.ask("people.rename", person="Bo", name="ADELE").code == "conflict"
    assert house.ask("people.rename", person="Zoe", name="Z").code == "not-found"


def test_people_who_walk_alike_are_warned_about(house):
    house.enrol("Ada", 1)
    house.do("enrol.start", person="Eve", note="x", camera="door", force=True)
    house.play(Walk(1, seconds=14, speed=30))
    house.do("enrol.stop", keep=True)
    data = house.recogniser.data
    pairs = data.gallery.look_alikes()
    assert pairs == []  # this model has no thresholds of its own
    from cstl_edge.gallery.look_alikes import look_alikes

    index = data.gallery._matcher._prepared(data.gallery._current(), data.gallery.camera_means)
    assert [pair[:2] for pair in look_alikes(index, 0.5)] == [("Ada", "Eve")]
    assert house.do("people.warnings") == []


def test_an_export_holds_visits_events_and_pictures(house):
    house.enrol("Ada", 1)
    house.play(Walk(1), until_s=house.now_s + 5)
    house.answer_snapshots()
    house.skip(70)
    result = house.do("people.export", person="Ada")
    path = Path(result["path"])
    assert path.parent == house.site.spool
    with zipfile.ZipFile(path) as pack:
        inside = pack.namelist()
        visits = json.loads(pack.read("visits.json"))
    assert {"person.json", "visits.json", "events.jsonl", "corrections.json"} <= set(inside)
    assert any(name.startswith("media/") and name.endswith(".jpg") for name in inside)
    assert {visit["person"] for visit in visits} == {"Ada"}


def test_whoever_changes_something_stands_in_the_audit_log(house):
    house.enrol("Ada", 1)
    house.do("people.rename", person="Ada", name="Adele", user="lea")
    house.do("audit.write", action="login", subject="lea", detail="from 127.0.0.1", user="lea")
    rows = [(row.user, row.action, row.subject) for row in house.reader.audit()]
    assert rows[0] == ("lea", "login", "lea")
    assert ("lea", "people.rename", "Adele") in rows
    assert rows[-1][:2] == ("admin", "enrol.start")


def test_commands_that_make_no_sense_are_answered(house):
    assert house.ask("make.coffee").code == "not-found"
    assert house.ask("people.rename").code == "usage"
    assert house.ask("unknowns.name", cluster="x", person="A", note="b").code == "usage"
    assert house.ask("identify", path="/etc/passwd").code == "not-found"
