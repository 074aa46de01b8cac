"""Erase people whose retention has ended, and nobody because a clock is wrong.

An ended retention is erased at the next look, at opening and hourly in long runs, as long as the
clock goes on from look to look. A clock that is found more than JUMP ahead of the last look, or
behind it, is in doubt for SECOND_LOOK: meanwhile people are erased only when two looks SECOND_LOOK
apart have both found them expired. An expired person never matches, erased or not.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from cstl_edge.gallery.erasure import erase
from cstl_edge.gallery.people import earlier, utc_timestamp
from cstl_edge.gallery.records import GalleryHead, to_bytes
from cstl_edge.gallery.sealed_rows import SealedRows
from cstl_edge.gallery.sealing import place
from cstl_edge.gallery.stored_people import StoredPerson, read_people

SECOND_LOOK = timedelta(hours=24)  # between two looks that must both find a person expired
JUMP = timedelta(hours=25)  # between two looks: more leaves the clock in doubt
BEHIND = timedelta(hours=1)  # by which a clock may be set back without doubt
LOOK_EVERY = timedelta(hours=1)


def is_due(head: GalleryHead, now: datetime) -> bool:
    """Return whether it is time to look for ended retentions."""
    if head.next_expiry is not None and head.next_expiry <= utc_timestamp(now):
        return True
    return head.clock_utc is None or not (
        utc_timestamp(now - LOOK_EVERY) < head.clock_utc <= utc_timestamp(now)
    )


def purge(rows: SealedRows, now: datetime, *, trust_clock: bool = False) -> tuple[str, ...]:
    """Erase people whose retention has ended, and return their names.

    Args:
        rows: Open file; `erasure.finish` is to follow.
        now: What the clock shows.
        trust_clock: Whether the clock is known to be right, so that one look is enough.
    """
    gone = []
    with rows.change(of_people=False) as head:
        doubted = _doubted(head, now) and not trust_clock
        head.next_expiry = None
        for person in read_people(rows, head):
            if _is_over(rows, person, now, doubted=doubted):
                gone.append(person)
            else:
                head.next_expiry = earlier(head.next_expiry, person.record.expires_utc)
    erase(rows, [person.id for person in gone], utc_timestamp(now))
    return tuple(sorted(person.record.name for person in gone))


def _doubted(head: GalleryHead, now: datetime) -> bool:
    """Note what the clock shows; return whether it is in doubt."""
    last, moment = head.clock_utc, utc_timestamp(now)
    if last is None:
        odd = head.people > 0  # a file of an earlier version
    else:
        odd = not utc_timestamp(now - JUMP) <= last <= utc_timestamp(now + BEHIND)
    head.clock_utc = moment
    if odd:
        head.doubt_until = utc_timestamp(now + SECOND_LOOK)
    elif head.doubt_until is not None and head.doubt_until <= moment:
        head.doubt_until = None
    return head.doubt_until is not None


def _is_over(rows: SealedRows, person: StoredPerson, now: datetime, *, doubted: bool) -> bool:
    """Return whether to erase a person; note the first look, and take a wrong one back."""
    record, moment = person.record, utc_timestamp(now)
    expired = record.expires_utc is not None and record.expires_utc <= moment
    if expired and not doubted:
        return True
    seen = record.seen_expired_utc
    if not expired or (seen is not None and seen > moment):
        seen = None
    if expired and seen is not None and seen <= utc_timestamp(now - SECOND_LOOK):
        return True
    if expired and seen is None:
        seen = moment
    if seen != record.seen_expired_utc:
        record.seen_expired_utc = seen
        rows.update("people", person.id, to_bytes(record), place("people", person.id))
    return False
