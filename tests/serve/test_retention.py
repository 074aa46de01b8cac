"""What is kept for how long, and erasures without a byte left."""

import sqlite3
from datetime import timedelta

import pytest
from recogniser_scene import House, Walk

from cstl_edge.gallery.gallery import Gallery
from cstl_edge.live.events import Event
from cstl_edge.serve.store_rows import VisitFilter

DAY_S = 24 * 3600


@pytest.fixture
def house(tmp_path):
    house = House(tmp_path, unknowns={"enabled": True, "days": 7})
    yield house
    house.close()


def visit_with_picture(house, person, **walk):
    """Let somebody walk by, answer the request for a picture; return the visit."""
    start_s = house.now_s
    fields = {"seconds": 7, **walk}
    house.play(Walk(person, **fields), until_s=start_s + fields["seconds"] + 0.5)
    house.answer_snapshots(b"\xff\xd8picture-of-%d" % person)
    house.skip(25)
    return house.visits()[-1]


def files(house):
    return sorted(path.name for path in house.site.data.joinpath("media").iterdir())


def test_erasing_a_person_leaves_not_one_byte(house):
    house.enrol("Adalovelace", 1, note="note-of-ada")
    house.answer_snapshots(b"\xff\xd8picture-of-1")
    house.enrol("Bo", 2)
    house.answer_snapshots(b"\xff\xd8picture-of-2")
    visit = visit_with_picture(house, 1)
    other = visit_with_picture(house, 2)
    assert (visit.person, other.person) == ("Adalovelace", "Bo")
    assert visit.snapshot
    assert other.runner_up == "Adalovelace"
    house.do("visits.correct", visit=other.id, person="Adalovelace", user="lea")
    house.do("visits.undo", visit=other.id, user="lea")
    house.do("people.merge", person="Adalovelace", other="Bo")
    house.do("people.unmerge", merge=house.reader._all("SELECT max(id) FROM merges")[0][0])
    before = house.bytes()
    for trace in (b"Adalovelace", b"note-of-ada", b"picture-of-1"):
        assert trace in before
    result = house.do("people.erase", person="adalovelace")
    assert result["visits"] >= 1
    assert result["pictures"] >= 1
    assert result["unfinished"] == []
    after = house.bytes()
    for trace in (b"Adalovelace", b"adalovelace", b"note-of-ada", b"picture-of-1"):
        assert trace not in after, trace
    assert visit.id.encode() not in after
    assert [person.name for person in house.reader.people()] == ["Bo"]
    assert house.reader.visit(other.id).person == "Bo"
    assert ("people.erase", "(erased)") in [
        (row.action, row.subject) for row in house.reader.audit()
    ]
    assert house.ask("people.erase", person="Adalovelace").code == "not-found"
    house.play(Walk(1))
    assert house.visits()[-1].answer == "unknown"


def test_a_person_who_is_in_view_is_erased_too(house):
    house.enrol("Adalovelace", 1)
    house.play(Walk(1, seconds=20), until_s=house.now_s + 4)
    assert house.reader.presence()[0].person == "Adalovelace"
    house.do("people.erase", person="Adalovelace")
    assert b"Adalovelace" not in house.bytes()
    house.skip(70)
    assert b"Adalovelace" not in house.bytes()
    assert house.reader.presence() == ()


def test_an_erasure_that_cannot_finish_says_so_and_is_finished_later(house):
    house.enrol("Adalovelace", 1)
    visit_with_picture(house, 1)
    reading = sqlite3.connect(house.site.data / "service.db", isolation_level=None)
    reading.execute("BEGIN")
    reading.execute("SELECT count(*) FROM events").fetchone()
    house.recogniser.data.store.database.execute("PRAGMA busy_timeout = 50")
    result = house.do("people.erase", person="Adalovelace")
    assert any("somebody reads the store" in sentence for sentence in result["unfinished"])
    assert b"Adalovelace" in house.bytes()
    reading.close()
    assert house.do("erasure.status") == {"unfinished": []}
    assert b"Adalovelace" not in house.bytes()


def test_an_erasure_that_was_killed_is_finished_at_the_next_start(house):
    house.enrol("Adalovelace", 1)
    visit_with_picture(house, 1)
    erasures = house.recogniser.erasures
    erasures.finish = lambda: []  # killed before the file is written anew
    house.do("people.erase", person="Adalovelace")
    assert erasures.unfinished != []
    house.recogniser.data.store.close()
    house.recogniser.data.gallery.close()
    house.open()
    assert house.recogniser.erasures.unfinished == []
    assert b"Adalovelace" not in house.bytes()


def test_pictures_without_a_row_do_not_survive_a_start(house):
    (house.site.data / "media" / "left-over.jpg").write_bytes(b"somebody")
    house.restart()
    assert files(house) == []


