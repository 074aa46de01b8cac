import os
import sqlite3
import stat
from dataclasses import replace
from datetime import datetime, timedelta, timezone

import pytest

from cstl_edge.errors import StorageError
from cstl_edge.live.events import Event, utc_text
from cstl_edge.serve.reader import Reader
from cstl_edge.serve.store import Store
from cstl_edge.serve.store_rows import PersonRow, VisitFilter, VisitRow

START = datetime(2026, 11, 30, 8, tzinfo=timezone.utc)


@pytest.fixture
def store(tmp_path):
    store = Store(tmp_path / "data")
    yield store
    store.close()


@pytest.fixture
def reader(store):
    return Reader(store.folder)


def moment(minutes):
    return utc_text(START + timedelta(minutes=minutes))


def visit(number, **fields):
    values = {
        "id": f"v{number}",
        "camera": "door",
        "started_utc": moment(number),
        "seen_utc": moment(number + 1),
        "ended_utc": moment(number + 1),
        "journey": f"j{number}",
    }
    return VisitRow(**{**values, **fields})


def event(name="named", **fields):
    return Event(event=name, source="rtsp://door", **fields)


def test_the_files_are_its_owners_alone(store):
    store.add_event(event())
    for path in store.folder.iterdir():
        assert not stat.S_IMODE(path.stat().st_mode) & 0o077, path
    assert store.one("PRAGMA secure_delete") == (1,)


def test_events_come_in_the_order_they_were_written_from_where_one_is(store, reader):
    numbers = [store.add_event(event(track=n, camera="door", answer="none")) for n in range(5)]
    first = reader.events(limit=2)
    assert [row.event["track"] for row in first] == [0, 1]
    rest = reader.events(after_id=first[-1].id)
    assert [row.id for row in rest] == numbers[2:]
    assert [row.event["track"] for row in reader.newest_events(limit=1)] == [4]
    assert reader.last_event_id == numbers[-1]


def test_the_number_of_an_event_is_never_given_twice(store):
    last = store.add_event(event())
    store.write("DELETE FROM events")
    assert store.add_event(event()) == last + 1


def test_events_are_filtered_by_camera_answer_and_cluster(store, reader):
    store.put_visit(visit(1, cluster=7))
    store.add_event(event(camera="door", answer="unknown", visit="v1"))
    store.add_event(event(camera="yard", answer="known", person="Ada"))
    assert len(reader.events(filters=VisitFilter(cameras=("door",)))) == 1
    assert len(reader.events(filters=VisitFilter(cameras=()))) == 0
    assert len(reader.events(filters=VisitFilter(answer="known"))) == 1
    assert len(reader.events(filters=VisitFilter(person="Ada"))) == 1
    assert len(reader.events(filters=VisitFilter(cluster=7))) == 1


def test_visits_come_by_page_the_newest_first_each_once(store, reader):
    for number in range(7):
        store.put_visit(visit(number))
    seen, page = [], None
    while True:
        found = reader.visits(page=page, limit=3)
        seen += [row.id for row in found.visits]
        page = found.next
        if page is None:
            break
    assert seen == ["v6", "v5", "v4", "v3", "v2", "v1", "v0"]


def test_a_visit_is_replaced_and_keeps_what_hangs_on_it(store, reader):
    store.put_visit(visit(1, ended_utc=None))
    store.write("INSERT INTO corrections VALUES (NULL, 'now', 'v1', 'Ada', NULL, 'admin', NULL)")
    changed = visit(1, answer="known", person="Ada", distance=0.25, has_walk=True)
    store.put_visit(changed)
    assert reader.visit("v1") == changed
    assert [row.person for row in reader.corrections("v1")] == ["Ada"]
    assert reader.visit("v2") is None


def test_who_is_here_now_is_not_who_was_seen_last(store, reader):
    store.put_visit(visit(1, person="Ada", answer="known", journey="a"))
    store.put_visit(visit(3, camera="yard", answer="none", ended_utc=None, journey="a"))
    store.put_visit(visit(2, person="Bo", answer="known"))
    store.add_event(event(visit="v1"))
    (here,) = reader.presence()
    assert (here.visit, here.person, here.since_utc) == ("v3", None, moment(1))
    last = reader.last_seen()
    assert [(row.person, row.visit) for row in last] == [("Bo", "v2"), ("Ada", "v1")]
    assert last[1].event == 1
    assert [row.id for row in reader.journey("a")] == ["v1", "v3"]


def test_unknowns_say_when_they_usually_come(store, reader):
    store.write("INSERT INTO clusters (label) VALUES ('Unknown 1')")
    store.write("INSERT INTO clusters (label, ignored) VALUES ('postman', 1)")
    for week in range(3):
        moment_utc = datetime(2026, 11, 3 + 7 * week, 12).astimezone(timezone.utc)
        started = utc_text(moment_utc)
        store.put_visit(replace(visit(week), started_utc=started, seen_utc=started, cluster=1))
    store.put_visit(visit(9, cluster=2, camera="a, b"))
    (unknown,) = reader.unknowns()
    assert (unknown.label, unknown.visits, unknown.usual) == ("Unknown 1", 3, "Tuesdays at 12")
    assert {row.cameras for row in reader.unknowns(ignored=True)} == {("door",), ("a, b",)}
    for minute in range(5):  # a busy day of somebody else is no habit
        store.put_visit(visit(20 + minute, cluster=2))
    assert {row.id: row.usual for row in reader.unknowns(ignored=True)}[2] is None


def test_people_are_read_as_they_were_written(store, reader):
    ada = PersonRow(name="ada", created_utc="now", views=(("left", 2),), advice=("more",))
    store.set_people([PersonRow(name="Bo", created_utc="now"), ada])
    assert [row.name for row in reader.people()] == ["ada", "Bo"]
    assert reader.people()[0] == ada


def fail_behind_a_change(store):
    with store.transaction() as database:
        store.put_visit(visit(1))
        store.add_event(event())
        database.execute("INSERT INTO head (id, installation) VALUES (1, '')")


def test_a_change_that_fails_leaves_nothing(store, reader):
    with pytest.raises(StorageError, match="UNIQUE"):
        fail_behind_a_change(store)
    assert reader.visit("v1") is None
    assert reader.last_event_id == 0


def test_a_reader_keeps_nobody_from_emptying_the_log(store, reader):
    store.put_visit(visit(1))
    reader.visits()
    assert store.one("PRAGMA wal_checkpoint(TRUNCATE)")[0] == 0


def test_a_reader_waits_for_a_store_that_is_not_there(tmp_path):
    with pytest.raises(StorageError, match="yet; it is made when"):
        Reader(tmp_path).visits()


def test_other_files_are_refused(tmp_path):
    with sqlite3.connect(tmp_path / "service.db") as database:
        database.execute("CREATE TABLE mine (id)")
    with pytest.raises(StorageError, match="another program"):
        Store(tmp_path)
    with pytest.raises(StorageError, match="another program"):
        Reader(tmp_path).visits()


def test_a_store_of_another_version_is_refused(store, reader):
    store.database.execute("PRAGMA user_version = 9")
    with pytest.raises(StorageError, match="has schema 9"):
        reader.people()
    with pytest.raises(StorageError, match="has schema 9"):
        Store(store.folder)


def test_a_damaged_file_is_one_clear_line(tmp_path):
    (tmp_path / "service.db").write_bytes(os.urandom(9000))
    with pytest.raises(StorageError, match="move the file away") as caught:
        Store(tmp_path)
    assert "\n" not in str(caught.value)
