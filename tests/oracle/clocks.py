"""Calendars the naive way: ask the clock at every instant. Imports nothing of the rules."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

#: (weekdays, "HH:MM", "HH:MM"); Monday is 0.
Span = tuple[frozenset[int], str, str]
MINUTE_MS = 60_000


def clock(at_ms: int, zone: ZoneInfo) -> datetime:
    """What the clock on the wall shows."""
    return (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=at_ms)).astimezone(zone)


def is_quiet(at_ms: int, spans: Iterable[Span], zone: ZoneInfo) -> bool:
    """Whether the clock shows a time within a span; what lasts over midnight belongs to the day it began on."""
    shown = clock(at_ms, zone)
    time, today, yesterday = shown.strftime("%H:%M"), shown.weekday(), (shown.weekday() - 1) % 7
    for weekdays, start, end in spans:
        if start < end and today in weekdays and start <= time < end:
            return True
        if start > end and ((today in weekdays and time >= start) or (yesterday in weekdays and time < end)):
            return True
    return False


def cron_times(fields: list[set[int]], wild: bool, after_ms: int, until_ms: int, zone: ZoneInfo) -> list[int]:
    """Minutes in (after_ms, until_ms] at which a cron job runs.

    ``fields`` are the minutes, hours, days, months and weekdays (Sunday is 0) that match, all of them.
    ``wild``: minute or hour is a star, so the job follows the clock; else every time of the clock runs once.
    """

    def matches(shown: datetime) -> bool:
        values = (shown.minute, shown.hour, shown.day, shown.month, shown.isoweekday() % 7)
        return all(value in field for value, field in zip(values, fields, strict=True))

    first_minute = after_ms - after_ms % MINUTE_MS
    if wild:
        minutes = range(first_minute, until_ms + 1, MINUTE_MS)
        return [at_ms for at_ms in minutes if at_ms > after_ms and matches(clock(at_ms, zone))]
    day = clock(after_ms, zone).date() - timedelta(days=2)
    shown = datetime.combine(day, datetime.min.time())
    found = set()
    while shown.date() <= clock(until_ms, zone).date() + timedelta(days=1):
        if matches(shown):
            found.add(_first_instant(shown, zone))
        shown += timedelta(minutes=1)
    return sorted(at_ms for at_ms in found if after_ms < at_ms <= until_ms)


def _first_instant(shown: datetime, zone: ZoneInfo) -> int:
    """When the clock shows this first; where it skips it, the first minute after the skip."""
    while True:
        at = shown.replace(tzinfo=zone, fold=0)
        at_ms = round(at.timestamp() * 1000)
        if clock(at_ms, zone).replace(tzinfo=None) == shown:
            return at_ms
        shown += timedelta(minutes=1)


def changes(zone: ZoneInfo, first: date, last: date) -> list[int]:
    """The hours, as instants, within which the zone's offset changes."""
    hour = timedelta(hours=1)
    at, found = datetime.combine(first, datetime.min.time(), tzinfo=UTC), []
    while at.date() < last:
        if at.astimezone(zone).utcoffset() != (at + hour).astimezone(zone).utcoffset():
            found.append(round(at.timestamp() * 1000))
        at += hour
    return found