def test_an_unknown_is_erased_with_all_visits(house):
    for _ in range(2):
        visit_with_picture(house, 7)
    visit_with_picture(house, 8)
    seven = next(row.id for row in house.reader.unknowns() if row.visits == 2)
    result = house.do("unknowns.erase", cluster=seven)
    assert (result["visits"], result["pictures"]) == (2, 4)
    assert len(house.visits()) == 1
    assert b"picture-of-7" not in house.bytes()
    assert house.ask("unknowns.erase", cluster=seven).code == "not-found"


def test_who_is_erased_by_the_command_line_is_erased_here(house):
    house.enrol("Adalovelace", 1)
    house.enrol("Bo", 2)
    visit_with_picture(house, 1)
    with Gallery.open(house.site.gallery_path) as other:
        other.remove("adalovelace")
    house.do("gallery.reload")
    assert b"Adalovelace" not in house.bytes()
    assert [person.name for person in house.reader.people()] == ["Bo"]
    house.close()
    with Gallery.open(house.site.gallery_path) as other:
        other.remove("Bo")
    house.open()
    assert house.visits() == []


def test_another_gallery_erases_nobody(house):
    house.enrol("Ada", 1)
    house.close()
    house.site.gallery_path.rename(house.site.data / "elsewhere.db")
    house.open()
    assert "Ada" in {visit.person for visit in house.visits()}
    assert house.reader.people() == ()


def test_an_ended_retention_erases_everywhere(house):
    house.enrol("Adalovelace", 1)
    visit_with_picture(house, 1)
    data = house.recogniser.data
    ends = data.clock() + timedelta(days=1)
    data.gallery.set_retention("Adalovelace", ends.strftime("%Y-%m-%dT%H:%M:%SZ"))
    house.now_s += 2 * DAY_S
    house.do("retention.run", trust_clock=True)
    assert b"Adalovelace" not in house.bytes()
    assert house.reader.people() == ()


def test_three_months_pass(tmp_path):
    house = House(
        tmp_path,
        events_days=30,
        unknowns={"enabled": True, "days": 7},
        snapshots={"days": 10},
    )
    house.enrol("Ada", 1)
    for day in range(90):
        house.now_s = round(house.now_s + DAY_S)
        person = 1 if day % 3 == 0 else 2 + day // 20  # strangers who come for twenty days
        visit_with_picture(house, person, seconds=8)
        house.do("retention.run", trust_clock=True)
        oldest = house.clock() - timedelta(days=30)
        visits = house.visits()
        assert min(v.ended_utc for v in visits) >= oldest.isoformat(timespec="milliseconds")
        assert (day > 0) <= len(house.reader.unknowns()) <= 2
    assert 30 <= len(house.visits()) <= 32
    assert len(files(house)) <= 2 * 12  # a picture and a strip for each of ten days
    events = house.reader.events(limit=500)
    assert events[0].utc >= oldest.isoformat(timespec="milliseconds")
    known = {v.id for v in house.visits()}
    assert {row.event["visit"] for row in events} - {None} <= known
    assert house.reader.people()[0].name == "Ada"
    house.close()


def test_the_oldest_goes_where_the_disk_is_nearly_full(tmp_path):
    house = House(tmp_path, min_free_gb=1.0)
    visits = [visit_with_picture(house, person) for person in (1, 2, 3)]
    assert len(files(house)) == 6
    house.free = 5 * 10**8

    def freed(_):
        return 2 * 10**9 if len(files(house)) <= 0 else house.free

    house.recogniser.retention._free = freed
    removed = house.do("retention.run")
    assert (removed["pictures"], removed["for_room"], removed["visits"]) == (6, 6, 0)
    assert [v.id for v in house.visits()] == [v.id for v in visits]  # pictures go first
    house.recogniser.retention._free = lambda _: house.free
    removed = house.do("retention.run")
    assert removed["visits"] == 3
    assert house.visits() == []
    house.close()


def test_the_oldest_goes_where_too_much_is_kept(tmp_path):
    house = House(tmp_path)
    store, data = house.recogniser.data.store, house.recogniser.data
    for number in range(3000):
        event = Event(event="named", source="x" * 500, utc=data.clock(), visit=f"v{number}")
        if number % 10 == 0:
            moment = f"2026-11-30T08:{number // 60 % 60:02}:{number % 60:02}.000+00:00"
            store.write(
                "INSERT INTO visits (id, camera, started_utc, seen_utc, ended_utc, journey, answer,"
                " frames, tracks, has_walk) VALUES (?, 'door', ?, ?, ?, ?, 'none', 1, 1, 0)",
                f"v{number}", moment, moment, moment, f"v{number}",
            )  # fmt: skip
            store.add_event(event)
    used = store.used_bytes()
    keep = house.site.keep.model_copy(update={"max_gb": used / 2 / 1e9})
    house.recogniser.data.site = house.site.model_copy(update={"keep": keep})
    house.do("retention.run")
    assert store.used_bytes() <= used / 2
    left = house.reader.visits(VisitFilter(), limit=500).visits
    assert 0 < len(left) < 300
    assert left[0].id == "v2990"  # the newest stay
    house.close()
