"""Calendars against naive clocks, at random instants and around every change of the clocks."""

from __future__ import annotations

import random
from datetime import UTC, date, datetime
from zoneinfo import ZoneInfo

import numpy as np
import pytest

from emergency_stop.rules.calendar import TIMES_MAX, QuietHours, parse_quiet_hours, parse_schedule
from emergency_stop.rules.zones import INSTANT_MS_MAX, CalendarError, read_zone
from tests.oracle.clocks import Span, changes, cron_times, is_quiet

HOUR_MS, DAY_MS = 3_600_000, 86_400_000
#: Clocks that change by an hour, by half of one, at midnight, in Ramadan, by two hours, by a day; and never.
ZONES = (
    "UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "America/Havana", "Africa/Cairo",
    "Africa/Casablanca", "Antarctica/Troll", "Pacific/Apia", "Asia/Kathmandu", "Atlantic/Azores",
)  # fmt: skip
WEEKDAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")


def at(text: str) -> int:
    return round(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp() * 1000)


def told(moments: list[int]) -> list[str]:
    return [datetime.fromtimestamp(moment / 1000, UTC).strftime("%m-%d %H:%M") for moment in moments]


def edges(quiet: QuietHours, first_ms: int, last_ms: int) -> list[tuple[str, str]]:
    starts, ends = quiet.intervals(first_ms, last_ms)
    return list(zip(told(starts.tolist()), told(ends.tolist()), strict=True))


# ---------------------------------------------------------------------------------------------- schedules


@pytest.mark.parametrize(
    ("cron", "zone", "after", "until", "expected"),
    [
        # Berlin skips 02:00 to 03:00 on 29 March 2026 (01:00 UTC), and repeats it on 25 October.
        ("30 2 * * *", "Europe/Berlin", "2026-03-28", "2026-03-31", ["03-28 01:30", "03-29 01:00", "03-30 00:30"]),
        ("0,30 2 * * *", "Europe/Berlin", "2026-03-29", "2026-03-29T23:00", ["03-29 01:00"]),
        ("30 2 * * *", "Europe/Berlin", "2026-10-24T12:00", "2026-10-26T12:00", ["10-25 00:30", "10-26 01:30"]),
        ("30 * * * *", "Europe/Berlin", "2026-10-25", "2026-10-25T02:00", ["10-25 00:30", "10-25 01:30"]),
        ("0 9 * * MON-FRI", "America/New_York", "2026-11-26", "2026-11-29T23:00", ["11-26 14:00", "11-27 14:00"]),
        ("0 0 29 2 *", "UTC", "2026-01-01", "2030-01-01", ["02-29 00:00"]),
        ("0 0 L * *", "UTC", "2026-01-01", "2026-03-01", ["01-31 00:00", "02-28 00:00"]),
    ],
)  # fmt: skip
def test_a_schedule_runs_when_the_clock_says_so(
    cron: str, zone: str, after: str, until: str, expected: list[str]
) -> None:
    assert told(parse_schedule(cron, zone).times(at(after), at(until))) == expected


def _field(rng: random.Random, low: int, high: int) -> tuple[str, set[int]]:
    """A cron field and the values that it means."""
    everything = set(range(low, high + 1))
    kind = rng.choice(("star", "one", "one", "list", "range", "step"))
    if kind == "star":
        return "*", everything
    if kind == "step":
        step = rng.randint(2, 20)
        return f"*/{step}", set(range(low, high + 1, step))
    if kind == "range":
        start, end = sorted(rng.sample(range(low, high + 1), 2))
        return f"{start}-{end}", set(range(start, end + 1))
    chosen = rng.sample(range(low, high + 1), 1 if kind == "one" else 3)
    return ",".join(map(str, chosen)), set(chosen)


@pytest.mark.parametrize("name", [zone for zone in ZONES if zone != "Australia/Lord_Howe"])
def test_schedules_run_as_a_naive_cron_over_changes_of_the_clocks(name: str) -> None:
    """Random minutes and hours of every day, a day before to a day after a change; the seed is in the name."""
    rng, zone = random.Random(name), ZoneInfo(name)
    moments = changes(zone, date(2010, 1, 1), date(2015, 1, 1)) or [at("2012-06-01")]
    for _ in range(12):
        (minute, minutes), (hour, hours) = _field(rng, 0, 59), _field(rng, 0, 23)
        fields = [minutes, hours, set(range(1, 32)), set(range(1, 13)), set(range(7))]
        cron, wild = f"{minute} {hour} * * *", minute.startswith("*") or hour.startswith("*")
        start = rng.choice(moments) - rng.randrange(DAY_MS)
        end = start + 2 * DAY_MS
        expected = cron_times(fields, wild, start, end, zone)
        schedule = parse_schedule(cron, name)
        assert schedule.times(start, end, count_max=10_000) == expected, (cron, start)
        asked = rng.randrange(start, end)
        assert schedule.latest(asked, end) == max((one for one in expected if one > asked), default=None), (cron, asked)
        later = [moment for moment in expected if moment > asked]
        if later:
            assert schedule.next_after(asked) == later[0], (cron, asked)


