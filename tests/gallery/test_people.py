"""Records of people: names, consent notes, retention, timestamps."""

from datetime import datetime, timezone

import pytest

from cstl_edge.errors import ConfigError
from cstl_edge.gallery.people import (
    MAX_NAME,
    clean_consent,
    clean_name,
    expiry,
    name_key,
    utc_now,
    utc_timestamp,
)

NOW = datetime(2026, 11, 22, 12, 0, 0, tzinfo=timezone.utc)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("alice", "alice"),
        ("  Zoe\u0301 ", "Zo\u00e9"),  # NFC
        ("<b>Bob</b>", "<b>Bob</b>"),  # data, not markup
        ("\U0001f469\u200d\U0001f52c", "\U0001f469\u200d\U0001f52c"),  # emoji with a joiner
        ("\u0645\u06cc\u200c\u062e\u0648", "\u0645\u06cc\u200c\u062e\u0648"),  # Persian
        ("x" * MAX_NAME, "x" * MAX_NAME),
    ],
)
def test_valid_names_are_normalised(name, expected):
    assert clean_name(name) == expected


@pytest.mark.parametrize(
    "name", ["", "  ", "\u200d", "a\nb", "a\x00b", "a\x1b[31mb", "\u202egnp", "a\u2028b", "\ud800"]
)
def test_names_with_control_characters_or_nothing_are_refused(name):
    with pytest.raises(ConfigError) as caught:
        clean_name(name)
    assert str(caught.value).isprintable()


def test_long_and_reserved_names_are_refused():
    with pytest.raises(ConfigError, match="10000 characters; at most 100"):
        clean_name("x" * 10_000)
    with pytest.raises(ConfigError, match="nobody was recognised"):
        clean_name("Unknown")


def test_spellings_of_one_name_have_one_key():
    assert name_key("ALICE") == name_key("alice") == name_key("\uff21lice")  # full-width A
    assert name_key("Stra\u00dfe") == name_key("STRASSE")
    assert name_key("a  b") == name_key("a\u00a0b")
    assert name_key("a\u200db") == name_key("ab")
    assert name_key("ann") != name_key("anne")


def test_an_empty_consent_note_is_refused():
    assert clean_consent(" signed 2026-11-01 ") == "signed 2026-11-01"
    for nothing in ("", " \t ", "x" * 1001, "a\x07b"):
        with pytest.raises(ConfigError, match="consent note"):
            clean_consent(nothing)


def test_retention_days_give_the_expiry():
    assert expiry(None, NOW) is None
    assert expiry(1.5, NOW) == "2026-11-24T00:00:00Z"
    for days in (0, -1, float("nan"), float("inf"), 1e7, 1e300):
        with pytest.raises(ConfigError, match="retention"):
            expiry(days, NOW)


def test_timestamps_sort_like_time():
    assert utc_timestamp(NOW) == "2026-11-22T12:00:00Z"
    assert utc_timestamp(NOW) < utc_timestamp(utc_now().replace(year=2999))
