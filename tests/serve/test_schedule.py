"""Schedules of cameras."""

from datetime import datetime

import pytest

from cstl_edge.serve.schedule import is_on, parse_span

MONDAY = datetime(2026, 11, 30)


@pytest.mark.parametrize(
    ("span", "day", "clock", "on"),
    [
        ("mon-fri 07:00-19:00", 0, "07:00", True),
        ("mon-fri 07:00-19:00", 0, "19:00", False),
        ("mon-fri 07:00-19:00", 5, "12:00", False),
        ("22:00-06:00", 3, "23:30", True),
        ("22:00-06:00", 3, "05:59", True),
        ("22:00-06:00", 3, "12:00", False),
        ("fri 22:00-06:00", 5, "03:00", True),  # Friday's night goes on into Saturday
        ("fri 22:00-06:00", 4, "03:00", False),
        ("sat,sun 00:00-24:00", 6, "23:59", True),
        ("sat-mon 10:00-11:00", 0, "10:30", True),
    ],
)
def test_a_span_holds(span, day, clock, on):
    hour, minute = map(int, clock.split(":"))
    when = MONDAY.replace(day=30) if day == 0 else datetime(2026, 12, day, hour, minute)
    when = when.replace(hour=hour, minute=minute)
    assert is_on([span], when) is on


def test_no_schedule_is_always_on_and_several_add_up():
    assert is_on([], MONDAY)
    assert is_on(["08:00-09:00", "mon 00:00-01:00"], MONDAY)


@pytest.mark.parametrize(
    "text", ["", "7-9", "mon 25:00-26:00", "mon 08:00-08:00", "mo 08:00-09:00"]
)
def test_nonsense_is_refused(text):
    with pytest.raises(ValueError, match=r"expected|unknown day"):
        parse_span(text)