def test_a_fixed_time_in_lord_howe_is_right_over_its_half_hours() -> None:
    """Its clocks go from 02:00 to 02:30 on 4 October 2026, and from 02:00 back to 01:30 on 5 April."""
    assert told(parse_schedule("15 2 * * *", "Australia/Lord_Howe").times(at("2026-10-02"), at("2026-10-05"))) == [
        "10-02 15:45", "10-03 15:30", "10-04 15:15",
    ]  # fmt: skip
    assert told(parse_schedule("45 1 * * *", "Australia/Lord_Howe").times(at("2026-04-04"), at("2026-04-06"))) == [
        "04-04 14:45", "04-05 15:15",
    ]  # fmt: skip


def test_times_are_bounded_and_continue_from_the_last() -> None:
    schedule = parse_schedule("* * * * *")
    first = schedule.times(0, 10 * DAY_MS)
    assert len(first) == TIMES_MAX
    assert schedule.times(first[-1], 10 * DAY_MS)[0] == first[-1] + 60_000
    assert schedule.times(60_000, 60_000) == []
    assert schedule.times(60_000, 0) == []


def test_the_latest_of_many_moments_is_found_without_all_of_them() -> None:
    """Ten years of minutes that are asked for at once; and a year in which only its first day has any."""
    end = at("2026-11-25T12:00:30")
    assert parse_schedule("* * * * *").latest(end - 3_650 * DAY_MS, end) == at("2026-11-25T12:00")
    assert parse_schedule("* * 1 1 *").latest(at("2025-12-31"), end) == at("2026-01-01T23:59")
    assert parse_schedule("* * 1 1 *").latest(at("2026-01-02"), end) is None
    assert parse_schedule("* * * * *").latest(end, end) is None


def test_next_after_is_strictly_later() -> None:
    schedule = parse_schedule("0 12 * * *")
    noon = at("2026-11-25T12:00")
    assert schedule.next_after(noon - 1) == noon
    assert schedule.next_after(noon) == noon + DAY_MS


# -------------------------------------------------------------------------------------------- quiet hours


def _spans(rng: random.Random) -> tuple[str, list[Span]]:
    """Quiet hours as people write them, and what they mean."""
    texts, spans = [], []
    for _ in range(rng.randint(1, 3)):
        start, end = (f"{minute // 60:02}:{minute % 60:02}" for minute in rng.sample(range(1_440), 2))
        end = rng.choice((end, end, "24:00"))
        first, length = rng.randrange(7), rng.randint(1, 7)
        days = frozenset((first + day) % 7 for day in range(length))
        named = WEEKDAYS[first] if length == 1 else f"{WEEKDAYS[first]}-{WEEKDAYS[(first + length - 1) % 7]}"
        texts.append(f"{named} {start}-{end}")
        spans.append((days, start, end))
    return ", ".join(texts), spans


@pytest.mark.parametrize("name", ZONES)
def test_quiet_hours_hold_exactly_the_instants_whose_clock_is_within_them(name: str) -> None:
    """The seed is in the name. Instants near changes of the clocks, near edges, and anywhere from 1970 to 2040."""
    rng, zone = random.Random(name), ZoneInfo(name)
    moments = changes(zone, date(2010, 1, 1), date(2015, 1, 1)) or [at("2012-06-01")]
    for _ in range(25):
        text, spans = _spans(rng)
        quiet = parse_quiet_hours(text, name)
        near = rng.choice((rng.choice(moments), rng.randrange(at("2040-01-01"))))
        first, last = sorted(max(near + rng.randint(-2, 2) * DAY_MS + rng.randrange(HOUR_MS), 0) for _ in range(2))
        starts, ends = quiet.intervals(first, last)
        asked = {rng.randint(first, last) for _ in range(50)} | {first, last}
        asked |= {edge + shift for edge in (*starts.tolist(), *ends.tolist(), near) for shift in (-1, 0, 1)}
        for instant in sorted(one for one in asked if first <= one <= last):
            held = bool(np.any((starts <= instant) & (instant < ends)))
            assert held == is_quiet(instant, spans, zone), (text, instant)
        assert np.all(starts < ends)
        assert np.all(ends[:-1] < starts[1:])


def test_nights_are_shorter_and_longer_where_the_clocks_change() -> None:
    """In Berlin the night to 29 March 2026 lasts 8 hours, and the one to 25 October lasts 10."""
    quiet = parse_quiet_hours("22:00-07:00", "Europe/Berlin")
    assert edges(quiet, at("2026-03-28T12:00"), at("2026-03-30T12:00")) == [
        ("03-28 21:00", "03-29 05:00"), ("03-29 20:00", "03-30 05:00"),
    ]  # fmt: skip
    assert edges(quiet, at("2026-10-24T22:00"), at("2026-10-24T22:00")) == [("10-24 20:00", "10-25 06:00")]


