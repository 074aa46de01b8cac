"""Ended retentions: erased at opening and in long runs, never because a clock is wrong."""

import logging
from datetime import datetime, timedelta, timezone

import pytest

from cstl_edge.gallery import retention
from cstl_edge.gallery.gallery import Gallery

START = datetime(2026, 11, 22, tzinfo=timezone.utc)


class Clock:
    """A wall clock that is set by hand."""

    now = START

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def two_people(path, model, walker, clock):
    """Alice's retention ends after a day, Bob's never."""
    with Gallery.open(path, model, clock=clock) as gallery:
        gallery.enroll("alice", walker(), consent="note-of-alice", retention_days=1)
        gallery.enroll("bob", walker(), consent="note-of-bob")
    return path


def names(path, clock, hours):
    """Open the gallery so many hours after the start; return who is there."""
    clock.now = START + timedelta(hours=hours)
    with Gallery.open(path, clock=clock) as gallery:
        return [person.name for person in gallery.people()]


def bytes_of(path):
    return b"".join(file.read_bytes() for file in path.parent.iterdir())


def test_opening_erases_whose_retention_has_ended(two_people, clock):
    assert names(two_people, clock, 23) == ["alice", "bob"]
    assert b"note-of-alice" in bytes_of(two_people)
    assert names(two_people, clock, 24) == ["bob"]
    assert b"note-of-alice" not in bytes_of(two_people)


def test_a_retention_of_a_second_is_erased_a_second_later(path, model, walker):
    with Gallery.open(path, model) as gallery:
        gallery.enroll("alice", walker(), consent="note-of-alice", retention_days=1e-9)
    with Gallery.open(path) as gallery:
        assert gallery.people() == ()
        assert gallery.take_purged() == ("alice",)
    assert b"note-of-alice" not in bytes_of(path)


def test_a_clock_that_jumped_ahead_erases_after_a_second_look(two_people, clock):
    assert names(two_people, clock, 2400) == ["alice", "bob"]
    assert names(two_people, clock, 2423) == ["alice", "bob"]
    assert names(two_people, clock, 2424) == ["bob"]


def test_a_clock_set_right_after_a_jump_has_erased_nobody(two_people, clock):
    assert names(two_people, clock, 2400) == ["alice", "bob"]
    assert names(two_people, clock, 2) == ["alice", "bob"]
    assert names(two_people, clock, 20) == ["alice", "bob"]
    assert names(two_people, clock, 27) == ["bob"]  # beyond the doubt, and expired


def test_a_clock_known_to_be_right_erases_at_once(two_people, clock):
    clock.now = START + timedelta(days=100)
    with Gallery.open(two_people, clock=clock) as gallery:
        assert gallery.purge() == ()
        assert gallery.purge(trust_clock=True) == ("alice",)


def test_a_long_run_looks_every_hour(two_people, clock, monkeypatch):
    with Gallery.open(two_people, clock=clock) as gallery:
        clock.now = START + timedelta(hours=24)
        assert gallery.take_purged() == ()  # within the hour
        later = retention.LOOK_EVERY.total_seconds() + gallery._next_look_s
        monkeypatch.setattr("cstl_edge.gallery.administration.time.monotonic", lambda: later)
        assert gallery.take_purged() == ("alice",)
        assert gallery.take_purged() == ()


def test_a_damaged_record_does_not_keep_the_gallery_from_opening(two_people, clock, caplog):
    content = bytearray(two_people.read_bytes())
    content[content.index(b"note-of-bob") + 3] ^= 1
    two_people.write_bytes(content)
    clock.now = START + timedelta(hours=24)
    with caplog.at_level(logging.WARNING), Gallery.open(two_people, clock=clock) as gallery:
        assert "an enrolment of 'bob' is damaged" in caplog.text
        gallery.remove("bob")
        assert gallery.purge() == ("alice",)
