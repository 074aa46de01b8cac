"""When somebody usually comes, in words: "Tuesdays at 8"."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import datetime

LEAST_DAYS = 3
SHARE = 0.6  # of the visits, that make a habit
DAYS = ("Mondays", "Tuesdays", "Wednesdays", "Thursdays", "Fridays", "Saturdays", "Sundays")


def usual_time(started_utc: Sequence[str]) -> str | None:
    """Return the usual day and hour of visits in local time, None where there is no habit.

    started_utc: ISO 8601 with zone
    """
    moments = [datetime.fromisoformat(text).astimezone() for text in started_utc]
    if len({moment.date() for moment in moments}) < LEAST_DAYS:
        return None  # one busy day is no habit
    hour = _usual([moment.hour for moment in moments])
    day = _usual([moment.weekday() for moment in moments])
    words = [] if day is None else [DAYS[day]]
    if hour is not None:
        words.append(f"at {hour}")
    return " ".join(words) or None


def _usual(values: list[int]) -> int | None:
    value, count = Counter(values).most_common(1)[0]
    return value if count >= SHARE * len(values) else None