def test_a_night_belongs_to_the_day_it_starts_on() -> None:
    """27 November 2026 is a Friday: its night is the last one of the week."""
    quiet = parse_quiet_hours("Mon-Fri 22:00-07:00")
    assert edges(quiet, at("2026-11-27"), at("2026-11-30T22:00")) == [
        ("11-26 22:00", "11-27 07:00"), ("11-27 22:00", "11-28 07:00"), ("11-30 22:00", "12-01 07:00"),
    ]  # fmt: skip


def test_an_interval_is_the_same_whatever_range_asks_for_it() -> None:
    quiet = parse_quiet_hours("Sat-Thu 00:00-24:00, Fri 01:00-24:00", "Europe/Berlin")
    inside = at("2026-11-25T12:00")
    narrow = edges(quiet, inside, inside)
    assert narrow == [("11-20 00:00", "11-26 23:00")]
    assert narrow[0] in edges(quiet, inside - 30 * DAY_MS, inside + 30 * DAY_MS)


def test_the_day_and_none_of_it() -> None:
    start, end = parse_quiet_hours("00:00-24:00").intervals(0, DAY_MS)
    assert start[0] == 0
    assert end[0] > DAY_MS
    for first, last in ((5, 4), (-DAY_MS, -1), (INSTANT_MS_MAX + 1, INSTANT_MS_MAX + DAY_MS)):
        assert parse_quiet_hours("00:00-24:00").intervals(first, last)[0].size == 0


# ------------------------------------------------------------------------------------------------ refusals


@pytest.mark.parametrize(
    ("cron", "words"),
    [
        ("", "has 0 fields; needs five: minute, hour"),
        ("* * * *", "has 4 fields"),
        ("* * * * * *", "has 6 fields"),
        ("60 * * * *", "minute is wrong; allowed: 0 to 59"),
        ("* 24 * * *", "hour is wrong; allowed: 0 to 23"),
        ("* * 0 * *", "day-of-month is wrong; allowed: 1 to 31"),
        ("0 0 30 2 *", "day-of-month is wrong"),
        ("* * * 13 *", "month is wrong; allowed: 1 to 12 or JAN to DEC"),
        ("* * * * 8", "day-of-week is wrong; allowed: 0 to 7"),
        ("* * * * MON#6", "day-of-week is wrong"),
        ("*/0 * * * *", "minute is wrong"),
        ("5-1 * * * *", "minute is wrong"),
        ("0 0 */30 2 1#5", "has no moment within 50 years"),
        ("9" * 400 + " * * * *", "minute is wrong"),
        ("1," * 300 + "1 * * * *", "has 609 characters; allowed: up to 500"),
    ],
)
def test_a_wrong_schedule_says_which_field_and_what_is_allowed(cron: str, words: str) -> None:
    with pytest.raises(CalendarError) as refused:
        parse_schedule(cron)
    assert words in refused.value.problem
    assert str(refused.value).startswith("cron=")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "cannot be read; write 22:00-07:00"),
        ("22-07", "cannot be read"),
        ("22:00-07:00;08:00-09:00", "cannot be read"),
        ("22:00-07:00,", "'' cannot be read"),
        ("Mon-Fry 22:00-07:00", "'Mon-Fry 22:00-07:00' cannot be read"),
        ("22:00-25:00", "has 25:00; allowed: 00:00 to 24:00"),
        ("22:60-23:00", "has 22:60"),
        ("24:01-07:00", "has 24:01"),
        ("22:00-22:00", "has no length; the whole day is 00:00-24:00"),
        ("24:00-07:00", "has no length"),
        ("22:00-07:00," * 50, "has 600 characters"),
    ],
)
def test_wrong_quiet_hours_say_which_part_and_what_is_allowed(text: str, words: str) -> None:
    with pytest.raises(CalendarError) as refused:
        parse_quiet_hours(text)
    assert words in refused.value.problem


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("Europe/Berln", "did you mean 'Europe/Berlin'?"),
        ("europe/berlin", "did you mean 'Europe/Berlin'?"),
        ("America/New York", "did you mean 'America/New_York'?"),
        ("utc", "did you mean 'UTC'?"),
        ("../../etc/passwd", "allowed: IANA names"),
        ("Europe", "allowed: IANA names"),
        ("", "allowed: IANA names"),
    ],
)
def test_an_unknown_time_zone_is_refused_with_the_nearest_name(name: str, words: str) -> None:
    with pytest.raises(CalendarError) as refused:
        read_zone(name)
    assert words in refused.value.problem


def test_no_text_does_anything_but_parse_or_raise_a_calendar_error() -> None:
    """20,000 texts of the grammars' own characters; seed 7."""
    rng, letters = random.Random(7), "0123456789*/-,#: LWMONFRIAJ²٣"
    for _ in range(20_000):
        text = "".join(rng.choices(letters, k=rng.randint(0, 24)))
        for parse in (parse_schedule, parse_quiet_hours):
            try:
                parse(text)
            except CalendarError:
                continue
