"""Records of enrolled people, and the rules for their names, consent notes and retention.

A name is stored in NFC and compared by its key (NFKC, case folded), so that "Zoe" and "zoe" are one
person; a consent note is mandatory; retention counts in days from the enrolment. Times are UTC,
written as ISO 8601 to the second, so that comparing the texts compares the times.
"""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone

from cstl_edge.errors import ConfigError, one_line
from cstl_edge.gallery.records import WalkOrigin

MAX_NAME = 100  # characters
MAX_CONSENT = 1000  # characters
RESERVED = "unknown"  # the name that events give to nobody

_JOINERS = "\u200c\u200d"  # needed by Persian, Indic scripts and emoji; ignored when comparing
_REFUSED = ("Cc", "Cf", "Cs", "Zl", "Zp")  # controls, bidi overrides, lone surrogates, line ends


@dataclass(frozen=True)
class Enrolment:
    """One visit: the consent given, when, and how many templates were stored."""

    created_utc: str
    consent: str
    templates: int
    origin: WalkOrigin  # camera, view, frame rate, seconds of the walk


@dataclass(frozen=True)
class EnrolledPerson:
    """All that the gallery holds about one person except the templates."""

    name: str
    consent: str  # the newest note; `enrolments` holds them all
    created_utc: str
    expires_utc: str | None
    expired: bool  # an expired person never matches and waits for `purge`
    templates: int
    weights_sha256: str
    enrolments: tuple[Enrolment, ...]


def utc_now() -> datetime:
    """Return the wall clock, aware and in UTC."""
    return datetime.now(timezone.utc)


def utc_timestamp(moment: datetime) -> str:
    """Return a moment as ISO 8601 text that sorts like time."""
    return moment.astimezone(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


def clean_name(name: str) -> str:
    """Return `name` stripped and in NFC; raises ConfigError when it is not a valid name."""
    cleaned = _clean(name, "name", MAX_NAME)
    if name_key(cleaned) == RESERVED:
        raise ConfigError(f"the name {RESERVED!r} means that nobody was recognised; choose another")
    return cleaned


def clean_consent(note: str) -> str:
    """Return the consent note stripped and in NFC; raises ConfigError when it is empty."""
    return _clean(note, "consent note", MAX_CONSENT)


def name_key(name: str) -> str:
    """Return the key by which names are compared: equal keys are one person."""
    bare = "".join(c for c in unicodedata.normalize("NFKC", name) if c not in _JOINERS)
    return " ".join(unicodedata.normalize("NFKC", bare.casefold()).split())


def expiry(retention_days: float | None, now: datetime) -> str | None:
    """Return when a retention that starts `now` ends, None for no end; raises ConfigError."""
    if retention_days is None:
        return None
    try:
        if retention_days > 0:
            return utc_timestamp(now + timedelta(days=retention_days))
    except (OverflowError, ValueError):  # beyond the year 9999, or not a number
        pass
    raise ConfigError(
        f"retention of {one_line(retention_days)} days: expected a number above 0 that ends before"
        " the year 10000; leave it out to keep until removed"
    )


def earlier(one: str | None, other: str | None) -> str | None:
    """Return the earlier of two moments, None meaning never."""
    return min((moment for moment in (one, other) if moment), default=None)


def _clean(text: str, field: str, limit: int) -> str:
    cleaned = unicodedata.normalize("NFC", text).strip()
    if not name_key(cleaned):
        raise ConfigError(f"the {field} is empty: give one that can be read")
    if len(cleaned) > limit:
        raise ConfigError(f"the {field} has {len(cleaned)} characters; at most {limit} are kept")
    for position, letter in enumerate(cleaned, 1):
        if unicodedata.category(letter) in _REFUSED and letter not in _JOINERS:
            raise ConfigError(
                f"the {field} '{one_line(cleaned, 60)}' has a control character"
                f" (U+{ord(letter):04X}) at position {position}: leave it out"
            )
    return cleaned
