"""Schedules of cameras: spans of the week such as `mon-fri 07:00-19:00`, in the machine's time."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
SPAN = re.compile(r"(?:([a-z, -]+?)\s+)?(\d{1,2}):(\d{2})\s*-\s*(\d{1,2}):(\d{2})")
DAY_MINUTES = 24 * 60


@dataclass(frozen=True)
class Span:
    """Some hours on some days of the week; past midnight where it ends before it begins."""

    days: frozenset[int]  # 0 is Monday
    start_min: int  # minutes since midnight
    end_min: int

    def holds(self, when: datetime) -> bool:
        """Tell whether a local time lies in the span."""
        minute, day = when.hour * 60 + when.minute, when.weekday()
        if self.start_min < self.end_min:
            return day in self.days and self.start_min <= minute < self.end_min
        before = (day - 1) % 7  # the span began yesterday
        return (day in self.days and minute >= self.start_min) or (
            before in self.days and minute < self.end_min
        )


def parse_span(text: str) -> Span:
    """Return the span that a line means (ValueError).

    >>> sorted(parse_span("sat-mon 22:00-06:00").days)
    [0, 5, 6]
    """
    match = SPAN.fullmatch(text.strip().lower())
    if match is None:
        raise ValueError("expected days and hours such as `mon-fri 07:00-19:00`")
    days, *numbers = match.groups()
    start_hour, start_minute, end_hour, end_minute = map(int, numbers)
    start, end = start_hour * 60 + start_minute, end_hour * 60 + end_minute
    minutes_fit = start_minute < 60 and end_minute < 60
    if not (minutes_fit and start < DAY_MINUTES and end <= DAY_MINUTES and start != end):
        raise ValueError("expected two different times from 00:00 to 24:00")
    return Span(frozenset(range(7)) if days is None else _days(days), start, end)


def is_on(spans: Sequence[str], when: datetime) -> bool:
    """Tell whether a schedule holds at a local time; one without spans always does."""
    return not spans or any(parse_span(span).holds(when) for span in spans)


def _days(text: str) -> frozenset[int]:
    chosen: set[int] = set()
    for part in text.replace(" ", "").strip(",").split(","):
        first, dash, last = part.partition("-")
        if first not in DAYS or (dash and last not in DAYS):
            raise ValueError(f"unknown day in {text!r}; expected {', '.join(DAYS)}")
        begin = DAYS.index(first)
        count = (DAYS.index(last) - begin) % 7 + 1 if dash else 1
        chosen.update((begin + step) % 7 for step in range(count))
    return frozenset(chosen)
