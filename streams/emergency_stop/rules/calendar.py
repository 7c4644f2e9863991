"""Calendars of time-based triggers: a schedule names moments, quiet hours name spans of time.

Both follow the clocks of a time zone. A schedule treats daylight saving as Debian's cron does: a job at a
fixed time that falls into the hour that is skipped runs right after it, and does not run again in the hour
that is repeated; where minute or hour begins with ``*``, it follows the clock (but may miss moments of the two
days on which Australia/Lord_Howe changes its clocks by half an hour). Quiet hours are the instants at which
the clock shows a time within them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Final
from zoneinfo import ZoneInfo

import numpy as np
from cronsim import CronSim, CronSimError
from numpy.typing import NDArray

from emergency_stop.rules.zones import DAY_MS, INSTANT_MS_MAX, CalendarError, local_time, offset_spans, read_zone

MINUTE_MS: Final = 60_000
HOUR_MS: Final = 60 * MINUTE_MS
#: Schedules are asked for again at every tick.
_REMEMBERED: Final = 1_024
TIMES_MAX: Final = 1_000
TEXT_LENGTH_MAX: Final = 500
WEEK_DAYS: Final = 7
#: 1970-01-01 was a Thursday.
_EPOCH_WEEKDAY: Final = 3
_CRON_FIELDS: Final = {
    "minute": "0 to 59",
    "hour": "0 to 23",
    "day-of-month": "1 to 31 that the months have, L for the last day, LW for the last weekday",
    "month": "1 to 12 or JAN to DEC",
    "day-of-week": "0 to 7 or SUN to SAT, MON#2 for the second Monday, 5L for the last Friday",
}


@dataclass(frozen=True, slots=True)
class Schedule:
    """A cron expression in a time zone. Instants are whole seconds, in milliseconds since the epoch."""

    cron: str
    zone: ZoneInfo

    def next_after(self, at_ms: int) -> int:
        """The first moment later than ``at_ms``. Raises ``CalendarError`` where 50 years have none."""
        # In an hour that is repeated the library may answer with the moment's first occurrence.
        return next(moment for moment in self._moments(at_ms) if moment > at_ms)

    def times(self, after_ms: int, until_ms: int, count_max: int = TIMES_MAX) -> list[int]:
        """Every moment in (after_ms, until_ms], ascending; with ``count_max`` of them, ask again from the last."""
        found: list[int] = []
        latest_ms = after_ms
        for moment in self._moments(after_ms) if until_ms > after_ms else ():
            if moment > until_ms or len(found) == count_max:
                break
            if moment > latest_ms:  # two times of the hour that is skipped run as one, right after it
                found.append(moment)
                latest_ms = moment
        return found

    def latest(self, after_ms: int, until_ms: int) -> int | None:
        """The last moment in (after_ms, until_ms], however many there are; ``None`` where there is none."""
        span_ms = HOUR_MS
        while True:
            start_ms = max(after_ms, until_ms - span_ms)
            found = self.times(start_ms, until_ms, count_max=span_ms // MINUTE_MS + 1)
            if found or start_ms == after_ms or until_ms <= after_ms:
                return found[-1] if found else None
            span_ms *= 2

    def _moments(self, after_ms: int) -> Iterator[int]:
        """Moments in the order of the clock, from about ``after_ms`` on; for ever, or ``CalendarError``."""
        ticks = CronSim(self.cron, local_time(self.zone, min(max(after_ms, 0), INSTANT_MS_MAX)))
        for tick in ticks:
            yield round(tick.timestamp() * 1000)
        raise CalendarError("cron", self.cron, "has no moment within 50 years: no day is all that it asks for")


@lru_cache(maxsize=_REMEMBERED)
def parse_schedule(cron: str, time_zone: str = "UTC") -> Schedule:
    """Five fields: minute, hour, day of month, month, day of week. Raises ``CalendarError``.

    Where neither day field begins with ``*``, one of the two is enough, as in cron.
    """
    zone = read_zone(time_zone)
    _check_length("cron", cron)
    count = len(cron.split())
    if count != len(_CRON_FIELDS):
        raise CalendarError("cron", cron, f"has {count} fields; needs five: {', '.join(_CRON_FIELDS)}")
    try:
        CronSim(cron, datetime(2000, 1, 1))  # noqa: DTZ001  # only to see whether it can be read
    except CronSimError as error:
        name = str(error).removeprefix("Bad ")
        problem = f"{name} is wrong; allowed: {_CRON_FIELDS.get(name, 'numbers')}, and *, a-b, a,b, */n"
        raise CalendarError("cron", cron, problem) from None
    schedule = Schedule(cron, zone)
    schedule.next_after(0)
    return schedule


@dataclass(frozen=True, slots=True)
class QuietRange:
    """A span of the clock: from ``start_ms`` to before ``end_ms`` after midnight of ``weekdays`` (Monday is 0).

    ``end_ms`` beyond a day lies in the next one.
    """

    weekdays: frozenset[int]
    start_ms: int
    end_ms: int


@dataclass(frozen=True, slots=True)
class QuietHours:
    """Spans of the clock in a time zone."""

    ranges: tuple[QuietRange, ...]
    zone: ZoneInfo

    def intervals(self, first_ms: int, last_ms: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """(starts, ends) of every interval [start, end) of instants that has part in [first_ms, last_ms].

        Sorted, apart from each other, and whole, so an interval's start is the same whatever range asks for
        it; only hours that never end are cut, a week before and after. Nothing lies before 1970 or after 9998.
        """
        first_ms, last_ms = max(first_ms, 0), min(last_ms, INSTANT_MS_MAX)
        spans = offset_spans(
            self.zone, max(first_ms - _MARGIN_MS, 0), min(last_ms + _MARGIN_MS, INSTANT_MS_MAX)
        ) if first_ms <= last_ms else []  # fmt: skip
        found = sorted(piece for span in spans for piece in self._pieces(*span))
        touching = [(start, end) for start, end in _joined(found) if end > first_ms and start <= last_ms]
        table = np.array(touching, np.int64).reshape(-1, 2)
        return table[:, 0].copy(), table[:, 1].copy()

    def _pieces(self, from_ms: int, until_ms: int, offset_ms: int) -> list[tuple[int, int]]:
        """The parts of [from_ms, until_ms) that are quiet, while the clock is ``offset_ms`` ahead of UTC."""
        pieces = []
        for day in range((from_ms + offset_ms) // DAY_MS - 1, (until_ms + offset_ms) // DAY_MS + 1):
            midnight_ms = day * DAY_MS - offset_ms
            for one in self.ranges:
                start, end = max(midnight_ms + one.start_ms, from_ms), min(midnight_ms + one.end_ms, until_ms)
                if start < end and (day + _EPOCH_WEEKDAY) % WEEK_DAYS in one.weekdays:
                    pieces.append((start, end))
        return pieces


#: Longer than any hours last that end at all, so that those of a range's edges are seen whole.
_MARGIN_MS: Final = (WEEK_DAYS + 1) * DAY_MS


def _joined(pieces: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Sorted pieces, those that touch or overlap made one."""
    joined: list[tuple[int, int]] = []
    for start, end in pieces:
        if joined and start <= joined[-1][1]:
            joined[-1] = (joined[-1][0], max(joined[-1][1], end))
        else:
            joined.append((start, end))
    return joined


