"""Dates as people and registries write them: a year, a month, a day or a moment; all become half-open intervals.

A moment needs its time zone. A date without a time is a day in the time zone that the operator names (UTC if none): it
begins at its first midnight there, and as an end it includes the whole day, up to and without the next midnight. A
moment as an end is excluded itself: the stricter reading of a source that meant to include its last second.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta, tzinfo

FORM = re.compile(r"(\d{4})(?:-(\d\d)(?:-(\d\d))?)?")


def bounds(text: str, zone: tzinfo = UTC) -> tuple[datetime, datetime]:
    """Return the first moment of `text`, and the first after it (of a moment: itself), in UTC.

    Raises ValueError if it is no year, month, day or moment with a time zone, or beyond the calendar.
    """
    found = FORM.fullmatch(text)
    try:
        if found is None:
            return _moment(text), _moment(text)
        year, month, day = int(found[1]), int(found[2] or 1), int(found[3] or 1)
        if year < 1000:
            raise ValueError(f"{text!r} is before the year 1000")
        begin = datetime(year, month, day, tzinfo=zone)
        if found[3]:
            end = (datetime(year, month, day) + timedelta(days=1)).replace(tzinfo=zone)  # wall clock: days of 23 hours
        elif found[2]:
            end = datetime(year + month // 12, month % 12 + 1, 1, tzinfo=zone)
        else:
            end = datetime(year + 1, 1, 1, tzinfo=zone)
        return begin.astimezone(UTC), end.astimezone(UTC)
    except OverflowError as error:
        raise ValueError(f"{text!r} is beyond the calendar") from error


def latest(text: str, zone: tzinfo = UTC) -> datetime:
    """Return the last moment of `text`, of a moment itself: a no of that day is the last word of the day.

    Raises ValueError as `bounds` does.
    """
    first, after = bounds(text, zone)
    return max(first, after - timedelta(milliseconds=1))


def _moment(text: str) -> datetime:
    value = datetime.fromisoformat(text)
    if value.tzinfo is None:
        raise ValueError(f"{text!r} has a time and no time zone: when that was, nobody can say")
    if value.year < 1000:
        raise ValueError(f"{text!r} is before the year 1000")
    return value.astimezone(UTC)
