"""The queue on disk: bounded by number and age, kept over restarts, without a byte of an event."""

import sqlite3

import pytest

from cstl_edge.errors import StorageError
from cstl_edge.serve.outputs.outbox import OUTBOX_NAME, Outbox
from cstl_edge.serve.outputs.settings import EventFilter, QueueSettings
from cstl_edge.serve.store import STORE_NAME, Store

ALL = QueueSettings()


def everything(_row):
    return True


def take(outbox, house, passes=everything, limits=ALL):
    return outbox.take("out", house.around.reader, passes, limits)


@pytest.fixture
def outbox(house):
    """An outbox whose output has begun."""
    take(house.around.outbox, house)
    return house.around.outbox


def test_an_output_begins_with_the_next_event(house):
    house.event()
    assert take(house.around.outbox, house) == 0
    house.event()
    assert take(house.around.outbox, house) == 1


def test_messages_wait_over_a_restart_and_keep_their_ids(house, outbox, tmp_path):
    numbers = [house.event() for _ in range(3)]
    take(outbox, house)
    uids = [x.uid for x in outbox.due("out", 9)]
    outbox.close()
    again = Outbox(tmp_path)
    assert [(x.event, x.uid) for x in again.due("out", 9)] == list(zip(numbers, uids, strict=True))
    assert take(again, house) == 0
    again.acknowledged("out", [again.due("out", 1)[0].id])
    assert [x.uid for x in again.due("out", 9)] == uids[1:]
    assert again.counters("out") == {"sent": 1}
    again.close()


def test_the_oldest_are_dropped_and_counted_by_number(house, outbox):
    numbers = [house.event() for _ in range(7)]
    take(outbox, house, limits=QueueSettings(max_messages=3))
    assert [x.event for x in outbox.due("out", 9)] == numbers[-3:]
    assert outbox.counters("out") == {"dropped_full": 4}


def test_the_oldest_are_dropped_and_counted_by_age(house, tmp_path):
    now = [1000.0]
    (tmp_path / "other").mkdir()
    outbox = Outbox(tmp_path / "other", clock=lambda: now[0])
    take(outbox, house)
    house.event()
    take(outbox, house)
    now[0] += 1.5 * 3600
    house.event()
    take(outbox, house, limits=QueueSettings(max_age_hours=1))
    assert [x.added_s for x in outbox.due("out", 9)] == [now[0]]
    assert outbox.counters("out") == {"dropped_old": 1}
    outbox.close()


def test_filters_decide_what_is_queued(house, outbox):
    chosen = EventFilter(events=("named", "source"), answers=("unknown",), cameras=("door",))
    house.event()
    stranger = house.event(person=None, answer="unknown")
    house.event(person=None, answer="unknown", camera="yard")
    house.event("closed", person=None, answer="unknown")
    state = house.event("source", person=None, answer=None)
    take(outbox, house, lambda row: chosen.passes(row.event))
    assert [x.event for x in outbox.due("out", 9)] == [stranger, state]


def test_the_file_holds_no_byte_of_an_event_and_none_of_a_forgotten_topic(house, outbox, tmp_path):
    house.event(person="Zebedee Quux")
    take(outbox, house)
    outbox.remember("broker", ["home/person/zebedee_quux/presence"])
    assert outbox.remembered("broker") == {"home/person/zebedee_quux/presence"}
    outbox.forget("broker", ["home/person/zebedee_quux/presence"])
    content = b"".join(path.read_bytes() for path in tmp_path.glob(f"{OUTBOX_NAME}*"))
    assert b"uux" not in content
    assert (tmp_path / OUTBOX_NAME).stat().st_mode & 0o077 == 0


def test_a_new_store_is_sent_from_its_beginning(house, outbox, tmp_path):
    house.event()
    take(outbox, house)
    house.store.close()
    for path in tmp_path.glob(f"{STORE_NAME}*"):
        path.unlink()
    house.store = Store(tmp_path)
    number = house.event()
    assert take(outbox, house) == 1
    assert [x.event for x in outbox.due("out", 9)] == [number]
    assert outbox.counters("out") == {"dropped_erased": 1}


def test_a_failed_try_is_due_later_and_a_receiver_that_is_back_hastens_it(house, outbox):
    house.event()
    take(outbox, house)
    message = outbox.due("out", 1)[0]
    outbox.postpone(message.id, message.added_s + 1e6)
    assert outbox.due("out", 9) == ()
    assert outbox.next_due_s("out") == message.added_s + 1e6
    outbox.hasten("out")
    assert [(x.id, x.tries, x.uid) for x in outbox.due("out", 9)] == [(message.id, 1, message.uid)]


def test_a_damaged_file_is_put_aside_and_one_of_another_program_is_refused(tmp_path):
    path = tmp_path / OUTBOX_NAME
    path.write_bytes(b"no database at all" * 1000)
    outbox = Outbox(tmp_path)
    assert outbox.was_damaged
    assert outbox.queued("out") == 0
    assert (tmp_path / f"{OUTBOX_NAME}.damaged").exists()
    outbox.close()
    path.unlink()
    with sqlite3.connect(path) as other:
        other.execute("CREATE TABLE theirs (x)")
    other.close()
    with pytest.raises(StorageError, match="another program"):
        Outbox(tmp_path)


def test_what_is_off_is_remembered(outbox, tmp_path):
    outbox.switch_off("hook", "410")
    assert outbox.off_reason("hook") == "410"
    outbox.switch_off("hook", None)
    assert outbox.off_reason("hook") is None