_WEEKDAYS: Final = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_DAY: Final = "|".join(_WEEKDAYS)
_TIME: Final = r"(\d{1,2}):(\d{2})"
_RANGE: Final = re.compile(rf"(?:({_DAY})(?:\s*-\s*({_DAY}))?\s+)?{_TIME}\s*-\s*{_TIME}", re.IGNORECASE | re.ASCII)
_FORM: Final = "write 22:00-07:00, or Mon-Fri 22:00-07:00, and a comma between several"


def parse_quiet_hours(text: str, time_zone: str = "UTC") -> QuietHours:
    """``22:00-07:00, Sat-Sun 00:00-24:00``; over midnight belongs to the day it starts on. Raises ``CalendarError``."""
    zone = read_zone(time_zone)
    _check_length("quiet hours", text)
    return QuietHours(tuple(_range(text, part.strip()) for part in text.split(",")), zone)


def _check_length(what: str, text: str) -> None:
    if len(text) > TEXT_LENGTH_MAX:
        raise CalendarError(what, text[:20] + "…", f"has {len(text)} characters; allowed: up to {TEXT_LENGTH_MAX}")


def _range(text: str, part: str) -> QuietRange:
    match = _RANGE.fullmatch(part)
    if match is None:
        raise CalendarError("quiet hours", text, f"{part!r} cannot be read; {_FORM}")
    first, last, *clock = match.groups()
    start_ms = _clock_ms(text, part, clock[0], clock[1])
    end_ms = _clock_ms(text, part, clock[2], clock[3])
    if start_ms in (end_ms, DAY_MS):
        raise CalendarError("quiet hours", text, f"{part!r} has no length; the whole day is 00:00-24:00")
    return QuietRange(_days(first, last), start_ms, end_ms if end_ms > start_ms else end_ms + DAY_MS)


def _clock_ms(text: str, part: str, hour: str, minute: str) -> int:
    value_ms = (int(hour) * 60 + int(minute)) * MINUTE_MS
    if int(minute) > 59 or value_ms > DAY_MS:  # noqa: PLR2004  # minutes of an hour
        raise CalendarError("quiet hours", text, f"{part!r} has {hour}:{minute}; allowed: 00:00 to 24:00")
    return value_ms


def _days(first: str | None, last: str | None) -> frozenset[int]:
    if first is None:
        return frozenset(range(WEEK_DAYS))
    start = _WEEKDAYS.index(first.lower())
    length = (_WEEKDAYS.index(last.lower()) - start) % WEEK_DAYS + 1 if last else 1
    return frozenset((start + day) % WEEK_DAYS for day in range(length))
