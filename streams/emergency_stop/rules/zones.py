"""Time zones: found by their name, and how far their clocks are from UTC over a range of instants."""

from __future__ import annotations

import difflib
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Final
from zoneinfo import ZoneInfo, available_timezones

EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
DAY_MS: Final = 86_400_000
#: Clocks are asked from 1970 to 9998: what lies outside is no moment of anybody's calendar.
INSTANT_MS_MAX: Final = int((datetime(9999, 1, 1, tzinfo=UTC) - EPOCH) / timedelta(milliseconds=1))


class CalendarError(ValueError):
    """A text is no calendar. ``str()`` names the text; ``problem`` is the same without it."""

    def __init__(self, what: str, text: str, problem: str) -> None:
        super().__init__(f"{what}={text!r}: {problem}")
        self.problem = problem


def read_zone(name: str) -> ZoneInfo:
    """The IANA time zone ``name``. Raises ``CalendarError`` with the nearest name."""
    known = _zone_names()
    if name in known:
        return ZoneInfo(name)
    by_lower = {zone.lower(): zone for zone in known}
    near = difflib.get_close_matches(name.strip().replace(" ", "_").lower(), by_lower, n=1, cutoff=0.6)
    hint = f" (did you mean {by_lower[near[0]]!r}?)" if near else ""
    raise CalendarError("time zone", name, f"is unknown{hint}; allowed: IANA names such as UTC or Europe/Berlin")


@cache
def _zone_names() -> frozenset[str]:
    return frozenset(available_timezones())


def local_time(zone: ZoneInfo, at_ms: int) -> datetime:
    """What clocks in ``zone`` show at an instant from 1970 to 9998."""
    return (EPOCH + timedelta(milliseconds=at_ms)).astimezone(zone)


def offset_spans(zone: ZoneInfo, first_ms: int, last_ms: int) -> list[tuple[int, int, int]]:
    """(from, until, offset), all in ms: [first_ms, last_ms] cut where the zone's offset from UTC changes.

    Exact while a zone does not change its offset and change it back within a day, which none ever did.
    """
    spans: list[tuple[int, int, int]] = []
    start, at, offset = first_ms, first_ms, _offset_ms(zone, first_ms)
    while at < last_ms:
        ahead = min(at + DAY_MS, last_ms)
        if _offset_ms(zone, ahead) != offset:
            ahead = _change(zone, at, ahead)
            spans.append((start, ahead, offset))
            start, offset = ahead, _offset_ms(zone, ahead)
        at = ahead
    return [*spans, (start, last_ms, offset)]


def _change(zone: ZoneInfo, low_ms: int, high_ms: int) -> int:
    """The first instant after ``low_ms`` that has another offset, where ``high_ms`` has."""
    former = _offset_ms(zone, low_ms)
    while high_ms - low_ms > 1:
        middle = (low_ms + high_ms) // 2
        if _offset_ms(zone, middle) == former:
            low_ms = middle
        else:
            high_ms = middle
    return high_ms


def _offset_ms(zone: ZoneInfo, at_ms: int) -> int:
    return (local_time(zone, at_ms).utcoffset() or timedelta()) // timedelta(milliseconds=1)
